// RateLimitPolicy with a rate limit service of the user's own, and for routes of Gateways: what validation refuses, what becomes of references, who is heard
// where several policies meet, and that a change to any of it is found.

import { describe, expect, test } from "bun:test";
import { parseAllDocuments } from "yaml";
import { kindOf } from "../api/kinds.ts";
import type { Condition, KubeObject } from "../api/meta.ts";
import { buildWorld } from "./compile.ts";
import { gatewayPlan } from "./policies/gateway-plan.ts";
import { gatewayLimits, workloadLimits } from "./policies/limits.ts";
import { statusOf } from "./status.ts";
import { targetProblems } from "./status-limits.ts";
import type { WorkloadModel, World } from "./world.ts";

function objects(text: string): KubeObject[] {
  return parseAllDocuments(text).flatMap((document) => {
    const made = document.toJS() as KubeObject | null;
    if (made === null) return [];
    kindOf(made)?.applyDefaults(made);
    return [made];
  });
}

const policy = (name: string, spec: string, created = "2026-01-01T00:00:00Z") =>
  `{apiVersion: weft.dev/v1alpha1, kind: RateLimitPolicy, metadata: {name: ${name}, namespace: shop, creationTimestamp: "${created}"}, spec: ${spec}}\n---\n`;
const toApi = "targetRefs: [{kind: Service, name: api}]";
const route = (section = "") => `targetRefs: [{group: gateway.networking.k8s.io, kind: HTTPRoute, name: api${section}}]`;
const limits = "service: {backendRef: {name: limits, port: 8081}, domain: d}";
const entry = "{key: a, value: b}";
const asks = `rules: [{scope: Global, descriptor: [${entry}]}]`;

describe("validation", () => {
  const refused = (spec: string) => {
    const [made] = objects(policy("p", spec));
    return (kindOf(made as KubeObject)?.validate(made as KubeObject) ?? []).map(({ path }) => path);
  };
  const host = (ref: string) => `{${toApi}, service: {backendRef: {${ref}, port: 1}, domain: d}, ${asks}}`;
  const rule = (text: string) => `{${toApi}, ${limits}, rules: [{scope: Global, ${text}}]}`;
  const cases: readonly (readonly [what: string, spec: string, paths: readonly string[]])[] = [
    ["a service and a question", `{${toApi}, ${limits}, ${asks}}`, []],
    ["local rules beside", `{${toApi}, ${limits}, rules: [{requests: 1, per: 1s}, {scope: Global, descriptor: [${entry}]}]}`, []],
    ["a service that nobody asks", `{${toApi}, ${limits}, rules: [{requests: 1, per: 1s}]}`, ["spec.service"]],
    ["a question without a service", `{${toApi}, ${asks}}`, ["spec.rules[0].descriptor", "spec.rules[0].requests", "spec.rules[0].per"]],
    ["no number", `{${toApi}, rules: [{per: 1s}, {requests: 1}]}`, ["spec.rules[0].requests", "spec.rules[1].per"]],
    ["no question", rule("name: a"), ["spec.rules[0].descriptor"]],
    [
      "numbers, which are the service's",
      rule(`requests: 5, per: 1s, by: [{type: Identity}], descriptor: [${entry}]`),
      ["spec.rules[0].requests", "spec.rules[0].per", "spec.rules[0].by"],
    ],
    ["an entry with two values", rule("descriptor: [{key: a, value: b, type: Identity}]"), ["spec.rules[0].descriptor[0]"]],
    ["an entry with none", rule("descriptor: [{key: a}]"), ["spec.rules[0].descriptor[0]"]],
    [
      "more entries than anybody wants",
      rule(`descriptor: [${Array.from({ length: 9 }, (_, n) => `{key: k${n}, value: v}`).join(", ")}]`),
      ["spec.rules[0].descriptor"],
    ],
    ["a header without a name", rule("descriptor: [{key: a, type: Header}]"), ["spec.rules[0].descriptor[0].header"]],
    ["a header beside a value", rule("descriptor: [{key: a, value: b, header: c}]"), ["spec.rules[0].descriptor[0].header"]],
    ["an address by another name", rule("descriptor: [{key: ip, type: RemoteAddress}]"), ["spec.rules[0].descriptor[0].key"]],
    ["a key twice", rule(`descriptor: [${entry}, ${entry}]`), ["spec.rules[0].descriptor[1].key"]],
    ["a match that does not show", rule("match: {method: GET}, descriptor: [{key: a, type: Identity}]"), ["spec.rules[0].descriptor"]],
    ["one that does", rule(`match: {method: GET}, descriptor: [{key: a, type: Identity}, {key: b, value: c}]`), []],
    [
      "a match and a route that share an entry",
      `{${route()}, ${limits}, rules: [{scope: Global, match: {method: GET}, descriptor: [${entry}]}]}`,
      ["spec.rules[0].descriptor"],
    ],
    ["a port that is missing", `{${toApi}, service: {backendRef: {name: limits}, domain: d}, ${asks}}`, ["spec.service.backendRef.port"]],
    ["another kind", host("kind: Pod, name: a"), ["spec.service.backendRef.kind"]],
    ["a host of no group", host("kind: Hostname, name: a.example"), ["spec.service.backendRef.group"]],
    [
      "a host with a wildcard and a namespace",
      host('group: networking.istio.io, kind: Hostname, name: "*.example", namespace: other'),
      ["spec.service.backendRef.namespace", "spec.service.backendRef.name"],
    ],
    ["itself", host("name: api"), ["spec.service.backendRef"]],
    ["one of that name elsewhere", host("name: api, namespace: other"), []],
    ["a route", `{${route(", sectionName: search")}, rules: [{requests: 1, per: 1s}]}`, []],
    [
      "a route of no group, a listener",
      "{targetRefs: [{kind: GRPCRoute, name: a}, {group: gateway.networking.k8s.io, kind: Gateway, name: b, sectionName: web}], rules: [{requests: 1, per: 1s}]}",
      ["spec.targetRefs[0].group", "spec.targetRefs[1].sectionName"],
    ],
  ];
  for (const [what, spec, paths] of cases) test(what, () => expect([...new Set(refused(spec))]).toEqual([...paths]));
});

const mesh = `
{apiVersion: v1, kind: Service, metadata: {name: api, namespace: shop}, spec: {selector: {app: api}, ports: [{name: http, port: 80}]}}
---
{apiVersion: v1, kind: Service, metadata: {name: api-too, namespace: shop}, spec: {selector: {app: api}, ports: [{name: http, port: 80}]}}
---
{apiVersion: v1, kind: Service, metadata: {name: limits, namespace: shop}, spec: {ports: [{name: grpc, port: 8081}, {name: http, port: 80}]}}
---
{apiVersion: v1, kind: Service, metadata: {name: limits, namespace: other}, spec: {ports: [{name: grpc, port: 8081}]}}
---
{apiVersion: networking.istio.io/v1, kind: WorkloadEntry, metadata: {name: api-1, namespace: shop, labels: {app: api, security.istio.io/tlsMode: istio}, annotations: {weft.dev/inbound: "http=8080"}}, spec: {address: 10.0.0.1, ports: {http: 15006}}}
---
{apiVersion: networking.istio.io/v1, kind: ServiceEntry, metadata: {name: limits, namespace: other}, spec: {hosts: [limits.example.com], resolution: DNS, ports: [{number: 8081, name: grpc, protocol: GRPC}], exportTo: ["*"]}}
---
{apiVersion: networking.istio.io/v1, kind: ServiceEntry, metadata: {name: secret, namespace: other}, spec: {hosts: [secret.example.com], resolution: DNS, ports: [{number: 8081, name: grpc, protocol: GRPC}], exportTo: ["."]}}
---
{apiVersion: gateway.networking.k8s.io/v1, kind: Gateway, metadata: {name: edge, namespace: shop}, spec: {gatewayClassName: weft, listeners: [{name: web, port: 8080, protocol: HTTP}]}}
---
{apiVersion: gateway.networking.k8s.io/v1, kind: HTTPRoute, metadata: {name: api, namespace: shop}, spec: {parentRefs: [{name: edge}], rules: [{name: search, matches: [{path: {value: /search}}], backendRefs: [{name: api, port: 80}]}, {backendRefs: [{name: api, port: 80}]}]}}
---
`;
const grant =
  "{apiVersion: gateway.networking.k8s.io/v1, kind: ReferenceGrant, metadata: {name: g, namespace: other}, spec: {from: [{group: weft.dev, kind: RateLimitPolicy, namespace: shop}], to: [{group: '', kind: Service}]}}\n---\n";

const world = (text: string) => buildWorld(objects(mesh + text), "cluster.local");
const api = (from: World) => workloadLimits(from, from.workloads.get("shop/api-1") as WorkloadModel, "http")?.rates;
function conditions(from: World, name: string): Condition[] {
  const found = statusOf(from, `ratelimitpolicies.weft.dev shop/${name}`)?.status as { ancestors: { conditions: Condition[] }[] };
  return found.ancestors.flatMap((each) => each.conditions);
}
const reasons = (from: World, name: string) => conditions(from, name).map(({ reason }) => reason);
const at = (ref: string) => `{${toApi}, service: {backendRef: {${ref}}, domain: d}, ${asks}}`;

describe("where the service is", () => {
  const cases: readonly (readonly [what: string, ref: string, cluster: string, reason: string])[] = [
    ["a Service", "name: limits, port: 8081", "outbound|8081||limits.shop.svc.cluster.local", "ResolvedRefs"],
    ["a port that says nothing of gRPC", "name: limits, port: 80", "unresolved|80||limits.shop.svc.cluster.local", "UnsupportedProtocol"],
    ["none", "name: nobody, port: 80", "unresolved|80||nobody.shop.svc.cluster.local", "BackendNotFound"],
    [
      "another namespace's",
      "name: limits, namespace: other, port: 8081",
      "unresolved|8081||limits.other.svc.cluster.local",
      "RefNotPermitted",
    ],
    [
      "a host",
      "group: networking.istio.io, kind: Hostname, name: limits.example.com, port: 8081",
      "outbound|8081||limits.example.com",
      "ResolvedRefs",
    ],
    [
      "a host of others",
      "group: networking.istio.io, kind: Hostname, name: secret.example.com, port: 8081",
      "unresolved|8081||secret.example.com",
      "RefNotPermitted",
    ],
    [
      "a host that nobody knows",
      "group: networking.istio.io, kind: Hostname, name: who.example.com, port: 8081",
      "unresolved|8081||who.example.com",
      "BackendNotFound",
    ],
  ];
  for (const [what, ref, cluster, reason] of cases)
    test(what, () => {
      const made = world(policy("p", at(ref)));
      expect(api(made)?.service?.cluster).toBe(cluster);
      expect(reasons(made, "p")).toEqual(["Accepted", reason, "Enforced"]);
      const [said] = objects(policy("p", at(ref)));
      expect(targetProblems(world(""), said as KubeObject).length).toBe(reason === "ResolvedRefs" ? 0 : 1);
    });

  test("another namespace's with a grant", () => {
    const made = world(grant + policy("p", at("name: limits, namespace: other, port: 8081")));
    expect(api(made)?.service?.cluster).toBe("outbound|8081||limits.other.svc.cluster.local");
  });

  test("what becomes of requests meanwhile is told", () => {
    const message = (spec: string) => conditions(world(policy("p", spec)), "p").find(({ type }) => type === "ResolvedRefs")?.message;
    const lost = at("name: nobody, port: 80");
    expect(message(lost)).toEndWith("until then requests of rules of scope Global are let pass uncounted");
    expect(message(lost.replace(`{${toApi}`, `{whenServiceFails: Deny, ${toApi}`))).toEndWith("are refused");
  });
});

describe("several policies at one place", () => {
  const own = (name: string, text: string) => `rules: [{name: ${name}, ${text}}]`;
  const gateway = "targetRefs: [{group: gateway.networking.k8s.io, kind: Gateway, name: edge}]";
  const ids = (from: World) => gatewayLimits(from, "shop/edge").rates?.rules.map(({ id, ofRoute }) => [id, ofRoute === true]);
  const carried = (from: World) =>
    gatewayPlan(from, "shop/edge")?.tables[0]?.hosts[0]?.routes.map(({ name, limits: words }) => [name, Object.keys(words ?? {})]);

  test("a Gateway's and a route's both apply, with the stricter stance of the two", () => {
    const made = world(
      policy("edge", `{${gateway}, ${own("all", "requests: 9, per: 1s")}, whenServiceFails: Allow}`) +
        policy("route", `{${route()}, ${limits}, ${asks}, whenServiceFails: Deny, timeout: 80ms, tellClients: false}`),
    );
    expect(ids(made)).toEqual([
      ["shop/edge/all", false],
      ["shop/route/rule-0", true],
    ]);
    expect(gatewayLimits(made, "shop/edge").rates).toMatchObject({ denyOnFailure: true, timeoutMs: 80, tellClients: true });
    expect(carried(made)).toEqual([
      ["shop/api/search", ["shop/route/rule-0"]],
      ["shop/api/1", ["shop/route/rule-0"]],
    ]);
  });

  test("a GRPCRoute's as well as an HTTPRoute's", () => {
    const calls = mesh
      .replace("kind: HTTPRoute", "kind: GRPCRoute")
      .replace("matches: [{path: {value: /search}}]", "matches: [{method: {service: shop.Search}}]")
      .replace("{name: http, port: 80}]", "{name: grpc, port: 80}]");
    const target = `{${route(", sectionName: search").replace("HTTPRoute", "GRPCRoute")}, ${own("some", "requests: 1, per: 1s")}}`;
    const made = buildWorld(objects(calls + policy("rule", target)), "cluster.local");
    expect(carried(made)).toEqual([
      ["shop/api/search", ["shop/rule/some"]],
      ["shop/api/1", []],
    ]);
    expect([ids(made), reasons(made, "rule")]).toEqual([[["shop/rule/some", true]], ["Accepted"]]);
  });

  test("a policy for a rule goes before one for its route", () => {
    const made = world(
      policy("route", `{${route()}, ${own("all", "requests: 9, per: 1s")}}`) +
        policy("rule", `{${route(", sectionName: search")}, ${own("some", "requests: 1, per: 1s")}}`),
    );
    expect(carried(made)).toEqual([
      ["shop/api/search", ["shop/rule/some"]],
      ["shop/api/1", ["shop/route/all"]],
    ]);
    expect([reasons(made, "route"), reasons(made, "rule")]).toEqual([["Accepted"], ["Accepted"]]);
  });

  test("a Gateway of another namespace may not use up limits that the control plane counts", () => {
    const far = mesh
      .replace("{name: edge, namespace: shop}", "{name: edge, namespace: front}")
      .replace(
        "{name: web, port: 8080, protocol: HTTP}",
        "{name: web, port: 8080, protocol: HTTP, allowedRoutes: {namespaces: {from: All}}}",
      )
      .replace("parentRefs: [{name: edge}]", "parentRefs: [{name: edge, namespace: front}]");
    const said = (spec: string) => {
      const made = buildWorld(objects(far + policy("route", spec)), "cluster.local");
      return [reasons(made, "route")[0], gatewayLimits(made, "front/edge").rates?.rules.length];
    };
    expect(said(`{${route()}, ${own("a", "scope: Global, requests: 9, per: 1s")}}`)).toEqual(["Invalid", undefined]);
    expect(said(`{${route()}, ${own("a", "requests: 9, per: 1s")}}`)).toEqual(["Accepted", 1]);
    expect(said(`{${route()}, ${limits}, ${asks}}`)).toEqual(["Accepted", 1]);
  });

  test("of two for one route the older, and the other is told", () => {
    const made = world(
      policy("new", `{${route()}, ${own("n", "requests: 9, per: 1s")}}`, "2026-02-01T00:00:00Z") +
        policy("old", `{${route()}, ${own("o", "requests: 9, per: 1s")}}`),
    );
    expect(ids(made)).toEqual([["shop/old/o", true]]);
    expect(reasons(made, "new")).toEqual(["Conflicted"]);
  });

  test("a port asks one service: of two the first is heard, at a Gateway and at an instance", () => {
    const shared = `{${toApi}, ${limits}, ${asks}}`;
    const others = shared.replace("name: api", "name: api-too").replace("domain: d", "domain: e");
    const made = world(
      policy("edge", `{${gateway}, ${own("all", "scope: Global, requests: 9, per: 1s")}}`) +
        policy("route", `{${route()}, ${limits}, ${asks}}`) +
        policy("one", shared) +
        policy("two", others),
    );
    expect(ids(made)).toEqual([["shop/edge/all", false]]);
    expect(gatewayLimits(made, "shop/edge").rates?.service).toBeUndefined();
    expect([reasons(made, "edge"), reasons(made, "route")[0]]).toEqual([["Accepted"], "Conflicted"]);
    expect(api(made)).toMatchObject({ service: { domain: "d" }, rules: [{ id: "shop/one/rule-0" }] });
    expect([reasons(made, "one")[0], reasons(made, "two")[0]]).toEqual(["Accepted", "Conflicted"]);
    expect(conditions(made, "two")[0]?.message).toStartWith("RateLimitPolicy shop/one asks another rate limit service");
  });
});
