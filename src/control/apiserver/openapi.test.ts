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
