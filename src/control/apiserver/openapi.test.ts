import { expect, test } from "bun:test";
import { kinds } from "../../api/kinds.ts";
import { makeTestServer } from "./testing.ts";

interface Document {
  paths: Record<string, Record<string, { operationId?: string; "x-kubernetes-group-version-kind"?: unknown }>>;
  components: { schemas: Record<string, Described> };
}
interface Described {
  description?: string;
  properties?: Record<string, Described>;
  items?: Described;
  enum?: unknown[];
  [key: string]: unknown;
}

const server = makeTestServer({ kinds });
const get = (path: string, headers: Record<string, string> = {}) => server.ask("GET", path, undefined, headers);
const index = async () => ((await (await get("/openapi/v3")).json()) as { paths: Record<string, { serverRelativeURL: string }> }).paths;
const documentOf = async (name: string) => (await (await get((await index())[name]!.serverRelativeURL)).json()) as Document;

test("every document is whole: each reference leads somewhere, each operation has its own id and its kind", async () => {
  for (const name of Object.keys(await index())) {
    const document = await documentOf(name);
    const text = JSON.stringify(document);
    for (const [, schema = ""] of text.matchAll(/"#\/components\/schemas\/([^"]+)"/g))
      expect(Object.keys(document.components.schemas)).toContain(schema);
    const ids = Object.values(document.paths).flatMap((path) => Object.values(path).flatMap((operation) => operation.operationId ?? []));
    expect(new Set(ids).size).toBe(ids.length);
    expect(ids.length).toBeGreaterThan(0);
  }
});

test("addresses carry the content's hash: good for ever with it, redirected from another, 304 for who has it", async () => {
  const address = (await index())["apis/gateway.networking.k8s.io/v1"]!.serverRelativeURL;
  const answer = await get(address);
  expect(answer.headers.get("cache-control")).toContain("immutable");
  const etag = answer.headers.get("etag") ?? "";
  expect(etag).toBe(`"${address.split("hash=")[1]}"`);
  expect((await get(address, { "if-none-match": etag })).status).toBe(304);
  const other = await get(address.replace(/hash=.*/, "hash=ABC"));
  expect([other.status, other.headers.get("location")]).toEqual([301, address]);
  expect((await get("/openapi/v3/apis/gateway.networking.k8s.io/v1")).headers.get("cache-control")).toContain("no-cache");
});

test("a kind is described in the published words, without what is refused, with its lists' keys", async () => {
  const route = (await documentOf("apis/gateway.networking.k8s.io/v1")).components.schemas["io.k8s.networking.gateway.v1.HTTPRoute"]!;
  const spec = route.properties!.spec!;
  expect(spec.properties!.rules!.description).toStartWith("Rules are a list of HTTP matchers");
  expect(spec.properties).toHaveProperty("hostnames");
  const filters = spec.properties!.rules!.items!.properties!.filters!.items!;
  expect(filters.properties!.type!.enum).toContain("URLRewrite");
  expect(filters.properties!.type!.enum).not.toContain("ExtensionRef");
  const service = (await documentOf("api/v1")).components.schemas["io.k8s.api.core.v1.Service"]!;
  const { ports, selector } = service.properties!.spec!.properties!;
  expect(ports).toMatchObject({ "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["port", "protocol"] });
  expect(selector).toMatchObject({ "x-kubernetes-map-type": "atomic" });
});

test("every field of every kind has a description", async () => {
  const bare: string[] = [];
  const seen = new Set<string>();
  for (const name of Object.keys(await index())) {
    const { schemas } = (await documentOf(name)).components;
    const says = (schema: Described): boolean => {
      const to = typeof schema.$ref === "string" ? schemas[schema.$ref.slice("#/components/schemas/".length)] : schema;
      return (to?.description ?? "").length > 4 && !/^(Optional|Required)\.?$/i.test(to?.description ?? "");
    };
    const visit = (schema: Described, path: string): void => {
      for (const [field, child] of Object.entries(schema.properties ?? {})) {
        if (!says(child)) bare.push(`${path}.${field}`);
        visit(child, `${path}.${field}`);
      }
      for (const inner of [schema.items, schema.additionalProperties as Described | undefined])
        if (inner !== undefined) visit(inner, `${path}[]`);
    };
    for (const [of, schema] of Object.entries(schemas)) {
      if (!says(schema) || / of [a-z0-9./]*\bv\d\w*\.$/.test(schema.description?.split("\n")[0] ?? "")) bare.push(of);
      visit(schema, of);
      seen.add(of);
    }
  }
  expect(bare).toEqual([]);
  expect(seen.size).toBeGreaterThan(kinds.length);
});

test("a field that is refused says so, and what to use instead", async () => {
  const { schemas } = (await documentOf("apis/networking.istio.io/v1")).components;
  const http = schemas["io.istio.networking.v1.VirtualService"]!.properties!.spec!.properties!.http!.items!;
  expect(http.properties!.match!.items!.properties!.statPrefix!.description).toBe(
    "Not supported: refused where it is set. Instead: statistics are kept by route name.",
  );
  expect(http.properties!.match!.items!.description).toBeUndefined();
  expect(http.properties!.timeout!.description).toStartWith("Time for the whole request");
});
