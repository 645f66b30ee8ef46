import { beforeEach, describe, expect, test } from "bun:test";
import type { KubeObject } from "../../api/meta.ts";
import { type Store, StoreFailure } from "../store/store.ts";
import type { Status } from "./status.ts";
import { gadget, makeTestServer, type TestServer } from "./testing.ts";

const shop = "/apis/test.weft.dev/v1/namespaces/shop/gadgets";
let server: TestServer;
beforeEach(() => {
  server = makeTestServer();
});

async function object(response: Response | Promise<Response>): Promise<KubeObject> {
  return (await (await response).json()) as KubeObject;
}

async function refusal(response: Response | Promise<Response>): Promise<Status> {
  const status = (await (await response).json()) as Status;
  expect(status).toMatchObject({ kind: "Status", apiVersion: "v1", status: "Failure" });
  expect((await response).status).toBe(status.code);
  return status;
}

async function items(path: string): Promise<string[]> {
  const list = (await (await server.ask("GET", path)).json()) as { items: KubeObject[] };
  return list.items.map((item) => `${item.metadata.namespace}/${item.metadata.name}`);
}

describe("create", () => {
  test("answers 201 with the object, defaults, identity and revision; get gives the same", async () => {
    const response = await server.ask("POST", shop, gadget("a", { note: "x" }, { labels: { app: "a" } }));
    expect(response.status).toBe(201);
    const made = await object(response);
    expect(made).toMatchObject({ apiVersion: "test.weft.dev/v1", kind: "Gadget", spec: { size: 1, note: "x" } });
    expect(made.metadata).toMatchObject({ name: "a", namespace: "shop", generation: 1, labels: { app: "a" } });
    expect(made.metadata.uid).toMatch(/^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
    expect(made.metadata.creationTimestamp).toMatch(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/);
    expect(await object(server.ask("GET", `${shop}/a`))).toEqual(made);
  });

  test("takes apiVersion and kind from the path where a typed client leaves them out", async () => {
    const made = await object(server.ask("POST", shop, { metadata: { name: "a" }, spec: {} }));
    expect(made).toMatchObject({ apiVersion: "test.weft.dev/v1", kind: "Gadget" });
  });

  test("makes the namespace with the first object in it, and a refused object makes none", async () => {
    await server.ask("POST", shop, gadget("bad", { nope: 1 }));
    expect((await server.ask("GET", "/api/v1/namespaces/shop")).status).toBe(404);
    await server.ask("POST", shop, gadget("a"));
    expect(await object(server.ask("GET", "/api/v1/namespaces/shop"))).toMatchObject({
      kind: "Namespace",
      metadata: { name: "shop" },
      status: { phase: "Active" },
    });
  });

  test("generateName makes a name of the prefix", async () => {
    const body = gadget("x");
    const { name: _, ...metadata } = body.metadata;
    const made = await object(server.ask("POST", shop, { ...body, metadata: { ...metadata, generateName: "load-" } }));
    expect(made.metadata.name).toMatch(/^load-[a-z0-9]{5}$/);
  });

  test("an existing name is 409 AlreadyExists", async () => {
    await server.ask("POST", shop, gadget("a"));
    expect(await refusal(server.ask("POST", shop, gadget("a")))).toMatchObject({
      code: 409,
      reason: "AlreadyExists",
      message: 'gadgets.test.weft.dev "a" already exists',
    });
  });

  test("what is wrong with an object is 422 Invalid with every path", async () => {
    const status = await refusal(server.ask("POST", shop, gadget("a", { sze: 1, color: "red" })));
    expect(status).toMatchObject({ code: 422, reason: "Invalid", details: { kind: "Gadget", group: "test.weft.dev", name: "a" } });
    expect(status.details?.causes).toEqual([
      { reason: "FieldValueInvalid", message: "unknown field", field: "spec.sze" },
      { reason: "FieldValueInvalid", message: "unknown field", field: "spec.color" },
    ]);
    expect(status.message).toBe('Gadget.test.weft.dev "a" is invalid: [spec.sze: unknown field, spec.color: unknown field]');
  });

  test("unknown fields are refused whatever fieldValidation says", async () => {
    for (const value of ["Strict", "Warn", "Ignore"]) {
      expect((await server.ask("POST", `${shop}?fieldValidation=${value}`, gadget("a", { sze: 1 }))).status).toBe(422);
    }
    expect(await refusal(server.ask("POST", `${shop}?fieldValidation=Lax`, gadget("a")))).toMatchObject({ code: 400 });
  });

  test("admission's conflicts are 422 and nothing is written", async () => {
    server = makeTestServer({
      admit: (candidate) => [{ path: "spec.size", message: `collides with gadget shop/other, as ${candidate.metadata.name} says` }],
    });
    const status = await refusal(server.ask("POST", shop, gadget("a")));
    expect(status.message).toContain("collides with gadget shop/other, as a says");
    expect(await items(shop)).toEqual([]);
  });

  test("status in the body is not taken: it is written through its subresource", async () => {
    const made = await object(server.ask("POST", shop, { ...gadget("a"), status: { phase: "Ready" } }));
    expect(made.status).toBeUndefined();
  });

  test("dryRun=All judges and answers, and stores nothing", async () => {
    expect((await server.ask("POST", `${shop}?dryRun=All`, gadget("a"))).status).toBe(201);
    expect((await server.ask("POST", `${shop}?dryRun=All`, gadget("a", { no: 1 }))).status).toBe(422);
    expect((await server.ask("GET", `${shop}/a`)).status).toBe(404);
    expect(await refusal(server.ask("POST", `${shop}?dryRun=some`, gadget("a")))).toMatchObject({
      code: 400,
      message: 'dryRun is "some"; only "All" is known',
    });
  });

  test.each<[string, unknown, RegExp]>([
    [
      "apiVersion of another kind",
      { ...gadget("a"), apiVersion: "v1" },
      /the object's apiVersion is "v1", but the path says "test\.weft\.dev\/v1"/,
    ],
    ["another kind", { ...gadget("a"), kind: "Service" }, /the object's kind is "Service", but the path says "Gadget"/],
    ["another namespace", gadget("a", {}, { namespace: "bank" }), /the object's namespace is "bank", but the path says "shop"/],
    ["a resourceVersion", gadget("a", {}, { resourceVersion: "3" }), /resourceVersion must not be set/],
    ["no metadata", { apiVersion: "test.weft.dev/v1", kind: "Gadget" }, /has no metadata/],
    ["a list", [], /the body is not an object/],
    ["nothing", "", /the body is empty/],
    ["cut-off JSON", '{"apiVersion":', /the body is not valid JSON/],
    [
      "a prototype",
      '{"apiVersion":"test.weft.dev/v1","kind":"Gadget","metadata":{"name":"a"},"spec":{"__proto__":{}}}',
      /"__proto__" is no field name/,
    ],
    ["a deep body", `${'{"a":'.repeat(200)}1${"}".repeat(200)}`, /nested deeper than 100 levels/],
  ])("%s is 400", async (_what, body, message) => {
    const status = await refusal(server.ask("POST", shop, body));
    expect(status).toMatchObject({ code: 400, reason: "BadRequest" });
    expect(status.message).toMatch(message);
  });

  test("YAML is taken, broken YAML and several documents are 400, other media types 415", async () => {
    const yaml = { "content-type": "application/yaml" };
    const text = "apiVersion: test.weft.dev/v1\nkind: Gadget\nmetadata: {name: a}\nspec: {size: 3}\n";
    expect((await object(server.ask("POST", shop, text, yaml))).spec).toEqual({ size: 3 });
    expect((await refusal(server.ask("POST", shop, "a: [1", yaml))).message).toMatch(/not valid YAML/);
    expect((await refusal(server.ask("POST", shop, `${text}---\n${text}`, yaml))).message).toMatch(/has 2 YAML documents; send one object/);
    const bomb = `a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\nd: [*c,*c,*c,*c,*c,*c,*c,*c,*c]\n`;
    expect((await refusal(server.ask("POST", shop, bomb, yaml))).code).toBe(400);
    expect(await refusal(server.ask("POST", shop, "x", { "content-type": "text/csv" }))).toMatchObject({
      code: 415,
      reason: "UnsupportedMediaType",
    });
  });

  test("bodies over 3 MiB and objects over 1.5 MiB are 413", async () => {
    const large = (size: number) => gadget("a", { note: "x".repeat(size) });
    expect(await refusal(server.ask("POST", shop, large(3 * 1024 * 1024)))).toMatchObject({ code: 413, reason: "RequestEntityTooLarge" });
    expect((await refusal(server.ask("POST", shop, large(2 * 1024 * 1024)))).message).toMatch(/the limit is 1572864/);
  });
});

describe("update", () => {
  test("with the newest resourceVersion works, with an old one is 409 Conflict", async () => {
    const made = await object(server.ask("POST", shop, gadget("a")));
    const changed = await object(server.ask("PUT", `${shop}/a`, { ...made, spec: { size: 2 } }));
    expect(changed.metadata.generation).toBe(2);
    expect(Number(changed.metadata.resourceVersion)).toBeGreaterThan(Number(made.metadata.resourceVersion));
    const status = await refusal(server.ask("PUT", `${shop}/a`, { ...made, spec: { size: 3 } }));
    expect(status).toMatchObject({ code: 409, reason: "Conflict" });
    expect(status.message).toMatch(/^Operation cannot be fulfilled on gadgets\.test\.weft\.dev "a": the object has been modified/);
  });

  test("without resourceVersion it is unconditional; labels do not grow the generation; the server's fields stay", async () => {
    const made = await object(server.ask("POST", shop, gadget("a")));
    const changed = await object(
      server.ask(
        "PUT",
        `${shop}/a`,
        gadget("a", { size: 1 }, { labels: { x: "y" }, generation: 77, creationTimestamp: "2001-01-01T00:00:00Z" }),
      ),
    );
    expect(changed.metadata).toMatchObject({
      generation: 1,
      labels: { x: "y" },
      uid: made.metadata.uid!,
      creationTimestamp: made.metadata.creationTimestamp!,
    });
  });

  test("that changes nothing does not bump the revision", async () => {
    const made = await object(server.ask("POST", shop, gadget("a", { size: 2 }, { labels: { a: "b" } })));
    const again = await object(
      server.ask("PUT", `${shop}/a`, gadget("a", { size: 2 }, { labels: { a: "b" }, annotations: {}, managedFields: [] })),
    );
    expect(again).toEqual(made);
    expect(await object(server.ask("PATCH", `${shop}/a`, { spec: { size: 2 } }, merge))).toEqual(made);
  });

  test("of another uid, another name or a missing object is refused", async () => {
    await server.ask("POST", shop, gadget("a"));
    expect(await refusal(server.ask("PUT", `${shop}/a`, gadget("a", {}, { uid: "1-2-3" })))).toMatchObject({
      code: 409,
      reason: "Conflict",
    });
    expect((await refusal(server.ask("PUT", `${shop}/a`, gadget("b")))).message).toMatch(/a name cannot be changed/);
    expect(await refusal(server.ask("PUT", `${shop}/b`, gadget("b")))).toMatchObject({
      code: 404,
      message: 'gadgets.test.weft.dev "b" not found',
    });
  });

  test("status and the rest are written apart", async () => {
    const made = await object(server.ask("POST", shop, gadget("a")));
    const withStatus = await object(server.ask("PUT", `${shop}/a/status`, { ...made, spec: { size: 99 }, status: { phase: "Ready" } }));
    expect(withStatus).toMatchObject({ spec: { size: 1 }, status: { phase: "Ready" }, metadata: { generation: 1 } });
    const changed = await object(server.ask("PUT", `${shop}/a`, gadget("a", { size: 2 })));
    expect(changed).toMatchObject({ spec: { size: 2 }, status: { phase: "Ready" } });
    const patched = await object(server.ask("PATCH", `${shop}/a/status`, { status: { phase: null, seen: 1 }, spec: { size: 5 } }, merge));
    expect(patched).toMatchObject({ spec: { size: 2 }, status: { seen: 1 } });
    expect(await object(server.ask("GET", `${shop}/a/status`))).toEqual(patched);
  });

  test("a write between read and write of an unconditional change is not lost", async () => {
    await server.ask("POST", shop, gadget("a"));
    const key = { resource: "gadgets.test.weft.dev", namespace: "shop", name: "a" };
    let interfered = false;
    const inner = server.store;
    const racing: Store = Object.assign(Object.create(inner) as Store, {
      get: inner.get.bind(inner),
      update: async (k: typeof key, o: KubeObject, expected: number) => {
        if (!interfered) {
          interfered = true;
          const now = (await inner.get(key)) as KubeObject;
          await inner.update(key, { ...now, status: { phase: "Ready" } }, undefined);
        }
        return inner.update(k, o, expected);
      },
    });
    server = makeTestServer({ store: racing });
    const patched = await object(server.ask("PATCH", `${shop}/a`, { spec: { size: 7 } }, merge));
    expect(patched).toMatchObject({ spec: { size: 7 }, status: { phase: "Ready" } });
  });
});

const merge = { "content-type": "application/merge-patch+json" };

describe("patch", () => {
  test("merge patch sets and removes, and refuses what it makes invalid", async () => {
    await server.ask("POST", shop, gadget("a", { size: 2, note: "x" }, { labels: { a: "1", b: "2" } }));
    const patched = await object(
      server.ask("PATCH", `${shop}/a`, { metadata: { labels: { a: null, c: "3" } }, spec: { note: null } }, merge),
    );
    expect(patched).toMatchObject({ metadata: { labels: { b: "2", c: "3" } }, spec: { size: 2 } });
    expect(patched.spec).toEqual({ size: 2 });
    expect((await server.ask("PATCH", `${shop}/a`, { spec: { siz: 2 } }, merge)).status).toBe(422);
  });

  test("an old resourceVersion inside a patch is a conflict", async () => {
    const made = await object(server.ask("POST", shop, gadget("a")));
    const precise = { metadata: { resourceVersion: made.metadata.resourceVersion }, spec: { size: 2 } };
    expect((await server.ask("PATCH", `${shop}/a`, precise, merge)).status).toBe(200);
    expect((await server.ask("PATCH", `${shop}/a`, { ...precise, spec: { size: 3 } }, merge)).status).toBe(409);
  });

  test("JSON patch", async () => {
    const jsonPatch = { "content-type": "application/json-patch+json" };
    await server.ask("POST", shop, gadget("a", { size: 2, list: [1, 2] }));
    const operations = [
      { op: "test", path: "/spec/size", value: 2 },
      { op: "replace", path: "/spec/size", value: 3 },
      { op: "add", path: "/spec/list/-", value: 9 },
      { op: "add", path: "/metadata/labels", value: { "a/b": "c" } },
      { op: "remove", path: "/spec/list/0" },
    ];
    expect(await object(server.ask("PATCH", `${shop}/a`, operations, jsonPatch))).toMatchObject({
      spec: { size: 3, list: [2, 9] },
      metadata: { labels: { "a/b": "c" } },
    });
    const status = await refusal(server.ask("PATCH", `${shop}/a`, operations, jsonPatch));
    expect(status.message).toBe('JSON patch, operation 0: the value at "/spec/size" is not the one tested for');
  });

  test("strategic merge is for built-in kinds", async () => {
    const strategic = { "content-type": "application/strategic-merge-patch+json" };
    await server.ask("POST", shop, gadget("a"));
    expect(await refusal(server.ask("PATCH", `${shop}/a`, {}, strategic))).toMatchObject({ code: 415, reason: "UnsupportedMediaType" });
    const services = "/api/v1/namespaces/shop/services";
    await server.ask("POST", services, {
      apiVersion: "v1",
      kind: "Service",
      metadata: { name: "s" },
      spec: { ports: [{ port: 80, name: "http" }] },
    });
    const patched = await object(server.ask("PATCH", `${services}/s`, { spec: { ports: [{ port: 81, name: "more" }] } }, strategic));
    expect(patched.spec).toEqual({
      ports: [
        { port: 80, name: "http" },
        { port: 81, name: "more" },
      ],
    });
  });
});

describe("delete", () => {
  test("answers Success with the uid; then 404", async () => {
    const made = await object(server.ask("POST", shop, gadget("a")));
    const answer = (await (
      await server.ask("DELETE", `${shop}/a`, { kind: "DeleteOptions", apiVersion: "v1", propagationPolicy: "Background" })
    ).json()) as Status;
    expect(answer).toMatchObject({ kind: "Status", status: "Success", details: { name: "a", kind: "gadgets", uid: made.metadata.uid! } });
    expect(await refusal(server.ask("DELETE", `${shop}/a`))).toMatchObject({ code: 404, reason: "NotFound" });
  });

  test("preconditions are kept", async () => {
    const made = await object(server.ask("POST", shop, gadget("a")));
    expect((await server.ask("DELETE", `${shop}/a`, { preconditions: { uid: "other" } })).status).toBe(409);
    expect((await server.ask("DELETE", `${shop}/a`, { preconditions: { resourceVersion: "1" } })).status).toBe(409);
    expect((await server.ask("DELETE", `${shop}/a?dryRun=All`)).status).toBe(200);
    const { uid, resourceVersion } = made.metadata;
    expect((await server.ask("DELETE", `${shop}/a`, { preconditions: { uid, resourceVersion } })).status).toBe(200);
  });

  test("of a namespace that is not empty is refused with what is in it", async () => {
    await server.ask("POST", shop, gadget("a"));
    await server.ask("POST", shop, gadget("b"));
    const status = await refusal(server.ask("DELETE", "/api/v1/namespaces/shop"));
    expect(status).toMatchObject({ code: 409, reason: "Conflict" });
    expect(status.message).toContain("the namespace is not empty; delete what is in it first (gadgets.test.weft.dev: a, b)");
    await server.ask("DELETE", shop);
    expect((await server.ask("DELETE", "/api/v1/namespaces/shop")).status).toBe(200);
  });

  test("a collection goes by selector", async () => {
    for (const name of ["a", "b", "c"]) await server.ask("POST", shop, gadget(name, {}, { labels: { app: name } }));
    const list = (await (await server.ask("DELETE", `${shop}?labelSelector=app in (a,b)`)).json()) as { kind: string; items: unknown[] };
    expect(list.kind).toBe("GadgetList");
    expect(list.items).toHaveLength(2);
    expect(await items(shop)).toEqual(["shop/c"]);
  });

  test("finalizers hold an object until the last one is gone", async () => {
    await server.ask("POST", shop, gadget("a", {}, { finalizers: ["test.weft.dev/hold"] }));
    const marked = await object(server.ask("DELETE", `${shop}/a`));
    expect(marked.metadata.deletionTimestamp).toBeDefined();
    expect(await object(server.ask("GET", `${shop}/a`))).toEqual(marked);
    expect((await server.ask("PATCH", `${shop}/a`, { metadata: { finalizers: null } }, merge)).status).toBe(200);
    expect((await server.ask("GET", `${shop}/a`)).status).toBe(404);
  });
});

describe("list", () => {
  beforeEach(async () => {
    for (const name of ["a", "b", "c", "d", "e"])
      await server.ask("POST", shop, gadget(name, {}, { labels: { app: name, team: name < "c" ? "red" : "blue" } }));
    await server.ask("POST", "/apis/test.weft.dev/v1/namespaces/bank/gadgets", gadget("z"));
  });

  test.each<[string, string[]]>([
    ["", ["a", "b", "c", "d", "e"]],
    ["labelSelector=team=red", ["a", "b"]],
    ["labelSelector=team==red,app!=a", ["b"]],
    ["labelSelector=team notin (red)", ["c", "d", "e"]],
    ["labelSelector=app in (a, e),team", ["a", "e"]],
    ["labelSelector=!team", []],
    ["fieldSelector=metadata.name=c", ["c"]],
    ["fieldSelector=metadata.name!=c,metadata.namespace=shop", ["a", "b", "d", "e"]],
  ])("selects %s", async (query, expected) => {
    expect(await items(`${shop}?${query}`)).toEqual(expected.map((name) => `shop/${name}`));
  });

  test("over all namespaces, and in another version", async () => {
    expect(await items("/apis/test.weft.dev/v1/gadgets")).toEqual(["bank/z", "shop/a", "shop/b", "shop/c", "shop/d", "shop/e"]);
    const beta = await object(server.ask("GET", "/apis/test.weft.dev/v1beta1/namespaces/shop/gadgets/a"));
    expect(beta.apiVersion).toBe("test.weft.dev/v1beta1");
    expect((await server.ask("PUT", "/apis/test.weft.dev/v1beta1/namespaces/shop/gadgets/a", { ...beta, spec: { size: 4 } })).status).toBe(
      200,
    );
    expect(await object(server.ask("GET", `${shop}/a`))).toMatchObject({ apiVersion: "test.weft.dev/v1", spec: { size: 4 } });
  });

  test("in chunks gives every object once", async () => {
    const seen: string[] = [];
    let token = "";
    const revisions = new Set<string>();
    do {
      const list = (await (await server.ask("GET", `/apis/test.weft.dev/v1/gadgets?limit=2&continue=${token}`)).json()) as {
        items: KubeObject[];
        metadata: { continue?: string; resourceVersion: string; remainingItemCount?: number };
      };
      seen.push(...list.items.map((item) => item.metadata.name));
      revisions.add(list.metadata.resourceVersion);
      token = list.metadata.continue ?? "";
      expect(list.metadata.remainingItemCount).toBe(seen.length < 6 ? 6 - seen.length : undefined);
      // A write between two chunks moves neither place nor revision.
      await server.ask("PATCH", `${shop}/a`, { metadata: { labels: { n: String(seen.length) } } }, merge);
    } while (token !== "");
    expect(seen).toEqual(["z", "a", "b", "c", "d", "e"]);
    expect(revisions.size).toBe(1);
  });

  test.each([
    ["labelSelector=a=b=c", /labelSelector: "a=b=c" is not understood/],
    [
      "fieldSelector=spec.size=1",
      /fieldSelector: "spec.size=1" is not supported; gadgets can be selected by metadata.name, metadata.namespace,/,
    ],
    ["limit=many", /limit is "many"/],
    ["continue=xyz", /continue is not a token/],
  ])("refuses %s with 400", async (query, message) => {
    const status = await refusal(server.ask("GET", `${shop}?${query}`));
    expect(status.code).toBe(400);
    expect(status.message).toMatch(message);
  });

  test("as Table with ages and columns, as PartialObjectMetadata, and 406 for what cannot be made", async () => {
    const table = { accept: "application/json;as=Table;v=v1;g=meta.k8s.io,application/json" };
    const answer = (await (await server.ask("GET", `${shop}?limit=1`, undefined, table)).json()) as {
      kind: string;
      columnDefinitions: { name: string; priority: number }[];
      rows: { cells: unknown[]; object: KubeObject }[];
      metadata: { continue: string };
    };
    expect(answer.kind).toBe("Table");
    expect(answer.columnDefinitions.map((column) => `${column.name} ${column.priority}`)).toEqual(["Name 0", "Size 0", "Note 1", "Age 0"]);
    expect(answer.rows[0]?.cells).toEqual(["a", 1, "", expect.stringMatching(/^\ds$/)]);
    expect(answer.rows[0]?.object).toMatchObject({ kind: "PartialObjectMetadata", metadata: { name: "a" } });
    expect(answer.metadata.continue).toBeString();
    const whole = (await (await server.ask("GET", `${shop}/a?includeObject=Object`, undefined, table)).json()) as typeof answer;
    expect(whole.rows[0]?.object).toMatchObject({ kind: "Gadget", spec: { size: 1 } });
    const partial = { accept: "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io" };
    expect(await (await server.ask("GET", shop, undefined, partial)).json()).toMatchObject({
      kind: "PartialObjectMetadataList",
      items: [{ kind: "PartialObjectMetadata" }, {}, {}, {}, {}],
    });
    expect(await refusal(server.ask("GET", shop, undefined, { accept: "application/vnd.kubernetes.protobuf" }))).toMatchObject({
      code: 406,
      reason: "NotAcceptable",
    });
  });

  test("an exact older revision is shown as it was, a compacted one is 410, a future one 504", async () => {
    const first = await object(server.ask("POST", shop, gadget("early", { size: 1 })));
    await server.ask("PUT", `${shop}/early`, gadget("early", { size: 9 }));
    await server.ask("POST", shop, gadget("late"));
    const at = (revision: string | number) => server.ask("GET", `${shop}?resourceVersion=${revision}&resourceVersionMatch=Exact`);
    const then = (await (await at(String(first.metadata.resourceVersion))).json()) as {
      items: KubeObject[];
      metadata: { resourceVersion: string };
    };
    expect(then.items.find((item) => item.metadata.name === "early")).toEqual(first);
    expect(then.items.map((item) => item.metadata.name)).not.toContain("late");
    expect(then.metadata.resourceVersion).toBe(String(first.metadata.resourceVersion));
    await server.store.compact(await server.store.revision());
    expect((await at(String(first.metadata.resourceVersion))).status).toBe(410);
    expect((await at(999)).status).toBe(504);
    expect((await at(0)).status).toBe(400);
    expect((await server.ask("GET", `${shop}?resourceVersionMatch=Exact`)).status).toBe(400);
    expect((await server.ask("GET", `${shop}?resourceVersion=999`)).status).toBe(504);
  });

  test("chunks are of one revision; when that is gone the next is 410 with a token to go on without it", async () => {
    for (const name of ["a1", "a2", "a3", "a4"]) await server.ask("POST", shop, gadget(name, { note: "chunk" }));
    type List = { items: KubeObject[]; metadata: { continue?: string; resourceVersion: string } };
    const page = (token = "") => server.ask("GET", `${shop}?limit=2&continue=${token}&labelSelector=`);
    const seen = (list: List) => list.items.map((item) => item.metadata.name);
    const first = (await (await page()).json()) as List;
    await server.ask("DELETE", `${shop}/a3`);
    await server.ask("POST", shop, gadget("a5"));
    await server.ask("PUT", `${shop}/a4`, gadget("a4", { note: "changed" }));
    const rest: List[] = [];
    for (let token = first.metadata.continue; token !== undefined; token = rest.at(-1)!.metadata.continue)
      rest.push((await (await page(token)).json()) as List);
    const all = [first, ...rest].flatMap(seen).filter((name) => name.startsWith("a"));
    expect(all).toEqual(expect.arrayContaining(["a1", "a2", "a3", "a4"]));
    expect(all).not.toContain("a5");
    expect(rest.flatMap((list) => list.items).find((item) => item.metadata.name === "a4")?.spec).toMatchObject({ note: "chunk" });
    expect(new Set([first, ...rest].map((list) => list.metadata.resourceVersion)).size).toBe(1);

    await server.store.compact(await server.store.revision());
    const gone = (await (await page(first.metadata.continue)).json()) as Status;
    expect(gone).toMatchObject({ code: 410, reason: "Expired" });
    const on = (await (await page(gone.metadata.continue)).json()) as List;
    expect(seen(on)).not.toContain(seen(first)[0]!);
    expect(on.metadata.resourceVersion).toBe(String(await server.store.revision()));
  });
});

describe("callers", () => {
  const none = { authorization: "" };
  const reviews = { authorization: "Bearer shop/reviews" };

  test("without credentials everything but the open paths is 401 with the reason", async () => {
    for (const path of ["/api", "/apis", shop, "/openapi/v2", "/openapi/v3", "/insight/x", "/nowhere", "/"]) {
      const response = await server.ask("GET", path, undefined, none);
      expect(response.headers.get("www-authenticate")).toBe('Bearer realm="weft"');
      expect(await refusal(response)).toMatchObject({
        code: 401,
        reason: "Unauthorized",
        message: "no valid credentials; ask the admin for a token",
      });
    }
    for (const path of ["/healthz", "/livez", "/readyz", "/version"])
      expect((await server.ask("GET", path, undefined, none)).status).toBe(200);
    expect((await server.ask("POST", "/healthz", "x", none)).status).toBe(405);
  });

  test("what a caller may not do is 403 with the reason", async () => {
    const status = await refusal(server.ask("GET", "/api/v1/namespaces", undefined, reviews));
    expect(status).toMatchObject({ code: 403, reason: "Forbidden" });
    expect(status.message).toBe("namespaces is forbidden: system:serviceaccount:shop:reviews may only touch gadgets of namespace shop");
    expect((await server.ask("GET", "/api", undefined, reviews)).status).toBe(403);
  });

  test("a permission narrowed to own objects covers them alone, by every verb", async () => {
    await server.ask("POST", shop, gadget("theirs", { note: "cart" }));
    expect((await server.ask("POST", shop, gadget("mine", { note: "reviews" }), reviews)).status).toBe(201);
    expect((await server.ask("POST", shop, gadget("other", { note: "cart" }), reviews)).status).toBe(403);
    const list = (await (await server.ask("GET", shop, undefined, reviews)).json()) as { items: KubeObject[] };
    expect(list.items.map((item) => item.metadata.name)).toEqual(["mine"]);
    for (const [method, body, headers] of [
      ["GET"],
      ["DELETE"],
      ["PUT", gadget("theirs", { note: "reviews" })],
      ["PATCH", { spec: { note: "reviews" } }, merge],
    ] as const) {
      const status = await refusal(server.ask(method, `${shop}/theirs`, body, { ...reviews, ...headers }));
      expect(status).toMatchObject({ code: 403 });
      expect(status.message).toContain('spec.note must be "reviews"');
    }
    expect((await server.ask("PATCH", `${shop}/mine`, { spec: { note: "cart" } }, { ...merge, ...reviews })).status).toBe(403);
    expect((await server.ask("PATCH", `${shop}/mine`, { spec: { size: 8 } }, { ...merge, ...reviews })).status).toBe(200);
    expect(((await (await server.ask("DELETE", shop, undefined, reviews)).json()) as { items: unknown[] }).items).toHaveLength(1);
    expect(await items(shop)).toEqual(["shop/theirs"]);
  });

  test("a caller known beforehand is not asked for credentials", async () => {
    const request = new Request(`https://weft${shop}`);
    const response = await server.api.handle(request, { timeout() {} }, { kind: "admin", user: "admin" });
    expect(response.status).toBe(200);
  });

  test("may ask what they may do, and who they are", async () => {
    const review = (attributes: Record<string, string>) => ({
      kind: "SelfSubjectAccessReview",
      apiVersion: "authorization.k8s.io/v1",
      spec: { resourceAttributes: attributes },
    });
    const path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
    const gadgets = { group: "test.weft.dev", resource: "gadgets", namespace: "shop" };
    expect(await (await server.ask("POST", path, review({ ...gadgets, verb: "delete" }), reviews)).json()).toMatchObject({
      status: { allowed: true, reason: 'as far as spec.note must be "reviews"' },
    });
    expect(await (await server.ask("POST", path, review({ ...gadgets, namespace: "bank", verb: "get" }), reviews)).json()).toMatchObject({
      status: { allowed: false },
    });
    expect(await (await server.ask("POST", path, review({ ...gadgets, verb: "*" }))).json()).toMatchObject({ status: { allowed: true } });
    expect(await (await server.ask("POST", path, review({ ...gadgets, verb: "hug" }))).json()).toMatchObject({
      status: { allowed: false },
    });
    const self = await server.ask(
      "POST",
      "/apis/authentication.k8s.io/v1/selfsubjectreviews",
      { kind: "SelfSubjectReview", apiVersion: "authentication.k8s.io/v1" },
      reviews,
    );
    expect(await self.json()).toMatchObject({ status: { userInfo: { username: "system:serviceaccount:shop:reviews" } } });
  });

  test("join tokens: the admin gets one, within limits; a workload does not", async () => {
    const path = "/api/v1/namespaces/shop/serviceaccounts/reviews/token";
    const request = (spec: Record<string, unknown>) => ({ kind: "TokenRequest", apiVersion: "authentication.k8s.io/v1", spec });
    const response = await server.ask("POST", path, request({}));
    expect(response.status).toBe(201);
    expect(await response.json()).toMatchObject({
      kind: "TokenRequest",
      spec: { expirationSeconds: 3600 },
      status: { token: "token-for-shop-reviews-3600" },
    });
    expect((await server.ask("POST", path)).status).toBe(201);
    for (const [spec, field] of [
      [{ expirationSeconds: 599 }, "spec.expirationSeconds"],
      [{ expirationSeconds: 86401 }, "spec.expirationSeconds"],
      [{ expirationSeconds: "1h" }, "spec.expirationSeconds"],
      [{ audiences: ["vault"] }, "spec.audiences"],
      [{ boundObjectRef: { kind: "Pod" } }, "spec.boundObjectRef"],
      [{ expiry: 1 }, "spec.expiry"],
    ] as const) {
      expect(await refusal(server.ask("POST", path, request(spec)))).toMatchObject({ code: 422, details: { causes: [{ field }] } });
    }
    expect((await server.ask("POST", path, request({}), reviews)).status).toBe(403);
    expect((await server.ask("GET", path)).status).toBe(405);
    expect((await server.ask("POST", "/api/v1/namespaces/Shop/serviceaccounts/reviews/token", request({}))).status).toBe(422);
  });
});

describe("paths and methods", () => {
  test.each<[string, number, RegExp]>([
    ["/apis/nope/v1/things", 404, /there is no API group "nope"; the groups are "" \(core\), test\.weft\.dev, weft\.dev/],
    ["/apis/test.weft.dev/v9/gadgets", 404, /API group "test\.weft\.dev" has no version "v9"; it has v1, v1beta1/],
    ["/apis/test.weft.dev/v1/widgets", 404, /test\.weft\.dev\/v1 has no "widgets"; it has gadgets/],
    ["/apis/test.weft.dev/v1/gadgets/a", 404, /gadgets live in namespaces/],
    ["/api/v1/namespaces/shop/namespaces/x", 404, /namespaces belong to no namespace/],
    [`${shop}/a/scale`, 404, /gadgets have no subresource "scale"/],
    [`${shop}/a/status/more`, 404, /no subresource/],
    ["/elsewhere", 404, /there is nothing at \/elsewhere/],
    ["/apis/test.weft.dev/v1/namespaces/%zz/gadgets", 400, /percent-encoded/],
  ])("%s is %d", async (path, code, message) => {
    const status = await refusal(server.ask("GET", path));
    expect(status.code).toBe(code);
    expect(status.message).toMatch(message);
  });

  test.each([
    ["PUT", shop],
    ["PATCH", shop],
    ["POST", `${shop}/a`],
    ["DELETE", `${shop}/a/status`],
    ["DELETE", "/apis/weft.dev/v1alpha1/namespaces/shop/proxies/p"],
    ["POST", "/apis/weft.dev/v1alpha1/namespaces/shop/proxies"],
  ])("%s %s is 405", async (method, path) => {
    expect(await refusal(server.ask(method, path, gadget("a")))).toMatchObject({ code: 405, reason: "MethodNotAllowed" });
  });

  test("extra routes are served after permission, and answer 404 when they have nothing", async () => {
    server = makeTestServer({
      routes: [
        {
          prefix: "/insight/",
          handle: (request, caller) => (request.url.endsWith("/graph") ? Response.json({ user: caller.user }) : undefined),
        },
      ],
    });
    expect(await (await server.ask("GET", "/insight/graph")).json()).toEqual({ user: "admin" });
    expect((await server.ask("GET", "/insight/nothing")).status).toBe(404);
    expect((await server.ask("GET", "/insight/graph", undefined, { authorization: "Bearer shop/reviews" })).status).toBe(403);
  });

  test("readyz says why not; version has the form kubectl reads", async () => {
    server = makeTestServer({ notReady: () => "the xDS port is not open yet" });
    const response = await server.ask("GET", "/readyz");
    expect(response.status).toBe(503);
    expect(await response.text()).toBe("not ready: the xDS port is not open yet\n");
    expect(await (await server.ask("GET", "/version")).json()).toMatchObject({
      major: "1",
      gitVersion: expect.stringMatching(/^v1\.\d+\.0\+weft\.0\.0\.0-test$/),
      weftVersion: "0.0.0-test",
    });
  });

  test("a store that fails is 503 with its message, a bug is 500 without details", async () => {
    const failing = Object.assign(Object.create(server.store) as Store, {
      create: () => Promise.reject(new StoreFailure("the disk that holds weft.db is full; nothing was written.")),
      get: async () => undefined,
    });
    server = makeTestServer({ store: failing });
    expect(await refusal(server.ask("POST", shop, gadget("a")))).toMatchObject({
      code: 503,
      reason: "ServiceUnavailable",
      message: expect.stringContaining("is full"),
    });
    const logged: unknown[] = [];
    const log = { debug() {}, info() {}, warn() {}, error: (fields: unknown) => void logged.push(fields) };
    server = makeTestServer({ log, admit: () => Promise.reject(new TypeError("secret inner state")) });
    const status = await refusal(server.ask("POST", shop, gadget("a")));
    expect(status).toMatchObject({ code: 500, reason: "InternalError" });
    expect(status.message).not.toContain("secret");
    expect(logged).toHaveLength(1);
    // The lock is free again.
    expect((await server.ask("GET", shop)).status).toBe(200);
    expect((await server.ask("DELETE", `${shop}/a`)).status).toBe(404);
  });

  test("writes are judged one at a time: of two that collide one is refused", async () => {
    const admitted = new Set<unknown>();
    server = makeTestServer({
      admit: async (candidate) => {
        const size = (candidate.spec as { size: number }).size;
        await Bun.sleep(1);
        const listed = await server.store.list("gadgets.test.weft.dev");
        admitted.add(size);
        return listed.items.some((item) => (item.spec as { size: number }).size === size)
          ? [{ path: "spec.size", message: `${size} is taken` }]
          : [];
      },
    });
    const codes = await Promise.all(
      ["a", "b", "c"].map(async (name) => (await server.ask("POST", shop, gadget(name, { size: 5 }))).status),
    );
    expect(codes.sort((a, b) => a - b)).toEqual([201, 422, 422]);
  });
});

describe("discovery", () => {
  test("plain", async () => {
    expect(await (await server.ask("GET", "/api")).json()).toMatchObject({ kind: "APIVersions", versions: ["v1"] });
    const groups = (await (await server.ask("GET", "/apis")).json()) as {
      groups: { name: string; preferredVersion: { version: string } }[];
    };
    expect(groups.groups.map((group) => `${group.name} ${group.preferredVersion.version}`)).toEqual([
      "test.weft.dev v1",
      "weft.dev v1alpha1",
      "authentication.k8s.io v1",
      "authorization.k8s.io v1",
    ]);
    expect(await (await server.ask("GET", "/apis/test.weft.dev")).json()).toMatchObject({
      kind: "APIGroup",
      versions: [{ version: "v1" }, { version: "v1beta1" }],
    });
    const list = (await (await server.ask("GET", "/apis/test.weft.dev/v1")).json()) as { resources: Record<string, unknown>[] };
    expect(list.resources).toEqual([
      {
        name: "gadgets",
        singularName: "gadget",
        namespaced: true,
        kind: "Gadget",
        verbs: ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"],
        shortNames: ["gd"],
        categories: ["all"],
      },
      { name: "gadgets/status", singularName: "", namespaced: true, kind: "Gadget", verbs: ["get", "patch", "update"] },
    ]);
    expect((await server.ask("GET", "/apis/test.weft.dev/v7")).status).toBe(404);
  });

  test("aggregated", async () => {
    const accept =
      "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList,application/json";
    const response = await server.ask("GET", "/apis", undefined, { accept });
    expect(response.headers.get("content-type")).toBe("application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList");
    const list = (await response.json()) as {
      kind: string;
      items: { metadata: { name: string }; versions: { version: string; resources: unknown[] }[] }[];
    };
    expect(list.kind).toBe("APIGroupDiscoveryList");
    expect(list.items[0]).toMatchObject({
      metadata: { name: "test.weft.dev" },
      versions: [{ version: "v1", freshness: "Current" }, { version: "v1beta1" }],
    });
    expect(list.items[0]?.versions[0]?.resources[0]).toMatchObject({
      resource: "gadgets",
      scope: "Namespaced",
      responseKind: { kind: "Gadget" },
      subresources: [{ subresource: "status" }],
    });
    const core = (await (await server.ask("GET", "/api", undefined, { accept })).json()) as typeof list;
    expect(core.items[0]?.versions[0]?.resources).toHaveLength(2);
  });

  test("OpenAPI names every kind with the parameters kubectl looks for", async () => {
    const index = (await (await server.ask("GET", "/openapi/v3")).json()) as { paths: Record<string, { serverRelativeURL: string }> };
    expect(Object.keys(index.paths)).toEqual(["api/v1", "apis/test.weft.dev/v1", "apis/test.weft.dev/v1beta1", "apis/weft.dev/v1alpha1"]);
    const document = (await (await server.ask("GET", index.paths["apis/test.weft.dev/v1"]!.serverRelativeURL)).json()) as {
      paths: Record<string, { patch?: { parameters: { name: string }[] } }>;
    };
    const patch = document.paths["/apis/test.weft.dev/v1/namespaces/{namespace}/gadgets/{name}"]?.patch;
    expect(patch?.parameters.map((parameter) => parameter.name)).toEqual(["dryRun", "fieldManager", "fieldValidation", "force"]);
    expect((await server.ask("GET", "/openapi/v3/apis/nope/v1")).status).toBe(404);
    const protobuf = await server.ask("GET", "/openapi/v2", undefined, {
      accept: "application/com.github.proto-openapi.spec.v2@v1.0+protobuf",
    });
    expect(protobuf.headers.get("content-type")).toBe("application/com.github.proto-openapi.spec.v2.v1.0+protobuf");
    expect(Buffer.from(await protobuf.arrayBuffer()).toString("latin1")).toStartWith("\n\u00032.0");
  });
});

describe("reviews", () => {
  const ask = (path: string, spec: unknown, headers: Record<string, string> = {}) => server.ask("POST", path, { spec }, headers);
  const authorization = "/apis/authorization.k8s.io/v1";
  const tokens = "/apis/authentication.k8s.io/v1/tokenreviews";
  const workload = { authorization: "Bearer shop/reviews" };
  const status = async (response: Response | Promise<Response>) =>
    ((await (await response).json()) as { status: Record<string, unknown> }).status;

  test("tell what somebody may do: the caller, all of it, or somebody else", async () => {
    const rules = await status(ask(`${authorization}/selfsubjectrulesreviews`, { namespace: "shop" }, workload));
    expect(rules.resourceRules).toEqual([
      {
        verbs: ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"],
        apiGroups: ["test.weft.dev"],
        resources: ["gadgets"],
      },
      { verbs: ["get", "patch", "update"], apiGroups: ["test.weft.dev"], resources: ["gadgets/status"] },
    ]);
    expect(rules.nonResourceRules).toEqual([]);
    expect((await ask(`${authorization}/selfsubjectrulesreviews`, {})).status).toBe(400);
    const resourceAttributes = { verb: "get", group: "test.weft.dev", resource: "gadgets", namespace: "shop" };
    const about = (user: string, namespace = "shop") =>
      status(ask(`${authorization}/subjectaccessreviews`, { user, resourceAttributes: { ...resourceAttributes, namespace } }));
    expect(await about("system:serviceaccount:shop:reviews")).toMatchObject({ allowed: true });
    expect(await about("system:serviceaccount:shop:reviews", "bank")).toMatchObject({ allowed: false });
    expect(await about("jane")).toMatchObject({ allowed: false, reason: "jane may do nothing here" });
    expect(await about("")).toMatchObject({ allowed: false, reason: '"" is nobody' });
    const local = `${authorization}/namespaces/shop/localsubjectaccessreviews`;
    expect(await status(ask(local, { user: "admin", resourceAttributes }))).toMatchObject({ allowed: true });
    expect((await ask(local, { user: "admin", resourceAttributes: { ...resourceAttributes, namespace: "bank" } })).status).toBe(400);
    expect((await ask(`${authorization}/subjectaccessreviews`, { user: "admin", resourceAttributes }, workload)).status).toBe(403);
  });

  test("tell whose token one is, to the administrator alone, and never give it back", async () => {
    const answer = await ask(tokens, { token: "shop/reviews" });
    const text = await answer.text();
    expect(JSON.parse(text)).toMatchObject({
      status: { authenticated: true, user: { username: "system:serviceaccount:shop:reviews" }, audiences: ["weft"] },
    });
    expect(text).not.toContain('"shop/reviews"');
    expect(await status(ask(tokens, { token: "rubbish" }))).toMatchObject({ authenticated: false });
    expect(await status(ask(tokens, { token: "shop/reviews", audiences: ["vault"] }))).toMatchObject({ authenticated: false });
    expect((await ask(tokens, { token: "shop/reviews" }, workload)).status).toBe(403);
  });

  test("acting as somebody else takes the administrator, and gives no more than that somebody has", async () => {
    const as = (user: string, more: Record<string, string> = {}) =>
      server.ask("GET", "/api/v1/namespaces", undefined, { "impersonate-user": user, ...more });
    expect((await as("admin")).status).toBe(200);
    expect((await as("system:serviceaccount:shop:reviews")).status).toBe(403);
    expect(await refusal(as("jane"))).toMatchObject({ code: 403, message: "namespaces is forbidden: jane may do nothing here" });
    expect((await as("jane", { "impersonate-group": "system:masters" })).status).toBe(200);
    expect((await as("jane", { "impersonate-uid": "1" })).status).toBe(400);
    expect((await as("admin", workload)).status).toBe(403);
    expect((await server.ask("GET", "/api/v1/namespaces", undefined, { "impersonate-group": "system:masters" })).status).toBe(403);
  });
});
