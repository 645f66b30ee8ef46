// Judge: Envoy with the same HTTPRoute, whose backends have filters of their own: each proxy gives each backend its share of the requests, and its filters
// to that share alone.

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { needsPeers } from "../support/peers.ts";
import { Alike, type Ask, type Seen } from "./alike.ts";

const ready = needsPeers("alike-shares.test.ts", "envoy");

const service = (name: string, port: number | undefined): string => `---
{apiVersion: v1, kind: Service, metadata: {name: ${name}, namespace: shop}, spec: {ports: [{name: http, port: 80}]}}
---
{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {name: ${name}, namespace: shop, labels: {kubernetes.io/service-name: ${name}}}, addressType: IPv4, endpoints: [{addresses: [127.0.0.1]}], ports: [{name: http, port: ${port}}]}`;

const services = ["one", "two", "three", "four", "five"];

const objects = (ports: Readonly<Record<string, number>>): string => `
{apiVersion: networking.istio.io/v1, kind: WorkloadEntry, metadata: {name: front-1, namespace: shop, labels: {app: front, security.istio.io/tlsMode: istio}, annotations: {weft.dev/http-proxy-port: "41001"}}, spec: {address: 127.0.0.1, serviceAccount: front}}
${services.map((name) => service(name, ports[name])).join("\n")}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: one, namespace: shop}
spec:
  parentRefs: [{group: "", kind: Service, name: one}]
  rules:
    - backendRefs:
        - {name: one, port: 80, weight: 3}
        - {name: two, port: 80, weight: 7, filters: [{type: RequestRedirect, requestRedirect: {statusCode: 307, hostname: two.example}}]}
        - {name: three, port: 80, weight: 5, filters: [{type: URLRewrite, urlRewrite: {path: {type: ReplacePrefixMatch, replacePrefixMatch: /three}}}]}
        - {name: four, port: 80, weight: 6, filters: [{type: CORS, cors: {allowOrigins: ["https://shop.example"]}}, {type: RequestMirror, requestMirror: {backendRef: {name: five, port: 80}}}]}
        - {name: five, port: 80, weight: 3}
`;

/** Of 24. */
const weights = { "200 one /x": 3, "307 two.example": 7, "200 three /three/x": 5, "200 four /x https://shop.example": 6, "200 five /x": 3 };
const many = 1_200;

describe.skipIf(!ready)("our proxy and Envoy with filters of single backends", () => {
  let alike: Alike;
  let seen: (readonly [Seen, Seen])[] = [];

  beforeAll(async () => {
    alike = await Alike.start(services, objects, "shop/front-1");
    const ask: Ask = { method: "GET", host: "one", path: "/x", headers: { origin: "https://shop.example" } };
    seen = await alike.all(
      "outbound-http-proxy",
      Array.from({ length: many }, () => ask),
    );
  }, 60_000);

  afterAll(async () => {
    await alike?.stop();
  }, 15_000);

  for (const [side, who] of [
    [0, "ours"],
    [1, "Envoy"],
  ] as const)
    test(`${who}: each backend has its share and its filters`, () => {
      const counts = new Map<string, number>();
      for (const pair of seen) {
        const outcome = outcomeOf(pair[side]);
        counts.set(outcome, (counts.get(outcome) ?? 0) + 1);
      }
      expect([...counts.keys()].sort()).toEqual(Object.keys(weights).sort());
      for (const [outcome, weight] of Object.entries(weights)) {
        const share = weight / 24;
        // Six standard deviations.
        const slack = 6 * Math.sqrt(many * share * (1 - share));
        expect(Math.abs((counts.get(outcome) ?? 0) - many * share), `${outcome}: ${counts.get(outcome)}`).toBeLessThan(slack);
      }
    });
});

function outcomeOf({ status, headers, body }: Seen): string {
  if (status !== 200) return `${status} ${new URL(headers.location ?? "http://nowhere").hostname}`;
  const { path = "?" } = (body ?? {}) as { path?: string };
  return [status, headers["x-instance"], path, ...(headers["access-control-allow-origin"] ?? "").split(" ")].join(" ").trim();
}
