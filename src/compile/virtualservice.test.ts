// VirtualService: what is refused and by which path, who is spoken to, the switch for faults.

import { describe, expect, test } from "bun:test";
import type { KubeObject } from "../api/meta.ts";
import { outboundCluster } from "../wire/names.ts";
import { admit } from "./admit.ts";
import { callerOf } from "./plan/caller.ts";
import { gatewayPlan } from "./policies/gateway-plan.ts";
import { audienceOf, routesFor } from "./policies/httproute.ts";
import { virtualVerdict } from "./policies/virtualservice-verdict.ts";
import { objectsOf, violationsOf } from "./testing/objects.ts";
import { buildWorld } from "./world.ts";

function service(name: string, namespace: string): string {
  return `
apiVersion: v1
kind: Service
metadata: {name: ${name}, namespace: ${namespace}}
spec: {selector: {app: ${name}}, ports: [{name: http, port: 80}]}
---`;
}

function virtual(name: string, spec: string, namespace = "shop"): string {
  return `
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: ${name}, namespace: ${namespace}, creationTimestamp: "2026-01-01T00:00:00Z"}
spec: ${spec}
---`;
}

const allowed = `
apiVersion: v1
kind: Namespace
metadata: {name: weft-system, labels: {weft.dev/fault-injection: enabled}}
---`;

const to = "route: [{destination: {host: reviews}}]";

/** Paths of what is wrong with a VirtualService of this spec. */
function wrong(spec: object): string[] {
  const object = {
    apiVersion: "networking.istio.io/v1",
    kind: "VirtualService",
    metadata: { name: "v", namespace: "shop" },
    spec,
  } as KubeObject;
  return violationsOf(object).map(({ path }) => path);
}

const route = { route: [{ destination: { host: "reviews" } }] };

describe("what is refused", () => {
  const cases: readonly (readonly [string, object, string])[] = [
    ["no route", { hosts: ["reviews"] }, "spec.http"],
    ["no name", { hosts: ["review s"], http: [route] }, "spec.hosts[0]"],
    ["a name of the mesh that no Service has", { hosts: ["a.b.c.svc.cluster.local"], http: [route] }, "spec.hosts[0]"],
    ["a gateway that is no name", { hosts: ["reviews"], gateways: ["a/b/c"], http: [route] }, "spec.gateways[0]"],
    ["exportTo nobody", { hosts: ["reviews"], exportTo: ["~"], http: [route] }, "spec.exportTo[0]"],
    ["exportTo no name", { hosts: ["reviews"], exportTo: ["Bank"], http: [route] }, "spec.exportTo[0]"],
    ["a delegate with gateways", { gateways: ["edge"], http: [route] }, "spec.gateways"],
    ["a delegate beside a route", { hosts: ["reviews"], http: [{ ...route, delegate: { name: "other" } }] }, "spec.http[0]"],
    ["a delegate without name", { hosts: ["reviews"], http: [{ delegate: { namespace: "bank" } }] }, "spec.http[0].delegate.name"],
    [
      "an expression before a delegate",
      { hosts: ["reviews"], http: [{ match: [{ uri: { regex: "/a" } }], delegate: { name: "other" } }] },
      "spec.http[0].match[0].uri.regex",
    ],
    ["tls without names", { hosts: ["reviews"], tls: [{ ...route, match: [{ port: 443 }] }] }, "spec.tls[0].match[0].sniHosts"],
    ["tls without a match", { hosts: ["reviews"], tls: [route] }, "spec.tls[0].match"],
    [
      "a name beside the hosts",
      { hosts: ["a.example"], tls: [{ ...route, match: [{ sniHosts: ["b.example"] }] }] },
      "spec.tls[0].match[0].sniHosts[0]",
    ],
    ["tcp without a destination", { hosts: ["reviews"], tcp: [{}] }, "spec.tcp[0].route"],
    [
      "tcp by address",
      { hosts: ["reviews"], tcp: [{ ...route, match: [{ sourceSubnet: "10.0.0.0/8" }] }] },
      "spec.tcp[0].match[0].sourceSubnet",
    ],
    [
      "a gateway in a match that the object does not name",
      { hosts: ["reviews"], http: [{ ...route, match: [{ gateways: ["edge"] }] }] },
      "spec.http[0].match[0].gateways[0]",
    ],
    [
      "labels of callers where nobody is a sidecar",
      { hosts: ["reviews"], gateways: ["edge"], http: [{ ...route, match: [{ sourceLabels: { app: "a" } }] }] },
      "spec.http[0].match[0].sourceLabels",
    ],
    [
      "a share by its old name",
      { hosts: ["reviews"], http: [{ ...route, mirror: { host: "a" }, mirror_percent: 5 }] },
      "spec.http[0].mirror_percent",
    ],
    ["two actions", { hosts: ["reviews"], http: [{ ...route, directResponse: { status: 200 } }] }, "spec.http[0]"],
    [
      "weights of 0",
      {
        hosts: ["reviews"],
        http: [
          {
            route: [
              { ...route.route[0], weight: 0 },
              { ...route.route[0], weight: 0 },
            ],
          },
        ],
      },
      "spec.http[0].route",
    ],
    ["an expression", { hosts: ["reviews"], http: [{ ...route, match: [{ uri: { regex: "(" } }] }] }, "spec.http[0].match[0].uri.regex"],
    [
      "two kinds of match",
      { hosts: ["reviews"], http: [{ ...route, match: [{ uri: { exact: "/", prefix: "/" } }] }] },
      "spec.http[0].match[0].uri",
    ],
    [
      "a rewrite of an expression",
      { hosts: ["reviews"], http: [{ ...route, match: [{ uri: { regex: "/a" } }], rewrite: { uri: "/" } }] },
      "spec.http[0].rewrite.uri",
    ],
    ["a retry word", { hosts: ["reviews"], http: [{ ...route, retries: { retryOn: "whatever" } }] }, "spec.http[0].retries.retryOn"],
    [
      "a command in a header",
      { hosts: ["reviews"], http: [{ ...route, headers: { request: { set: { "x-a": "%DOWNSTREAM_REMOTE_ADDRESS%" } } } }] },
      "spec.http[0].headers.request.set.x-a",
    ],
    ["a time-out", { hosts: ["reviews"], http: [{ ...route, timeout: "soon" }] }, "spec.http[0].timeout"],
    [
      "a percentage",
      { hosts: ["reviews"], http: [{ ...route, mirror: { host: "a" }, mirrorPercentage: { value: 101 } }] },
      "spec.http[0].mirrorPercentage.value",
    ],
    [
      "a fault of two kinds",
      { hosts: ["reviews"], http: [{ ...route, fault: { abort: { httpStatus: 500, grpcStatus: "INTERNAL" } } }] },
      "spec.http[0].fault.abort",
    ],
    [
      "a redirect code",
      { hosts: ["reviews"], http: [{ redirect: { uri: "/", redirectCode: 304 } }] },
      "spec.http[0].redirect.redirectCode",
    ],
    ["a field that nobody knows", { hosts: ["reviews"], http: [{ ...route, rout: [] }] }, "spec.http[0].rout"],
  ];
  for (const [name, spec, path] of cases) test(name, () => expect(wrong(spec)).toContain(path));

  test("nothing of a plain one", () => expect(wrong({ hosts: ["reviews", "other.bank.svc.cluster.local"], http: [route] })).toEqual([]));
});

describe("who is spoken to", () => {
  const reviews = outboundCluster(80, "reviews.shop.svc.cluster.local");
  const names = (yaml: string, namespace: string): string[] | undefined => {
    const world = buildWorld(objectsOf(service("reviews", "shop") + yaml), "cluster.local");
    return routesFor(world, reviews, audienceOf(world, reviews, namespace))?.map((one) => one.name);
  };

  test("everybody, of a Service of its own namespace", () => {
    const yaml = virtual("v", `{hosts: [reviews], http: [{${to}}]}`);
    expect([names(yaml, "shop"), names(yaml, "bank")]).toEqual([["shop/v/0"], ["shop/v/0"]]);
  });

  test("its own namespace, with exportTo . or for a Service of another", () => {
    const own = virtual("v", `{hosts: [reviews], exportTo: ["."], http: [{${to}}]}`);
    expect([names(own, "shop"), names(own, "bank")]).toEqual([["shop/v/0"], undefined]);
    const foreign = virtual("v", `{hosts: [reviews.shop.svc.cluster.local], http: [{${to}}]}`, "bank");
    expect([names(foreign, "shop"), names(foreign, "bank")]).toEqual([undefined, ["bank/v/0"]]);
  });

  test("sourceNamespace and port choose rules", () => {
    const yaml = virtual(
      "v",
      `{hosts: [reviews], http: [{match: [{sourceNamespace: bank}], ${to}}, {match: [{port: 81}], ${to}}, {name: rest, ${to}}]}`,
    );
    expect([names(yaml, "shop"), names(yaml, "bank")]).toEqual([["shop/v/rest"], ["shop/v/0", "shop/v/rest"]]);
  });

  test("words of retryOn go on as they are, codes apart", () => {
    const retryOn = "connect-failure,reset-before-request,retriable-4xx,503";
    expect(wrong({ hosts: ["reviews"], http: [{ ...route, retries: { retryOn } }] })).toEqual([]);
    const yaml = virtual("v", `{hosts: [reviews], http: [{retries: {attempts: 3, retryOn: "${retryOn}"}, ${to}}]}`);
    const world = buildWorld(objectsOf(service("reviews", "shop") + yaml), "cluster.local");
    const [plan] = routesFor(world, reviews, audienceOf(world, reviews, "shop")) ?? [];
    expect(plan?.action).toMatchObject({
      retry: { attempts: 3, on: ["connect-failure", "reset-before-request", "retriable-4xx"], onlyOn: true, codes: [503] },
    });
  });

  test("an HTTPRoute on the port goes before it", () => {
    const route = `
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: r, namespace: shop}
spec: {parentRefs: [{group: "", kind: Service, name: reviews}], rules: [{backendRefs: [{name: reviews, port: 80}]}]}
---`;
    expect(names(virtual("v", `{hosts: [reviews], http: [{${to}}]}`) + route, "shop")).toEqual(["shop/r/0"]);
  });
});

describe("faults", () => {
  const spec = `{hosts: [reviews], http: [{fault: {abort: {httpStatus: 503}}, ${to}}]}`;
  const fault = (yaml: string) => {
    const world = buildWorld(objectsOf(service("reviews", "shop") + yaml), "cluster.local");
    return {
      routes: routesFor(world, outboundCluster(80, "reviews.shop.svc.cluster.local"), "")?.map((one) => one.fault?.abort?.status.value),
      status: virtualVerdict(world, "shop/v")?.faults,
    };
  };

  test("are left out until the mesh allows them, and the status says so", () => {
    expect(fault(virtual("v", spec))).toEqual({ routes: [undefined], status: false });
    expect(fault(allowed + virtual("v", spec))).toEqual({ routes: [503], status: true });
  });

  test("without a field come in an annotation, by route", () => {
    const annotated = (text: string) =>
      ({
        apiVersion: "networking.istio.io/v1",
        kind: "VirtualService",
        metadata: { name: "v", namespace: "shop", annotations: { "weft.dev/faults": text } },
        spec: {
          hosts: ["reviews"],
          http: [
            { name: "a", ...route },
            { name: "b", ...route },
          ],
        },
      }) as KubeObject;
    const said = (text: string) => violationsOf(annotated(text)).map(({ message }) => message);
    expect(said("a reset=1%, b rate=64KiB/s@50% client=spiffe://m/ns/shop/sa/*")).toEqual([]);
    expect(said("c reset=1%")).toEqual(['there is no route "c" in spec.http']);
    expect(said("a reset=1")[0]).toContain("is none of reset=1%");
    expect(said("a client=spiffe://m/x")[0]).toContain("has clients but no fault");
    const world = buildWorld(
      [...objectsOf(allowed + service("reviews", "shop")), annotated("a reset=1%, b rate=64KiB/s@50% client=spiffe://m/ns/shop/sa/*")],
      "cluster.local",
    );
    const routes = routesFor(world, outboundCluster(80, "reviews.shop.svc.cluster.local"), "");
    expect(routes?.map((one) => one.fault)).toEqual([
      { resetPerMillion: 10_000 },
      { bandwidth: { kibPerSecond: 64, perMillion: 500_000 }, clients: [{ kind: "prefix", value: "spiffe://m/ns/shop/sa/" }] },
    ]);
  });

  test("are refused when they come to a mesh that does not allow them; so is a second object for a host", () => {
    const said = (yaml: string): string[] => {
      const objects = objectsOf(yaml);
      const candidate = objects.pop() as KubeObject;
      return admit(buildWorld(objects, "cluster.local"), candidate).map(({ path, message }) => `${path}: ${message}`);
    };
    expect(said(virtual("v", spec))).toEqual([
      "spec.http[0].fault: faults are switched off in this mesh; give the namespace weft-system the label weft.dev/fault-injection: enabled to allow them",
    ]);
    expect(said(allowed + virtual("v", spec))).toEqual([]);
    expect(
      said(
        virtual("other", `{hosts: [reviews.shop.svc.cluster.local], http: [{${to}}]}`) +
          virtual("v", `{hosts: [reviews], http: [{${to}}]}`),
      ),
    ).toEqual([
      "spec.hosts[0]: VirtualService shop/other speaks about reviews.shop.svc.cluster.local already, and one decides; put the routes into that one",
    ]);
  });
});

describe("delegation", () => {
  const root = (name: string, to: string) =>
    virtual(name, `{hosts: [reviews], http: [{match: [{uri: {prefix: /a}}], delegate: {name: ${to}}}]}`);
  const said = (yaml: string): string[] => {
    const objects = objectsOf(yaml);
    const candidate = objects.pop() as KubeObject;
    return admit(buildWorld(objects, "cluster.local"), candidate).map(({ path, message }) => `${path}: ${message}`);
  };

  test("whoever closes a circle is refused, with the other's name", () => {
    const b = virtual("b", "{http: [{delegate: {name: c}}]}");
    const c = virtual("c", "{http: [{delegate: {name: b}}]}");
    expect(said(b + c)).toEqual([
      "spec.http[0].delegate: VirtualService shop/b delegates back to shop/c, and a circle leads nowhere; take one of the delegations out",
    ]);
    expect(said(virtual("d", "{http: [{delegate: {name: d}}]}"))[0]).toContain("VirtualService shop/d is this one");
    expect(said(root("a", "b") + b)).toEqual([]);
  });

  test("a circle that is there all the same leads nowhere, and the status names both", () => {
    const yaml =
      service("reviews", "shop") +
      root("a", "b") +
      virtual("b", "{http: [{delegate: {name: c}}]}") +
      virtual("c", "{http: [{delegate: {name: b}}]}");
    const world = buildWorld(objectsOf(yaml), "cluster.local");
    expect(routesFor(world, outboundCluster(80, "reviews.shop.svc.cluster.local"), "")).toBeUndefined();
    expect(virtualVerdict(world, "shop/a")?.delegation).toEqual([
      "VirtualService shop/c spec.http[0].delegate: VirtualService shop/c delegates to shop/b, which delegates back to it (shop/a → shop/b → shop/c → shop/b)",
    ]);
  });

  test("one that is not exported to the root's namespace is not followed", () => {
    const yaml =
      service("reviews", "shop") +
      virtual("a", "{hosts: [reviews], http: [{delegate: {name: t, namespace: teams}}]}") +
      virtual("t", `{exportTo: [bank], http: [{${to}}]}`, "teams");
    expect(virtualVerdict(buildWorld(objectsOf(yaml), "cluster.local"), "shop/a")?.delegation).toEqual([
      "spec.http[0].delegate: VirtualService teams/t is not exported to namespace shop of shop/a",
    ]);
  });
});

describe("callers told apart", () => {
  const reviews = outboundCluster(80, "reviews.shop.svc.cluster.local");
  const workload = (name: string, labels: string, namespace = "shop") => `
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: ${name}, namespace: ${namespace}, labels: ${labels}}
spec: {address: 127.0.0.1}
---`;
  const yaml =
    service("reviews", "shop") +
    workload("a", "{app: a, tier: gold}") +
    workload("b", "{app: b}") +
    workload("c", "{app: c}") +
    virtual("v", `{hosts: [reviews], http: [{name: gold, match: [{sourceLabels: {tier: gold}}], ${to}}, {name: rest, ${to}}]}`);

  test("by the labels that some rule asks about, and by no others", () => {
    const world = buildWorld(objectsOf(yaml), "cluster.local");
    const [a, b, c] = ["a", "b", "c"].map((name) => callerOf(world, `shop/${name}`));
    expect([a, b, c]).toEqual(['shop{"tier":"gold"}', "shop", "shop"]);
    const names = (caller = "") => routesFor(world, reviews, audienceOf(world, reviews, caller))?.map(({ name }) => name);
    expect([names(a), names(b)]).toEqual([["shop/v/gold", "shop/v/rest"], ["shop/v/rest"]]);
  });

  test("exportTo names whose callers are meant, and what is for some goes before what is for all", () => {
    const more =
      virtual("some", `{hosts: [reviews], exportTo: [bank, teams], http: [{${to}}]}`) +
      virtual("all", `{hosts: [reviews], http: [{${to}}]}`) +
      service("reviews", "shop");
    const world = buildWorld(objectsOf(more), "cluster.local");
    const names = (caller: string) => routesFor(world, reviews, audienceOf(world, reviews, caller))?.map(({ name }) => name);
    expect([names("bank"), names("teams"), names("shop")]).toEqual([["shop/some/0"], ["shop/some/0"], ["shop/all/0"]]);
    expect(virtualVerdict(world, "shop/all")?.accepted).toBe(true);
  });
});

test("those bound to a Gateway for one host are one there, what takes everything last; what stands behind an older one is told", () => {
  const edge = `
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: edge, namespace: shop}
spec: {gatewayClassName: weft, listeners: [{name: web, port: 80, protocol: HTTP}]}
---`;
  const bound = (name: string, day: number, http: string) =>
    virtual(name, `{hosts: [a.example], gateways: [edge], http: [${http}]}`).replace("2026-01-01", `2026-01-0${day}`);
  const first = bound("first", 1, `{match: [{uri: {prefix: /a}}], ${to}}, {name: rest, ${to}}`);
  const second = bound(
    "second",
    2,
    `{name: b, match: [{uri: {prefix: /b}}], ${to}}, {name: a, match: [{uri: {prefix: /a}}], ${to}}, {name: all, ${to}}`,
  );
  const world = buildWorld(objectsOf(service("reviews", "shop") + edge + second + first), "cluster.local");
  const [table] = gatewayPlan(world, "shop/edge")?.tables ?? [];
  expect(table?.hosts.find(({ domain }) => domain === "a.example")?.routes.map(({ name }) => name)).toEqual([
    "shop/first/0",
    "shop/second/b",
    "shop/second/a",
    "shop/first/rest",
    "shop/second/all",
  ]);
  expect(virtualVerdict(world, "shop/first")?.gateways).toEqual([]);
  expect(virtualVerdict(world, "shop/second")?.gateways).toEqual([
    expect.stringContaining("a is never reached for a.example at Gateway shop/edge: VirtualService shop/first"),
    expect.stringContaining("all is never reached for a.example at Gateway shop/edge: VirtualService shop/first"),
  ]);
});

test("a short name with a dot is none, as in Istio, and the whole one is told", () => {
  const world = buildWorld(
    objectsOf(service("reviews", "shop") + virtual("v", "{hosts: [reviews.shop], http: [{route: [{destination: {host: reviews.shop}}]}]}")),
    "cluster.local",
  );
  const said = virtualVerdict(world, "shop/v");
  expect(said?.acceptedMessage).toContain("there is no Service reviews.shop (write reviews.shop.svc.cluster.local)");
  expect(said?.unresolved).toEqual([expect.stringContaining("(write reviews.shop.svc.cluster.local)")]);
});
