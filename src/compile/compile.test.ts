// Reads the compiler's own output back and checks the facts that matter, apart from the goldens, which check everything at once.

import { describe, expect, test } from "bun:test";
import type { XdsSnapshot } from "../wire/xds-types.ts";
import { buildWorld, compileAll } from "./compile.ts";
import { resourceToJson } from "./decode.ts";
import { JoinedMap } from "./snapshot.ts";
import { objectsOf } from "./testing/objects.ts";

type Json = Record<string, unknown>;

function compiled(yaml: string, trustDomain = "cluster.local") {
  return compileAll(buildWorld(objectsOf(yaml), trustDomain));
}

function virtualHosts(
  snapshot: XdsSnapshot | undefined,
  table = "outbound-http-proxy",
): { name: string; domains: string[]; routes: Json[] }[] {
  return resourceToJson(snapshot!.resources.route.get(table)!).virtual_hosts as never;
}

/** Paths and weights of a virtual host's routes, in order, without CONNECT. */
function routes(snapshot: XdsSnapshot | undefined, host: string): string[] {
  const found = virtualHosts(snapshot).find((each) => each.name === host)!;
  return found.routes.filter((route) => (route.match as Json).connect_matcher === undefined).map((route) => `${route.name}`);
}

const base = `
apiVersion: v1
kind: Service
metadata: {name: cart, namespace: shop}
spec: {selector: {app: cart}, ports: [{name: http, port: 80}, {name: tcp, port: 5432}]}
---
apiVersion: v1
kind: Service
metadata: {name: other, namespace: shop}
spec: {selector: {app: other}, ports: [{name: http, port: 8080}]}
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata:
  name: cart-1
  namespace: shop
  labels: {app: cart, security.istio.io/tlsMode: istio}
  annotations: {weft.dev/inbound: "http=8000,tcp=8001", weft.dev/http-proxy-port: "41001"}
spec: {address: 127.0.0.1, ports: {http: 40001, tcp: 40002}, serviceAccount: cart}
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: away, namespace: bank, annotations: {weft.dev/http-proxy-port: "41002"}}
spec: {address: 127.0.0.1}
---
`;

describe("names in the forward proxy's table", () => {
  test("the short name belongs to the own namespace, and to port 80 or the first", () => {
    const { snapshots } = compiled(base);
    const domains = (key: string, host: string) => virtualHosts(snapshots.get(key)).find((each) => each.name === host)!.domains;
    expect(domains("shop/cart-1", "cart.shop.svc.cluster.local:80")).toEqual(
      ["cart", "cart.shop", "cart.shop.svc", "cart.shop.svc.cluster.local"]
        .flatMap((name) => [name])
        .concat(["cart:80", "cart.shop:80", "cart.shop.svc:80", "cart.shop.svc.cluster.local:80"]),
    );
    expect(domains("bank/away", "cart.shop.svc.cluster.local:80")).not.toContain("cart");
    expect(domains("shop/cart-1", "cart.shop.svc.cluster.local:5432")).toEqual([
      "cart:5432",
      "cart.shop:5432",
      "cart.shop.svc:5432",
      "cart.shop.svc.cluster.local:5432",
    ]);
    expect(domains("shop/cart-1", "other.shop.svc.cluster.local:8080")).toContain("other");
  });

  test("no domain stands in two virtual hosts, as Envoy wants", () => {
    for (const snapshot of compiled(base).snapshots.values()) {
      const all = virtualHosts(snapshot).flatMap((each) => each.domains);
      expect(new Set(all).size).toBe(all.length);
    }
  });
});

describe("clusters", () => {
  const identities = (yaml: string): unknown => {
    const cluster = resourceToJson(
      compiled(yaml).snapshots.get("bank/away")!.resources.cluster.get("outbound|80||cart.shop.svc.cluster.local")!,
    );
    const text = JSON.stringify(cluster);
    return [...text.matchAll(/"exact":"([^"]+)"/g)].map((match) => match[1]);
  };

  test("name whom to expect, also while every endpoint is down", () => {
    expect(identities(base)).toEqual(["spiffe://cluster.local/ns/shop/sa/cart"]);
    const down = base.replace(
      "serviceAccount: cart}",
      'serviceAccount: cart}\nstatus: {conditions: [{type: Healthy, status: "False", reason: Down, message: ""}]}',
    );
    expect(identities(down)).toEqual(["spiffe://cluster.local/ns/shop/sa/cart"]);
  });

  test("of a service without workloads trust nobody", () => {
    expect(
      identities(
        base.replace("name: cart-1", "name: cart-1\n  labels: {}").replace("labels: {app: cart, security.istio.io/tlsMode: istio}", ""),
      ),
    ).toEqual(["spiffe://cluster.local/none"]);
  });

  test("an entry whose health is reported is no endpoint before the first report", () => {
    const endpoints = (yaml: string): string => {
      const found = compiled(yaml).snapshots.get("bank/away")!.resources.endpoint.get("outbound|80||cart.shop.svc.cluster.local")!;
      return JSON.stringify(resourceToJson(found));
    };
    expect(endpoints(base)).toContain("40001");
    const reported = base.replace('weft.dev/http-proxy-port: "41001"}', 'weft.dev/http-proxy-port: "41001", weft.dev/health: reported}');
    expect(endpoints(reported)).not.toContain("40001");
    const healthy = reported.replace(
      "serviceAccount: cart}",
      'serviceAccount: cart}\nstatus: {conditions: [{type: Healthy, status: "True", reason: Up, message: ""}]}',
    );
    expect(endpoints(healthy)).toContain("40001");
  });

  test("are shared by all workloads as one object", () => {
    const { snapshots } = compiled(base);
    const name = "outbound|80||cart.shop.svc.cluster.local";
    expect(snapshots.get("shop/cart-1")!.resources.cluster.get(name)).toBe(snapshots.get("bank/away")!.resources.cluster.get(name)!);
  });
});

describe("HTTPRoute", () => {
  const route = (name: string, rules: string, created = "2026-01-01T00:00:00Z") => `
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: ${name}, namespace: shop, creationTimestamp: "${created}"}
spec:
  parentRefs: [{group: "", kind: Service, name: cart}]
  rules: ${rules}
---
`;
  const to = "backendRefs: [{name: cart, port: 80}]";
  const rule = (name: string, match: string) => `{name: ${name}, matches: [${match}], ${to}}`;

  test("precedence: exact, regular expression, longest prefix, method, headers, query, age, name", () => {
    const yaml =
      base +
      route("younger", `[${rule("tie", "{path: {value: /items}}")}]`, "2026-02-01T00:00:00Z") +
      route("b-same-age", `[${rule("tie", "{path: {value: /tie}}")}]`) +
      route("a-same-age", `[${rule("tie", "{path: {value: /tie}}")}]`) +
      route(
        "older",
        `[${[
          rule("root", "{path: {value: /}}"),
          rule("prefix", "{path: {value: /items}}"),
          rule("query", "{path: {value: /items}, queryParams: [{name: q, value: v}]}"),
          rule("header", "{path: {value: /items}, headers: [{name: a, value: b}]}"),
          rule("headers", "{path: {value: /items}, headers: [{name: a, value: b}, {name: c, value: d}]}"),
          rule("method", "{path: {value: /items}, method: GET}"),
          rule("longer", "{path: {value: /items/more}}"),
          rule("regex", '{path: {type: RegularExpression, value: "/items/.*"}}'),
          rule("exact", "{path: {type: Exact, value: /x}}"),
        ].join(",")}]`,
      );
    expect(routes(compiled(yaml).snapshots.get("shop/cart-1"), "cart.shop.svc.cluster.local:80")).toEqual([
      "shop/older/exact",
      "shop/older/regex",
      "shop/older/longer",
      "shop/older/method",
      "shop/older/headers",
      "shop/older/header",
      "shop/older/query",
      "shop/older/prefix",
      "shop/younger/tie",
      "shop/a-same-age/tie",
      "shop/b-same-age/tie",
      "shop/older/root",
    ]);
  });

  test("what no rule matches is answered with 404, and the tunnel still leads to the service", () => {
    const snapshot = compiled(base + route("part", `[${rule("x", "{path: {value: /x}}")}]`)).snapshots.get("shop/cart-1");
    const host = virtualHosts(snapshot).find((each) => each.name === "cart.shop.svc.cluster.local:80")!;
    expect(host.routes.at(-1)).toMatchObject({ name: "no-match", direct_response: { status: 404 } });
    expect(host.routes[0]).toMatchObject({
      match: { connect_matcher: {} },
      route: { cluster: "outbound|80||cart.shop.svc.cluster.local" },
    });
  });

  test("a route on all ports leaves tcp ports alone", () => {
    const snapshot = compiled(base + route("all", `[${rule("x", "{path: {value: /x}}")}]`)).snapshots.get("shop/cart-1");
    expect(routes(snapshot, "cart.shop.svc.cluster.local:5432")).toEqual(["default"]);
  });

  test("references are told apart in the status, and a lost share is a 500", () => {
    const yaml =
      base +
      route("split", "[{backendRefs: [{name: cart, port: 80, weight: 9}, {name: gone, port: 80}]}]").replace(
        "name: cart}]\n  rules",
        "name: cart}, {group: '', kind: Service, name: nowhere}]\n  rules",
      );
    const { snapshots, statuses } = compiled(yaml);
    const said = statuses.find((each) => each.name === "split")!.status as {
      parents: { controllerName: string; conditions: { type: string; status: string; reason: string; observedGeneration: number }[] }[];
    };
    expect(said.parents.map((parent) => parent.conditions.map((each) => `${each.type}=${each.status} ${each.reason}`))).toEqual([
      ["Accepted=True Accepted", "ResolvedRefs=False BackendNotFound"],
      ["Accepted=False NoMatchingParent", "ResolvedRefs=False BackendNotFound"],
    ]);
    expect(said.parents[0]!.controllerName).toBe("weft.dev/mesh");
    const host = virtualHosts(snapshots.get("shop/cart-1")).find((each) => each.name === "cart.shop.svc.cluster.local:80")!;
    expect(host.routes[1]).toMatchObject({
      route: {
        cluster_not_found_response_code: "INTERNAL_SERVER_ERROR",
        weighted_clusters: {
          clusters: [
            { name: "outbound|80||cart.shop.svc.cluster.local", weight: 9 },
            { name: "unresolved|80||gone.shop.svc.cluster.local", weight: 1 },
          ],
        },
      },
    });
  });

  test("a backend in another namespace needs a grant that cannot be given yet", () => {
    const yaml =
      base.replace("name: other, namespace: shop", "name: other, namespace: bank") +
      route("far", "[{backendRefs: [{name: other, namespace: bank, port: 8080}]}]");
    const { snapshots, statuses } = compiled(yaml);
    expect(JSON.stringify(statuses)).toContain('"RefNotPermitted"');
    const host = virtualHosts(snapshots.get("shop/cart-1")).find((each) => each.name === "cart.shop.svc.cluster.local:80")!;
    expect(host.routes[1]).toMatchObject({ direct_response: { status: 500 } });
  });

  for (const [prefix, replacement, wanted] of [
    ["/foo", "/xyz", [["path_separated_prefix", "/foo", "/xyz"]]],
    ["/foo/", "/xyz", [["path_separated_prefix", "/foo", "/xyz"]]],
    [
      "/foo",
      "/",
      [
        ["path", "/foo", "/"],
        ["prefix", "/foo/", "/"],
      ],
    ],
    [
      "/foo",
      "",
      [
        ["path", "/foo", "/"],
        ["prefix", "/foo/", "/"],
      ],
    ],
    [
      "/foo",
      "/xyz/",
      [
        ["path", "/foo", "/xyz/"],
        ["prefix", "/foo/", "/xyz/"],
      ],
    ],
    ["/", "/xyz", [["prefix", "/", "/xyz/"]]],
  ] as const) {
    test(`prefix ${prefix} replaced by "${replacement}"`, () => {
      const filter = `filters: [{type: URLRewrite, urlRewrite: {path: {type: ReplacePrefixMatch, replacePrefixMatch: "${replacement}"}}}]`;
      const snapshot = compiled(base + route("rewrite", `[{matches: [{path: {value: ${prefix}}}], ${filter}, ${to}}]`)).snapshots.get(
        "shop/cart-1",
      );
      const host = virtualHosts(snapshot).find((each) => each.name === "cart.shop.svc.cluster.local:80")!;
      const got = host.routes
        .filter((each) => each.name === "shop/rewrite/0")
        .map((each) => [...Object.entries(each.match as Json).flat(), (each.route as Json).prefix_rewrite]);
      expect(got as unknown).toEqual(wanted);
    });
  }
});

describe("AuthorizationPolicy", () => {
  const policy = (name: string, namespace: string, spec: string) => `
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: ${name}, namespace: ${namespace}}
spec: ${spec}
---
`;
  /** `ALLOW:names`, `DENY:names` of each RBAC filter of a port, in order. */
  const filters = (yaml: string, port: "http" | "tcp", trustDomain?: string): { order: string[]; text: string } => {
    const listener = resourceToJson(
      compiled(base + yaml, trustDomain)
        .snapshots.get("shop/cart-1")!
        .resources.listener.get(`inbound|${port}`)!,
    );
    const found: string[] = [];
    const look = (value: unknown): void => {
      if (Array.isArray(value)) value.forEach(look);
      else if (typeof value === "object" && value !== null) {
        if (String((value as Json)["@type"]).endsWith("rbac.v3.RBAC")) {
          const rules = ((value as Json).rules ?? {}) as Json;
          found.push(`${rules.action ?? "ALLOW"}:${Object.keys((rules.policies ?? {}) as Json).join(" ")}`);
        }
        Object.values(value).forEach(look);
      }
    };
    look(listener);
    return { order: found, text: JSON.stringify(listener) };
  };

  test("without any policy there is no filter", () => expect(filters("", "http").order).toEqual([]));

  test("DENY comes before ALLOW; reach is mesh, namespace, selector", () => {
    const yaml =
      policy("mesh", "weft-system", "{action: DENY, rules: [{to: [{operation: {methods: [TRACE]}}]}]}") +
      policy("space", "shop", "{rules: [{from: [{source: {namespaces: [shop]}}]}]}") +
      policy("mine", "shop", "{selector: {matchLabels: {app: cart}}, rules: [{from: [{source: {namespaces: [ops]}}]}]}") +
      policy("theirs", "shop", "{selector: {matchLabels: {app: other}}, rules: [{}]}") +
      policy("elsewhere", "bank", "{rules: [{}]}");
    expect(filters(yaml, "http").order).toEqual([
      "DENY:ns[weft-system]-policy[mesh]-rule[0]",
      "ALLOW:ns[shop]-policy[mine]-rule[0] ns[shop]-policy[space]-rule[0]",
    ]);
  });

  test("the empty policy allows nothing", () => {
    const { order, text } = filters(policy("nothing", "shop", "{}"), "http");
    expect(order).toEqual(["ALLOW:"]);
    // The rules are there and empty: a filter without rules would let everything pass.
    expect(text).toContain('"rules":{}');
  });

  test("on a tcp port an ALLOW rule about requests allows nothing, a DENY rule denies without them", () => {
    expect(filters(policy("get", "shop", "{rules: [{to: [{operation: {methods: [GET]}}]}]}"), "tcp").order).toEqual(["ALLOW:"]);
    const deny = filters(
      policy("get", "shop", "{action: DENY, rules: [{from: [{source: {namespaces: [ops]}}], to: [{operation: {methods: [GET]}}]}]}"),
      "tcp",
    );
    expect(deny.order).toEqual(["DENY:ns[shop]-policy[get]-rule[0]"]);
    expect(deny.text).toContain('"permissions":[{"any":true}]');
    expect(deny.text).toContain("spiffe://cluster.local/ns/ops/");
  });

  test("and the policy's status says so", () => {
    const { statuses } = compiled(base + policy("get", "shop", "{rules: [{to: [{operation: {methods: [GET]}}]}]}"));
    expect(JSON.stringify(statuses)).toContain(
      "rules[0] test HTTP requests, but port tcp of shop/cart-1 carries opaque TCP: the rules allow nothing there",
    );
  });

  test("ports are the application's, decided when compiling", () => {
    const only = (port: number) => policy("port", "shop", `{rules: [{to: [{operation: {ports: ["${port}"]}}]}]}`);
    expect(filters(only(8000), "http").order).toEqual(["ALLOW:ns[shop]-policy[port]-rule[0]"]);
    expect(filters(only(8001), "http").order).toEqual(["ALLOW:"]);
    expect(filters(only(8001), "tcp").order).toEqual(["ALLOW:ns[shop]-policy[port]-rule[0]"]);
    expect(filters(policy("port", "shop", '{rules: [{to: [{operation: {notPorts: ["8000"]}}]}]}'), "http").order).toEqual(["ALLOW:"]);
  });

  test("cluster.local in a principal stands for the mesh's own trust domain", () => {
    const yaml = policy("p", "shop", "{rules: [{from: [{source: {principals: [cluster.local/ns/shop/sa/a, other.org/ns/shop/sa/a]}}]}]}");
    const { text } = filters(yaml, "http", "mesh.example");
    expect(text).toContain('"exact":"spiffe://mesh.example/ns/shop/sa/a"');
    expect(text).toContain('"exact":"spiffe://other.org/ns/shop/sa/a"');
  });
});

test("two maps seen as one behave as a map", () => {
  const joined = new JoinedMap(
    new Map([["a", 1]]),
    new Map([
      ["b", 2],
      ["c", 3],
    ]),
  );
  expect([...joined]).toEqual([
    ["a", 1],
    ["b", 2],
    ["c", 3],
  ]);
  expect([...joined.keys()].join("")).toBe("abc");
  expect([...joined.values()]).toEqual([1, 2, 3]);
  expect([joined.size, joined.get("c"), joined.get("x"), joined.has("a"), joined.has("x")]).toEqual([3, 3, undefined, true, false]);
  const seen: string[] = [];
  joined.forEach((value, key) => {
    seen.push(`${key}${value}`);
  });
  expect(seen).toEqual(["a1", "b2", "c3"]);
});

test("a port that speaks HTTP/2 gets clusters that do, on both sides, and routes like any HTTP", () => {
  const { snapshots } = compiled(`
apiVersion: v1
kind: Service
metadata: {name: api, namespace: shop}
spec: {selector: {app: api}, ports: [{name: grpc-main, port: 50051}, {name: web, port: 80, appProtocol: kubernetes.io/h2c}, {name: plain, port: 81, appProtocol: mongo}]}
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata:
  name: api-1
  namespace: shop
  labels: {app: api, security.istio.io/tlsMode: istio}
  annotations: {weft.dev/inbound: "grpc-main=8000", weft.dev/http-proxy-port: "41001"}
spec: {address: 127.0.0.1, ports: {grpc-main: 40001}, serviceAccount: api}
`);
  const snapshot = snapshots.get("shop/api-1")!;
  const options = (name: string) =>
    resourceToJson(snapshot.resources.cluster.get(name)!).typed_extension_protocol_options as Json | undefined;
  const http2 = {
    "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
    explicit_http_config: { http2_protocol_options: {} },
  };
  const host = "api.shop.svc.cluster.local";
  for (const name of [`outbound|50051||${host}`, `outbound|80||${host}`, "inbound|8000||"])
    expect(options(name)?.["envoy.extensions.upstreams.http.v3.HttpProtocolOptions"], name).toEqual(http2);
  expect(options(`outbound|81||${host}`)).toBeUndefined();
  expect(virtualHosts(snapshot).map((each) => each.name)).toContain(`${host}:50051`);
});

test("a workload that takes plain text only is called in plain text, port by port", () => {
  const { snapshots } = compiled(`${base}
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: cart, namespace: shop}
spec:
  selector: {matchLabels: {app: cart}}
  portLevelMtls: {"8001": {mode: DISABLE}}
`);
  const assignment = (port: number) =>
    JSON.stringify(resourceToJson(snapshots.get("shop/cart-1")!.resources.endpoint.get(`outbound|${port}||cart.shop.svc.cluster.local`)!));
  expect(assignment(80)).toContain('"tlsMode":"istio"');
  expect(assignment(5432)).not.toContain('"tlsMode"');
});
