// Gateway API's rules of precedence and conflict, in tables: which of two matches takes a request, which of two routes or listeners speaks, whatever the
// order in which they come; and what the other one is told, in the standard's conditions and reasons.

import { describe, expect, test } from "bun:test";
import { gatewayRoutes } from "../wire/names.ts";
import { buildWorld, compileAll } from "./compile.ts";
import { snapshotToJson } from "./decode.ts";
import { objectsOf } from "./testing/objects.ts";

const base = (listeners: string): string => `
{apiVersion: gateway.networking.k8s.io/v1, kind: Gateway, metadata: {name: edge, namespace: shop}, spec: {gatewayClassName: weft, listeners: [${listeners}]}}
---
{apiVersion: networking.istio.io/v1, kind: WorkloadEntry, metadata: {name: edge-1, namespace: shop, labels: {app: edge}, annotations: {weft.dev/gateway: edge}}, spec: {address: 10.0.0.1}}
---
{apiVersion: v1, kind: Service, metadata: {name: app, namespace: shop}, spec: {ports: [{name: http, port: 80}, {name: tcp, port: 81}, {name: dns, port: 53, protocol: UDP}]}}
---
{apiVersion: v1, kind: Service, metadata: {name: far, namespace: other}, spec: {ports: [{name: http, port: 80}, {name: grpc, port: 90}, {name: tcp, port: 81}, {name: dns, port: 53, protocol: UDP}]}}
`;
const web = "{name: web, port: 80, protocol: HTTP}";

interface Route {
  readonly kind?: "HTTPRoute" | "GRPCRoute" | "TLSRoute" | "TCPRoute" | "UDPRoute";
  readonly created?: string;
  readonly hosts?: string;
  readonly match?: string;
  readonly parent?: string;
  readonly backend?: string;
  readonly filters?: string;
}

const route = (name: string, { kind = "HTTPRoute", created = "2026-01-01", hosts, match, parent, backend, filters }: Route): string => {
  const version = kind.startsWith("T") || kind === "UDPRoute" ? "v1alpha2" : "v1";
  const port = version === "v1" ? 80 : kind === "UDPRoute" ? 53 : 81;
  const rule = `{${match === undefined ? "" : `matches: [${match}], `}${filters === undefined ? "" : `filters: [${filters}], `}backendRefs: [${backend ?? `{name: app, port: ${port}}`}]}`;
  return `---
{apiVersion: gateway.networking.k8s.io/${version}, kind: ${kind}, metadata: {name: ${name}, namespace: shop, creationTimestamp: "${created}T00:00:00Z"}, spec: {parentRefs: [${parent ?? "{name: edge}"}], ${hosts === undefined ? "" : `hostnames: [${hosts}], `}rules: [${rule}]}}
`;
};

function compiled(parts: readonly string[]) {
  const { snapshots, statuses } = compileAll(buildWorld(objectsOf(parts.join("\n")), "cluster.local"));
  const snapshot = snapshots.get("shop/edge-1");
  if (snapshot === undefined) throw new Error("no snapshot");
  const json = snapshotToJson(snapshot) as unknown as {
    route: Record<string, { virtual_hosts: { domains: string[]; routes: { name: string }[] }[] }>;
    listener: Record<string, { filter_chains?: { name: string; filter_chain_match?: { server_names?: string[] } }[] }>;
  };
  return {
    /** Routes of a host in their order. */
    at: (host: string, table = gatewayRoutes(80)) =>
      (json.route[table]?.virtual_hosts.find(({ domains }) => domains.includes(host))?.routes ?? []).map(
        ({ name }) => name.split("/")[1] ?? name,
      ),
    json,
    status: (name: string) => statuses.find((each) => each.name === name)?.status as Record<string, unknown>,
    /** `Accepted=True Accepted` of each condition of each parent. */
    parents: (name: string) => {
      const status = statuses.find((each) => each.name === name)?.status as { parents?: { conditions: Condition[] }[] } | undefined;
      return (status?.parents ?? []).map(({ conditions }) => conditions.map(said));
    },
    listeners: () => {
      const status = statuses.find((each) => each.name === "edge")?.status as {
        listeners: { name: string; attachedRoutes: number; conditions: Condition[] }[];
      };
      return Object.fromEntries(status.listeners.map(({ name, conditions }) => [name, conditions.map(said)]));
    },
  };
}

interface Condition {
  readonly type: string;
  readonly status: string;
  readonly reason: string;
  readonly observedGeneration?: number;
}
const said = ({ type, status, reason }: Condition): string => `${type}=${status} ${reason}`;

describe("which match takes a request", () => {
  const older = { created: "2025-01-01" };
  const path = (type: string, value: string, more = "") => `{path: {type: ${type}, value: ${value}}${more}}`;
  const cases: readonly (readonly [what: string, wins: Route, loses: Route])[] = [
    [
      "the longer host, whatever the path",
      { hosts: "a.example.com", match: path("PathPrefix", "/") },
      { ...older, hosts: '"*.example.com"', match: path("Exact", "/x") },
    ],
    ["an exact path before a longer prefix", { match: path("Exact", "/x") }, { ...older, match: path("PathPrefix", "/xxxxxxxxxx") }],
    ["an exact path before an expression", { match: path("Exact", "/x") }, { ...older, match: path("RegularExpression", "/xxxxxxx.*") }],
    [
      "the longer prefix before any method",
      { match: path("PathPrefix", "/xy") },
      { ...older, match: path("PathPrefix", "/x", ", method: GET") },
    ],
    [
      "a method before any headers",
      { match: path("PathPrefix", "/x", ", method: GET") },
      { ...older, match: path("PathPrefix", "/x", ", headers: [{name: a, value: b}, {name: c, value: d}]") },
    ],
    [
      "more headers before any query",
      { match: path("PathPrefix", "/x", ", headers: [{name: a, value: b}]") },
      { ...older, match: path("PathPrefix", "/x", ", queryParams: [{name: a, value: b}, {name: c, value: d}]") },
    ],
    [
      "more query parameters before age",
      { match: path("PathPrefix", "/x", ", queryParams: [{name: a, value: b}]") },
      { ...older, match: path("PathPrefix", "/x") },
    ],
    ["age before the name", { ...older, match: path("PathPrefix", "/x") }, { match: path("PathPrefix", "/x") }],
    ["of the same age the name", { match: path("PathPrefix", "/x") }, { match: path("PathPrefix", "/x") }],
    ["a trailing slash counts for nothing", { ...older, match: path("PathPrefix", "/x") }, { match: path("PathPrefix", "/x/") }],
  ];
  for (const [what, wins, loses] of cases)
    test(what, () => {
      // By name the loser would come first, but where nothing else tells them apart.
      const [winner, loser] = what.includes("the name") && what.startsWith("of") ? ["a", "b"] : ["b", "a"];
      const parts = [route(winner, wins), route(loser, loses)];
      for (const order of [parts, [...parts].reverse()])
        expect(
          compiled([base(web), ...order])
            .at(wins.hosts ?? "*")
            .filter((name) => name !== "no-match"),
        ).toEqual([winner, loser]);
    });

  const calls: readonly (readonly [what: string, wins: Route, loses: Route])[] = [
    [
      "the longer service",
      { match: "{method: {service: a.LongerName}}" },
      { ...older, match: "{method: {service: a.B, method: Something}}" },
    ],
    [
      "the longer method",
      { match: "{method: {service: a.B, method: Longer}}" },
      { ...older, match: "{method: {service: a.B, method: Say}, headers: [{name: a, value: b}]}" },
    ],
    [
      "more headers",
      { match: "{method: {service: a.B}, headers: [{name: a, value: b}]}" },
      { ...older, match: "{method: {service: a.B}}" },
    ],
    ["age", { ...older, match: "{method: {service: a.B}}" }, { match: "{method: {service: a.B}}" }],
  ];
  for (const [what, wins, loses] of calls)
    test(`of calls: ${what}`, () => {
      const parts = [route("b", { kind: "GRPCRoute", ...wins }), route("a", { kind: "GRPCRoute", ...loses })];
      for (const order of [parts, [...parts].reverse()])
        expect(
          compiled([base(web), ...order])
            .at("*")
            .filter((name) => name !== "no-match"),
        ).toEqual(["b", "a"]);
    });
});

describe("which of two routes speaks", () => {
  const taken = ["Accepted=False Conflicted", "ResolvedRefs=True ResolvedRefs"];
  const fine = ["Accepted=True Accepted", "ResolvedRefs=True ResolvedRefs"];
  const secure = "{name: pass, port: 443, protocol: TLS, tls: {mode: Passthrough}}";
  const cases: readonly (readonly [what: string, listeners: string, first: Route, second: Route, secondSpeaks: boolean])[] = [
    ["an HTTPRoute and a younger GRPCRoute for all hosts", web, {}, { kind: "GRPCRoute", created: "2026-02-01" }, false],
    [
      "a GRPCRoute and a younger HTTPRoute for one host",
      web,
      { kind: "GRPCRoute", hosts: "a.example.com" },
      { created: "2026-02-01", hosts: "a.example.com" },
      false,
    ],
    [
      "one for a host and a younger one for a wildcard above it",
      web,
      { hosts: "a.example.com" },
      { kind: "GRPCRoute", created: "2026-02-01", hosts: '"*.example.com"' },
      false,
    ],
    ["both of one age: the first by name", web, { kind: "GRPCRoute" }, {}, false],
    [
      "HTTPRoute and GRPCRoute with hosts of their own",
      web,
      { hosts: "a.example.com" },
      { kind: "GRPCRoute", created: "2026-02-01", hosts: "b.example.com" },
      true,
    ],
    ["two of one kind", web, {}, { created: "2026-02-01" }, true],
    [
      "two TCPRoutes on a listener",
      "{name: raw, port: 7, protocol: TCP}",
      { kind: "TCPRoute" },
      { kind: "TCPRoute", created: "2026-02-01" },
      false,
    ],
    [
      "two UDPRoutes on a listener",
      "{name: raw, port: 7, protocol: UDP}",
      { kind: "UDPRoute" },
      { kind: "UDPRoute", created: "2026-02-01" },
      false,
    ],
    [
      "two TLSRoutes with one name",
      secure,
      { kind: "TLSRoute", hosts: "a.example.com" },
      { kind: "TLSRoute", created: "2026-02-01", hosts: "a.example.com" },
      false,
    ],
    [
      "two TLSRoutes, the younger with one name more",
      secure,
      { kind: "TLSRoute", hosts: "a.example.com" },
      { kind: "TLSRoute", created: "2026-02-01", hosts: "a.example.com, b.example.com" },
      true,
    ],
  ];
  for (const [what, listeners, first, second, secondSpeaks] of cases)
    test(what, () => {
      const parts = [route("a", first), route("b", second)];
      for (const order of [parts, [...parts].reverse()]) {
        const made = compiled([base(listeners), ...order]);
        expect([made.parents("a"), made.parents("b")]).toEqual([[fine], [secondSpeaks ? fine : taken]]);
        const { listeners: told } = made.status("edge") as { listeners: { attachedRoutes: number }[] };
        if (first.kind !== "TCPRoute" && first.kind !== "UDPRoute" && first.kind !== "TLSRoute")
          expect(told[0]?.attachedRoutes).toBe(secondSpeaks ? 2 : 1);
      }
    });

  test("a route that is silent at one listener speaks at another, and its status says where it does not", () => {
    const two = `${web}, {name: calls, port: 81, protocol: HTTP}`;
    const made = compiled([
      base(two),
      route("a", { parent: "{name: edge, sectionName: web}" }),
      route("b", { kind: "GRPCRoute", created: "2026-02-01" }),
    ]);
    expect(made.parents("b")).toEqual([fine]);
    expect(JSON.stringify(made.status("b"))).toContain(
      "but HTTPRoute shop/a is attached to listener web of Gateway shop/edge for the same host",
    );
    expect([
      made.at("*").filter((name) => name !== "no-match"),
      made.at("*", gatewayRoutes(81)).filter((name) => name !== "no-match"),
    ]).toEqual([["a"], ["b"]]);
  });

  test("when the one that speaks goes, the other does", () => {
    const made = compiled([base(web), route("b", { kind: "GRPCRoute", created: "2026-02-01" })]);
    expect([made.parents("b"), made.at("*").filter((name) => name !== "no-match")]).toEqual([[fine], ["b"]]);
  });
});

describe("which of two listeners is opened", () => {
  const fine = ["Accepted=True Accepted", "Conflicted=False NoConflicts", "ResolvedRefs=True ResolvedRefs"];
  /** Without a route only what speaks HTTP has an answer for everybody. */
  const open = (listener: string) => [
    ...fine,
    /protocol: (TCP|UDP|TLS)/.test(listener) ? "Programmed=False Pending" : "Programmed=True Programmed",
  ];
  const closed = (reason: string) => [
    "Accepted=False PortUnavailable",
    `Conflicted=True ${reason}`,
    "ResolvedRefs=True ResolvedRefs",
    "Programmed=False Invalid",
  ];
  const pass = (name: string, more = "") => `{name: ${name}, port: 80, protocol: TLS${more}, tls: {mode: Passthrough}}`;
  const cases: readonly (readonly [what: string, first: string, second: string, reason: string | null])[] = [
    ["HTTP beside TCP", web, "{name: b, port: 80, protocol: TCP}", "ProtocolConflict"],
    ["HTTP beside TLS", web, pass("b"), "ProtocolConflict"],
    ["HTTP beside UDP", web, "{name: b, port: 80, protocol: UDP}", null],
    ["HTTP beside HTTP with a host", web, '{name: b, port: 80, protocol: HTTP, hostname: "*.example.com"}', null],
    ["HTTP on another port", web, "{name: b, port: 81, protocol: TCP}", null],
    ["TLS with two names", pass("web", ", hostname: a.example.com"), pass("b", ", hostname: b.example.com"), null],
    [
      "TLS passed through beside HTTPS with the same name",
      pass("web", ", hostname: a.example.com"),
      "{name: b, port: 80, protocol: HTTPS, hostname: a.example.com, tls: {options: {weft.dev/certificate-file: /c, weft.dev/private-key-file: /k}}}",
      "HostnameConflict",
    ],
  ];
  for (const [what, first, second, reason] of cases)
    test(what, () => {
      const made = compiled([base(`${first}, ${second}`)]);
      expect(made.listeners()).toEqual({ web: open(first), b: reason === null ? open(second) : closed(reason) });
    });
});

test("two listeners that nothing tells apart are refused when they are written", () => {
  const raw = (name: string, from: string) => `{name: ${name}, port: 80, protocol: TCP, allowedRoutes: {namespaces: {from: ${from}}}}`;
  expect(() => compiled([base(`${raw("a", "All")}, ${raw("b", "Same")}`)])).toThrow("nothing tells them apart");
});

describe("references to other namespaces", () => {
  const grant = (from: string, to: string, name = "") =>
    `---\n{apiVersion: gateway.networking.k8s.io/v1beta1, kind: ReferenceGrant, metadata: {name: g, namespace: other}, spec: {from: [{group: gateway.networking.k8s.io, kind: ${from}, namespace: shop}], to: [{group: "", kind: ${to}${name === "" ? "" : `, name: ${name}`}}]}}`;
  const far = "{name: far, namespace: other, port: 80}";
  const kinds: readonly (readonly [kind: NonNullable<Route["kind"]>, listener: string, route: Route])[] = [
    ["HTTPRoute", web, { backend: far }],
    ["HTTPRoute", web, { filters: `{type: RequestMirror, requestMirror: {backendRef: ${far}}}` }],
    ["HTTPRoute", web, { filters: `{type: ExternalAuth, externalAuth: {protocol: HTTP, backendRef: ${far}, http: {}}}` }],
    [
      "HTTPRoute",
      web,
      { filters: "{type: ExternalAuth, externalAuth: {protocol: GRPC, backendRef: {name: far, namespace: other, port: 90}, grpc: {}}}" },
    ],
    ["GRPCRoute", web, { backend: far }],
    ["TCPRoute", "{name: web, port: 80, protocol: TCP}", { backend: "{name: far, namespace: other, port: 81}" }],
    ["UDPRoute", "{name: web, port: 80, protocol: UDP}", { backend: "{name: far, namespace: other, port: 53}" }],
    [
      "TLSRoute",
      "{name: web, port: 80, protocol: TLS, tls: {mode: Passthrough}}",
      { hosts: "a.example.com", backend: "{name: far, namespace: other, port: 81}" },
    ],
  ];
  for (const [kind, listener, one] of kinds)
    test(`${kind}: ${one.filters?.slice(7, 19) ?? "backend"}`, () => {
      const reason = (...more: readonly string[]) => compiled([base(listener), route("r", { kind, ...one }), ...more]).parents("r")[0]?.[1];
      expect(reason()).toBe("ResolvedRefs=False RefNotPermitted");
      expect(reason(grant(kind, "Service"))).toBe("ResolvedRefs=True ResolvedRefs");
      expect(reason(grant(kind, "Service", "far"))).toBe("ResolvedRefs=True ResolvedRefs");
      expect(reason(grant(kind, "Service", "near"))).toBe("ResolvedRefs=False RefNotPermitted");
      expect(reason(grant(kind === "HTTPRoute" ? "GRPCRoute" : "HTTPRoute", "Service"))).toBe("ResolvedRefs=False RefNotPermitted");
    });

  test("a Gateway's certificate", () => {
    const listener = "{name: web, port: 443, protocol: HTTPS, tls: {certificateRefs: [{name: c, namespace: other}]}}";
    const reason = (...more: readonly string[]) => compiled([base(listener), ...more]).listeners().web?.[2];
    expect(reason()).toBe("ResolvedRefs=False RefNotPermitted");
    expect(reason(grant("Gateway", "Secret"))).toBe("ResolvedRefs=False InvalidCertificateRef");
    expect(reason(grant("HTTPRoute", "Secret"))).toBe("ResolvedRefs=False RefNotPermitted");
  });
});
