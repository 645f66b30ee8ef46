import { beforeEach, describe, expect, test } from "bun:test";
import { kinds } from "../../api/kinds.ts";
import type { KubeObject } from "../../api/meta.ts";
import type { ManagedFieldsEntry } from "../fieldmanager/managers.ts";
import type { Status } from "./status.ts";
import { makeTestServer, type TestServer } from "./testing.ts";

const services = "/api/v1/namespaces/shop/services";
const routes = "/apis/gateway.networking.k8s.io/v1/namespaces/shop/httproutes";
let server: TestServer;
beforeEach(() => {
  server = makeTestServer({ kinds });
});

interface Port {
  name?: string;
  port: number;
  targetPort?: number | string;
  protocol?: string;
}

const service = (ports: Port[], metadata: Record<string, unknown> = {}, spec: Record<string, unknown> = {}) => ({
  apiVersion: "v1",
  kind: "Service",
  metadata: { name: "cart", ...metadata },
  spec: { ports, ...spec },
});

function apply(manager: string, body: unknown, query = "", path = `${services}/cart`): Promise<Response> {
  return server.ask("PATCH", `${path}?fieldManager=${manager}${query}`, JSON.stringify(body), {
    "content-type": "application/apply-patch+yaml",
  });
}

async function applied(...args: Parameters<typeof apply>): Promise<KubeObject> {
  const response = await apply(...args);
  const body = (await response.json()) as KubeObject & Status;
  if (!response.ok) throw new Error(body.message);
  return body;
}

async function refused(response: Promise<Response>): Promise<Status> {
  const body = (await (await response).json()) as Status;
  expect(body.status).toBe("Failure");
  return body;
}

const entries = (object: KubeObject) => (object.metadata.managedFields ?? []) as ManagedFieldsEntry[];
const fieldsOf = (object: KubeObject, manager: string) => entries(object).find((each) => each.manager === manager)?.fieldsV1;
const ports = (object: KubeObject) => (object.spec as { ports: Port[] }).ports;

describe("server-side apply", () => {
  test("two who apply the same list without its defaults have no conflict, until one changes it", async () => {
    const route = (weight?: number) => ({
      apiVersion: "gateway.networking.k8s.io/v1",
      kind: "HTTPRoute",
      metadata: { name: "cart" },
      spec: {
        parentRefs: [{ group: "", kind: "Service", name: "cart" }],
        rules: [{ backendRefs: [{ name: "cart", port: 80, ...(weight !== undefined && { weight }) }] }],
      },
    });
    const at = `${routes}/cart`;
    const made = await applied("one", route(), "", at);
    await applied("two", route(), "", at);
    const again = await applied("one", route(), "", at);
    expect(again.metadata.resourceVersion).not.toBe(made.metadata.resourceVersion);
    expect((await applied("one", route(), "", at)).metadata.resourceVersion).toBe(again.metadata.resourceVersion);
    expect((await refused(apply("one", route(5), "", at))).message).toContain('conflict with "two": .spec.rules');
  });

  test("creates with 201 and says who manages what, in FieldsV1; again it changes nothing", async () => {
    const response = await apply("ci", service([{ name: "http", port: 80 }], { labels: { app: "cart" } }, { selector: { app: "cart" } }));
    expect(response.status).toBe(201);
    const made = (await response.json()) as KubeObject;
    expect(entries(made)).toEqual([
      {
        manager: "ci",
        operation: "Apply",
        apiVersion: "v1",
        time: made.metadata.creationTimestamp as string,
        fieldsType: "FieldsV1",
        fieldsV1: {
          "f:metadata": { "f:labels": { "f:app": {} } },
          "f:spec": { "f:ports": { 'k:{"port":80,"protocol":"TCP"}': { ".": {}, "f:name": {}, "f:port": {} } }, "f:selector": {} },
        },
      },
    ]);
    expect(ports(made)).toEqual([{ name: "http", port: 80, targetPort: 80, protocol: "TCP" }]);
    const again = await applied("ci", service([{ name: "http", port: 80 }], { labels: { app: "cart" } }, { selector: { app: "cart" } }));
    expect(again).toEqual(made);
  });

  test("two managers own ports of one list, each its own; what one says no more goes, the other's stays", async () => {
    await applied("a", service([{ name: "http", port: 80 }]));
    const both = await applied("b", service([{ name: "admin", port: 81 }]));
    expect(ports(both).map((port) => port.port)).toEqual([80, 81]);
    const left = await applied("b", service([{ name: "metrics", port: 82 }]));
    expect(ports(left).map((port) => port.port)).toEqual([80, 82]);
    expect(fieldsOf(left, "b")).toEqual({
      "f:spec": { "f:ports": { 'k:{"port":82,"protocol":"TCP"}': { ".": {}, "f:name": {}, "f:port": {} } } },
    });
    const none = await applied("b", { apiVersion: "v1", kind: "Service", metadata: { name: "cart" } });
    expect(ports(none).map((port) => port.port)).toEqual([80]);
    expect(entries(none).map((each) => each.manager)).toEqual(["a"]);
  });

  test("another's value is a conflict, named as kubectl prints it; force takes it over", async () => {
    await applied("a", service([{ name: "http", port: 80, targetPort: 8080 }]));
    const one = await refused(apply("b", service([{ port: 80, targetPort: 9090 }])));
    expect(one).toMatchObject({ code: 409, reason: "Conflict" });
    expect(one.message).toBe('Apply failed with 1 conflict: conflict with "a": .spec.ports[port=80,protocol="TCP"].targetPort');
    expect(one.details?.causes).toEqual([
      { reason: "FieldManagerConflict", message: 'conflict with "a"', field: '.spec.ports[port=80,protocol="TCP"].targetPort' },
    ]);
    const two = await refused(apply("b", service([{ name: "web", port: 80, targetPort: 9090 }])));
    expect(two.message).toBe(
      'Apply failed with 2 conflicts: conflicts with "a":\n- .spec.ports[port=80,protocol="TCP"].name\n- .spec.ports[port=80,protocol="TCP"].targetPort',
    );
    const forced = await applied("b", service([{ port: 80, targetPort: 9090 }]), "&force=true");
    expect(ports(forced)).toEqual([{ name: "http", port: 80, targetPort: 9090, protocol: "TCP" }]);
    expect(fieldsOf(forced, "a")).toEqual({
      "f:spec": { "f:ports": { 'k:{"port":80,"protocol":"TCP"}': { ".": {}, "f:name": {}, "f:port": {} } } },
    });
    expect((await refused(apply("a", service([{ name: "http", port: 80, targetPort: 8080 }])))).message).toContain('conflict with "b"');
  });

  test("the same value is shared; a field goes only when its last owner lets go of it", async () => {
    const labels = { tier: "web" };
    await applied("a", service([{ port: 80 }], { labels }));
    await applied("b", service([{ port: 80 }], { labels }));
    const one = await applied("a", service([{ port: 80 }]));
    expect(one.metadata.labels).toEqual(labels);
    const gone = await applied("b", service([{ port: 80 }]));
    expect(gone.metadata.labels).toBeUndefined();
  });

  test("an atomic map has one owner, a granular one an owner for each key", async () => {
    await applied("a", service([{ port: 80 }], { labels: { a: "1" } }, { selector: { app: "cart" } }));
    const shared = await applied("b", service([{ port: 80 }], { labels: { b: "1" } }));
    expect(shared.metadata.labels).toEqual({ a: "1", b: "1" });
    expect((await refused(apply("b", service([{ port: 80 }], {}, { selector: { version: "v1" } })))).message).toBe(
      'Apply failed with 1 conflict: conflict with "a": .spec.selector',
    );
  });

  test("what was written otherwise belongs to its writer, by name or by User-Agent", async () => {
    await server.ask("POST", services, service([{ name: "http", port: 80 }]), { "user-agent": "operator/1.2 (linux) x" });
    const put = (name: string, query = "") => server.ask("PUT", `${services}/cart${query}`, service([{ name, port: 80 }]));
    await put("web", "?fieldManager=by-hand");
    const now = (await (await server.ask("GET", `${services}/cart`)).json()) as KubeObject;
    expect(
      entries(now)
        .map((each) => `${each.manager} ${each.operation}`)
        .sort(),
    ).toEqual(["by-hand Update", "operator Update"]);
    expect(fieldsOf(now, "by-hand")).toEqual({ "f:spec": { "f:ports": { 'k:{"port":80,"protocol":"TCP"}': { "f:name": {} } } } });
    const conflict = await refused(apply("ci", service([{ name: "http", port: 80 }])));
    expect(conflict.message).toBe(
      'Apply failed with 1 conflict: conflict with "by-hand" using v1: .spec.ports[port=80,protocol="TCP"].name',
    );
  });

  test("an object from before there was tracking belongs to before-first-apply", async () => {
    await server.store.create({ resource: "services", namespace: "shop", name: "cart" }, {
      ...service([{ name: "http", port: 80, targetPort: 80, protocol: "TCP" }], {
        namespace: "shop",
        uid: "u",
        creationTimestamp: "2026-01-01T00:00:00Z",
      }),
    } as unknown as KubeObject);
    // Ordinary writes do not begin it.
    const patched = await server.ask(
      "PATCH",
      `${services}/cart`,
      { metadata: { labels: { a: "b" } } },
      { "content-type": "application/merge-patch+json" },
    );
    expect(entries((await patched.json()) as KubeObject)).toEqual([]);
    expect((await refused(apply("ci", service([{ name: "web", port: 80 }])))).message).toContain(
      'conflict with "before-first-apply" using v1',
    );
    const now = await applied("ci", service([{ name: "http", port: 80 }]));
    expect(entries(now).map((each) => each.manager)).toEqual(["ci", "before-first-apply"]);
  });

  test("kubectl moving from its client-side apply has no conflict with itself, and with others it has", async () => {
    const wanted = service([{ name: "http", port: 80 }]);
    const annotations = { "kubectl.kubernetes.io/last-applied-configuration": JSON.stringify(wanted) };
    await server.ask("POST", `${services}?fieldManager=kubectl-client-side-apply`, service([{ name: "http", port: 80 }], { annotations }));
    expect(ports(await applied("kubectl", service([{ name: "web", port: 80 }])))[0]?.name).toBe("web");
    const hand = { "content-type": "application/json-patch+json" };
    await server.ask("PATCH", `${services}/cart?fieldManager=hand`, [{ op: "replace", path: "/spec/ports/0/targetPort", value: 99 }], hand);
    expect((await refused(apply("kubectl", service([{ name: "web", port: 80, targetPort: 1 }])))).message).toContain(
      'conflict with "hand" using v1',
    );
  });

  test("managedFields can be given up by who writes the object, but not forged into nonsense", async () => {
    const made = await applied("a", service([{ port: 80 }]));
    const json = { "content-type": "application/json-patch+json" };
    const patch = (value: unknown) =>
      server.ask("PATCH", `${services}/cart`, [{ op: "replace", path: "/metadata/managedFields", value }], json);
    expect(entries((await (await patch([{ manager: 1 }])).json()) as KubeObject)).toEqual(entries(made));
    expect(entries((await (await patch([])).json()) as KubeObject)).toEqual(entries(made));
    const renamed = entries(made).map((entry) => ({ ...entry, manager: "other" }));
    expect(entries((await (await patch(renamed)).json()) as KubeObject).map((each) => each.manager)).toEqual(["other"]);
    expect(entries((await (await patch([{}])).json()) as KubeObject)).toEqual([]);
  });

  test("status is applied to its own endpoint, and neither side touches the other", async () => {
    const parentRefs = [{ group: "", kind: "Service", name: "cart" }];
    const route = { apiVersion: "gateway.networking.k8s.io/v1", kind: "HTTPRoute", metadata: { name: "cart" } };
    const condition = { type: "Ready", status: "True", reason: "Ok", message: "", lastTransitionTime: "2026-01-01T00:00:00Z" };
    await applied("a", { ...route, spec: { parentRefs }, status: { conditions: [condition] } }, "", `${routes}/cart`);
    const status = await applied(
      "b",
      { ...route, spec: { parentRefs: [] }, status: { conditions: [condition] } },
      "",
      `${routes}/cart/status`,
    );
    expect(status.status).toEqual({ conditions: [condition] });
    expect((status.spec as { parentRefs: unknown[] }).parentRefs).toHaveLength(1);
    expect(entries(status).map(({ manager, subresource }) => [manager, subresource])).toEqual([
      ["a", undefined],
      ["b", "status"],
    ]);
    const other = await refused(
      apply("c", { ...route, status: { conditions: [{ ...condition, status: "False" }] } }, "", `${routes}/cart/status`),
    );
    expect(other.message).toBe(
      'Apply failed with 1 conflict: conflict with "b" with subresource "status": .status.conditions[type="Ready"].status',
    );
  });

  test("is refused without a manager, with managedFields, over another resourceVersion, with unknown fields, or with a wrong name", async () => {
    expect(await refused(apply("", service([{ port: 80 }])))).toMatchObject({ code: 422 });
    expect((await refused(apply("a", service([{ port: 80 }], { managedFields: [] })))).message).toContain("managedFields must be nil");
    expect(await refused(apply("a", service([{ port: 80 }], { name: "other" })))).toMatchObject({ code: 400 });
    expect(await refused(apply("a", service([{ port: 80 }], { resourceVersion: "5" })))).toMatchObject({ code: 404 });
    await applied("a", service([{ port: 80 }]));
    expect(await refused(apply("a", service([{ port: 80 }], { resourceVersion: "1" })))).toMatchObject({ code: 409 });
    expect((await refused(apply("a", service([{ port: 80 }], {}, { surprise: 1 })))).message).toContain('unknown field "surprise"');
    const forceless = await server.ask("PATCH", `${services}/cart?force=true`, {}, { "content-type": "application/merge-patch+json" });
    expect(forceless.status).toBe(400);
  });

  test("takes YAML, and YAML that begins like JSON", async () => {
    const send = (text: string) =>
      server.ask("PATCH", `${services}/cart?fieldManager=a`, text, { "content-type": "application/apply-patch+yaml" });
    for (const text of [
      "apiVersion: v1\nkind: Service\nmetadata: {name: cart}\nspec: {ports: [{port: 80}]}\n",
      "{apiVersion: v1, kind: Service, metadata: {name: cart}, spec: {ports: [{port: 80}]}}",
    ])
      expect((await send(text)).ok).toBe(true);
    expect((await send("{apiVersion: v1")).status).toBe(400);
    expect((await send('{"__proto__": {}}')).status).toBe(400);
  });

  test("dry run shows the outcome, conflicts included, and stores nothing", async () => {
    expect(ports(await applied("a", service([{ port: 80 }]), "&dryRun=All"))).toHaveLength(1);
    expect((await server.ask("GET", `${services}/cart`)).status).toBe(404);
    await applied("a", service([{ name: "http", port: 80 }]));
    expect(await refused(apply("b", service([{ name: "web", port: 80 }]), "&dryRun=All"))).toMatchObject({ code: 409 });
  });

  test("many writers are told together once there are more than ten", async () => {
    await applied("a", service([{ port: 80 }]));
    for (let at = 0; at < 14; at++) {
      const merge = { "content-type": "application/merge-patch+json" };
      await server.ask("PATCH", `${services}/cart?fieldManager=m${at}`, { metadata: { labels: { [`l${at}`]: "x" } } }, merge);
    }
    const now = (await (await server.ask("GET", `${services}/cart`)).json()) as KubeObject;
    expect(entries(now).filter((each) => each.operation === "Update").length).toBeLessThanOrEqual(11);
    expect(entries(now).map((each) => each.manager)).toContain("ancient-changes");
    expect(JSON.stringify(fieldsOf(now, "ancient-changes"))).toContain("f:l0");
  });
});

describe("field validation", () => {
  const wrong = service([{ port: 80 }], {}, { surprise: { a: 1 } });

  test("Strict, which is the default, refuses unknown fields", async () => {
    for (const query of ["", "?fieldValidation=Strict"]) expect((await server.ask("POST", services + query, wrong)).status).toBe(422);
    expect((await server.ask("POST", `${services}?fieldValidation=Loose`, wrong)).status).toBe(400);
  });

  test("Warn leaves them out and says so; Ignore leaves them out", async () => {
    const warned = await server.ask("POST", `${services}?fieldValidation=Warn`, wrong);
    expect(warned.status).toBe(201);
    expect(warned.headers.get("warning")).toBe('299 - "unknown field \\"spec.surprise\\""');
    expect((await warned.json()) as KubeObject).not.toHaveProperty("spec.surprise");
    const ignored = await server.ask("PUT", `${services}/cart?fieldValidation=Ignore`, { ...wrong, extra: 1 });
    expect([ignored.status, ignored.headers.get("warning")]).toEqual([200, null]);
  });

  test("what is not built, and whatever is unknown in a policy, is refused all the same", async () => {
    const loose = "?fieldValidation=Ignore";
    expect((await server.ask("POST", services + loose, service([{ port: 80 }], {}, { externalIPs: ["1.2.3.4"] }))).status).toBe(422);
    const policy = { metadata: { name: "p" }, spec: { action: "ALLOW", rules: [{ form: [{ source: { namespaces: ["shop"] } }] }] } };
    const answer = await server.ask("POST", `/apis/security.istio.io/v1/namespaces/shop/authorizationpolicies${loose}`, policy);
    expect(answer.status).toBe(422);
    expect(((await answer.json()) as Status).message).toContain('unknown field "form"');
  });
});
