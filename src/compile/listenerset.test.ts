// ListenerSets: whom a Gateway takes them from, who has a port first, what is told to whom, and which listeners routes attach to.

import { describe, expect, test } from "bun:test";
import type { Condition } from "../api/meta.ts";
import { gatewayModel } from "./policies/gateway.ts";
import { gatewayPlan } from "./policies/gateway-plan.ts";
import { virtualVerdict } from "./policies/virtualservice-verdict.ts";
import { statuses } from "./status.ts";
import { objectsOf, violationsOf } from "./testing/objects.ts";
import { buildWorld, type World } from "./world.ts";

const web = (name: string, hostname: string, more = "") => `{name: ${name}, port: 80, protocol: HTTP, hostname: ${hostname}${more}}`;

function gateway(allowed: string, listeners = web("web", "a.example")): string {
  return `
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: edge, namespace: infra}
spec: {gatewayClassName: weft, ${allowed === "" ? "" : `allowedListeners: {namespaces: ${allowed}}, `}listeners: [${listeners}]}
---`;
}

function set(name: string, listeners: string, { namespace = "shop", day = 1, kind = "ListenerSet" } = {}): string {
  const version = kind === "ListenerSet" ? "gateway.networking.k8s.io/v1" : "gateway.networking.x-k8s.io/v1alpha1";
  return `
apiVersion: ${version}
kind: ${kind}
metadata: {name: ${name}, namespace: ${namespace}, creationTimestamp: "2026-01-0${day}T00:00:00Z"}
spec: {parentRef: {name: edge, namespace: infra}, listeners: [${listeners}]}
---`;
}

function route(name: string, parent: string, hostnames = "", kind = "HTTPRoute"): string {
  return `
apiVersion: v1
kind: Service
metadata: {name: ${name}, namespace: shop}
spec: {selector: {app: ${name}}, ports: [{name: http, port: 80}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: ${kind}
metadata: {name: ${name}, namespace: shop, creationTimestamp: "2026-01-01T00:00:00Z"}
spec: {parentRefs: [${parent}], ${hostnames}rules: [{backendRefs: [{name: ${name}, port: 80}]}]}
---`;
}

const label = (namespace: string) => `
apiVersion: v1
kind: Namespace
metadata: {name: ${namespace}, labels: {edge: "yes"}}
---`;

const worldOf = (yaml: string): World => buildWorld(objectsOf(yaml), "cluster.local");

/** `Accepted=True/Accepted` and so on. */
function told(world: World, name: string, kind = "listenersets"): Record<string, readonly unknown[]> | undefined {
  const found = statuses(world).find((each) => each.resource.startsWith(`${kind}.`) && each.name === name)?.status;
  if (found === undefined) return undefined;
  const words = (list: readonly Condition[]) => list.map((each) => `${each.type}=${each.status}/${each.reason}`);
  const listeners = (found.listeners ?? []) as { name: string; attachedRoutes: number; conditions: Condition[] }[];
  return {
    conditions: words(found.conditions as Condition[]),
    ...Object.fromEntries(listeners.map((each) => [each.name, [each.attachedRoutes, ...words(each.conditions)]])),
  };
}

/** Host -> names of routes, of the plain port. */
function hosts(world: World): Record<string, string[]> {
  const [table] = gatewayPlan(world, "infra/edge")?.tables ?? [];
  return Object.fromEntries((table?.hosts ?? []).map(({ domain, routes }) => [domain, routes.map(({ name }) => name)]));
}

const one = set("one", web("web", "b.example"));

describe("whom a Gateway takes them from", () => {
  const taken = (allowed: string, more = "", sets = one) => gatewayModel(worldOf(gateway(allowed) + more + sets), "infra/edge")?.sets;

  test("nobody, unless it says so", () => {
    expect([taken(""), taken("{}"), taken("{from: None}")]).toEqual([[], [], []]);
    expect(told(worldOf(gateway("") + one), "one")).toEqual({ conditions: ["Accepted=False/NotAllowed", "Programmed=False/NotAllowed"] });
  });

  test("its own namespace, all, or those with a label", () => {
    const home = set("home", web("web", "c.example"), { namespace: "infra" });
    expect(taken("{from: Same}", "", one + home)).toEqual(["ListenerSet infra/home"]);
    expect(taken("{from: All}", "", one + home)).toEqual(["ListenerSet infra/home", "ListenerSet shop/one"]);
    const chosen = '{from: Selector, selector: {matchLabels: {edge: "yes"}}}';
    expect([taken(chosen), taken(chosen, label("shop"))]).toEqual([[], ["ListenerSet shop/one"]]);
  });

  test("the experimental kind likewise, and nothing is said about Gateways of others", () => {
    const old = set("old", web("web", "b.example"), { kind: "XListenerSet" });
    expect(taken("{from: All}", "", old)).toEqual(["XListenerSet shop/old"]);
    const foreign = gateway("{from: All}").replace("gatewayClassName: weft", "gatewayClassName: other");
    expect(told(worldOf(foreign + one), "one")).toBeUndefined();
    expect(told(worldOf(one), "one")).toEqual({ conditions: ["Accepted=False/ParentNotAccepted", "Programmed=False/ParentNotAccepted"] });
  });
});

describe("who has a port and hostname", () => {
  const usable = ["Accepted=True/Accepted", "Conflicted=False/NoConflicts", "ResolvedRefs=True/ResolvedRefs", "Programmed=False/Pending"];
  const lost = [
    "Accepted=False/PortUnavailable",
    "Conflicted=True/HostnameConflict",
    "ResolvedRefs=True/ResolvedRefs",
    "Programmed=False/Invalid",
  ];

  test("the Gateway first, then the oldest set, and the rest of a set stays open", () => {
    const old = set("old", `${web("mine", "a.example")}, ${web("web", "b.example")}`);
    const young = set("young", web("web", "b.example"), { day: 2 });
    const world = worldOf(gateway("{from: All}") + young + old);
    expect(told(world, "old")).toEqual({
      conditions: ["Accepted=True/Accepted", "Programmed=False/Pending"],
      mine: [0, ...lost],
      web: [0, ...usable],
    });
    expect(told(world, "young")).toEqual({
      conditions: ["Accepted=False/ListenersNotValid", "Programmed=False/ListenersNotValid"],
      web: [0, ...lost],
    });
    const found = statuses(world).find((each) => each.resource.startsWith("gateways."))?.status;
    expect(found).toMatchObject({ attachedListenerSets: 1, listeners: [{ name: "web" }] });
    expect(hosts(world)).toEqual({ "a.example": [], "b.example": [] });
  });

  test("a set is not told what others are called, and follows when they go", () => {
    const young = set("young", web("web", "b.example"), { day: 2 });
    const model = gatewayModel(worldOf(gateway("{from: All}") + one + young), "infra/edge");
    expect(model?.listeners.at(-1)?.conflict?.message).toBe("another listener of the Gateway has port 80 and hostname b.example already");
    expect(told(worldOf(gateway("{from: All}") + young), "young")?.web).toEqual([0, ...usable]);
  });

  test("one that is not opened itself stands in nobody's way", () => {
    const tcp = set("tcp", "{name: bytes, port: 80, protocol: TCP}");
    const young = set("young", web("web", "b.example"), { day: 2 });
    const world = worldOf(gateway("{from: All}") + tcp + young);
    expect(told(world, "tcp")?.bytes).toContain("Conflicted=True/ProtocolConflict");
    expect(told(world, "young")?.web).toEqual([0, ...usable]);
  });
});

describe("routes", () => {
  const base = gateway("{from: All}", web("web", "a.example", ", allowedRoutes: {namespaces: {from: All}}"));
  const parent = (kind: string, more = "", group = "gateway.networking.k8s.io") => `{group: ${group}, kind: ${kind}, name: one${more}}`;
  const routeTold = (world: World, name: string) => {
    const found = statuses(world).find((each) => each.resource.startsWith("httproutes.") && each.name === name)?.status;
    const [first] = (found?.parents ?? []) as { conditions: Condition[] }[];
    return first?.conditions[0];
  };

  test("attach to the listeners of the object that they name, and to no other", () => {
    const yaml = base + one + route("atset", parent("ListenerSet")) + route("atgate", "{name: edge, namespace: infra}");
    const world = worldOf(yaml);
    expect(hosts(world)).toEqual({ "a.example": ["shop/atgate/0"], "b.example": ["shop/atset/0"] });
    expect(routeTold(world, "atset")?.message).toBe("attached to ListenerSet shop/one, listener web");
    expect(told(world, "one")?.web?.[0]).toBe(1);
  });

  test("by section and port; the same name in Gateway and set is no matter", () => {
    const two = set("one", `${web("web", "b.example")}, ${web("other", "c.example")}`);
    const world = worldOf(base + two + route("r", parent("ListenerSet", ", sectionName: other, port: 80")));
    expect(hosts(world)).toEqual({ "a.example": [], "b.example": [], "c.example": ["shop/r/0"] });
    const nowhere = worldOf(base + two + route("r", parent("ListenerSet", ", sectionName: none")));
    expect(routeTold(nowhere, "r")).toMatchObject({
      reason: "NoMatchingParent",
      message: expect.stringContaining("it has web:80, other:80"),
    });
  });

  test("wait for the set, and for the Gateway's consent", () => {
    expect(routeTold(worldOf(base + route("r", parent("ListenerSet"))), "r")?.message).toStartWith("there is no ListenerSet shop/one");
    expect(routeTold(worldOf(gateway("") + one + route("r", parent("ListenerSet"))), "r")).toMatchObject({
      reason: "NoMatchingParent",
      message: expect.stringContaining("does not take ListenerSet shop/one"),
    });
  });

  test("from the set's own namespace, unless the listener says otherwise", () => {
    const foreign = set("one", web("web", "b.example"), { namespace: "infra" });
    const world = worldOf(base + foreign + route("r", parent("ListenerSet", ", namespace: infra")));
    expect(routeTold(world, "r")).toMatchObject({ reason: "NotAllowedByListeners" });
  });

  test("of TCP, and to the experimental kind", () => {
    const tcp = set("one", "{name: db, port: 5432, protocol: TCP}", { kind: "XListenerSet" });
    const yaml =
      base +
      tcp +
      route("r", parent("XListenerSet", "", "gateway.networking.x-k8s.io"), "", "TCPRoute").replace(
        "/v1\nkind: TCPRoute",
        "/v1alpha2\nkind: TCPRoute",
      );
    const world = worldOf(yaml.replace("name: http, port: 80", "name: tcp, port: 80"));
    expect(gatewayPlan(world, "infra/edge")?.ports.map(({ kind, port }) => [kind, port])).toEqual([
      ["http", 80],
      ["tcp", 5432],
    ]);
    expect(told(world, "one", "xlistenersets")?.db?.[0]).toBe(1);
  });

  test("a VirtualService that is bound to the Gateway says nothing at a set", () => {
    const open = gateway("{from: All}", web("web", "a.example", ", allowedRoutes: {namespaces: {from: All}}"));
    const virtual = `
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: v, namespace: shop}
spec: {hosts: [a.example, b.example], gateways: [infra/edge], http: [{directResponse: {status: 200}}]}
---`;
    const world = worldOf(open + one + virtual);
    expect(hosts(world)).toEqual({ "a.example": ["shop/v/0"], "b.example": [] });
    expect(virtualVerdict(world, "shop/v")?.gateways).toEqual([
      expect.stringContaining("b.example is at listener web of ListenerSet shop/one"),
    ]);
    // A set takes one name out of a wildcard of the Gateway's.
    const wide = gateway("{from: All}", web("web", '"*.example"', ", allowedRoutes: {namespaces: {from: All}}"));
    expect(virtualVerdict(worldOf(wide + one + virtual), "shop/v")?.gateways).toHaveLength(1);
    expect(virtualVerdict(worldOf(wide + virtual), "shop/v")?.gateways).toEqual([]);
  });

  test("a host that a Gateway serves is not missed as a Service", () => {
    const open = gateway("{from: All}", web("web", "a.example", ", allowedRoutes: {namespaces: {from: All}}"));
    const virtual = (names: string) => `
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: v, namespace: shop}
spec: {hosts: [${names}], gateways: [mesh, infra/edge], http: [{directResponse: {status: 200}}]}
---`;
    const said = (yaml: string) => virtualVerdict(worldOf(yaml), "shop/v");
    expect(said(open + virtual("a.example"))?.acceptedReason).toBe("Accepted");
    expect(said(open + virtual("a.example, lost, b.example"))?.acceptedMessage).toContain(
      "no Service lost.shop.svc.cluster.local, b.example, and none of its Gateways",
    );
    expect(said(virtual("a.example"))?.acceptedReason).toBe("NoService");
  });
});

test("a grant for Gateways is none for ListenerSets", () => {
  const tls = "{name: web, port: 443, protocol: HTTPS, tls: {certificateRefs: [{name: cert, namespace: vault}]}}";
  const grant = (kind: string) => `
apiVersion: gateway.networking.k8s.io/v1beta1
kind: ReferenceGrant
metadata: {name: g, namespace: vault}
spec: {from: [{group: gateway.networking.k8s.io, kind: ${kind}, namespace: shop}], to: [{group: "", kind: Secret}]}
---`;
  const why = (kind: string) =>
    gatewayModel(worldOf(gateway("{from: All}") + set("one", tls) + grant(kind)), "infra/edge")?.listeners.at(-1)?.unresolved;
  expect(why("Gateway")).toMatchObject({
    reason: "RefNotPermitted",
    message: expect.stringContaining("lets ListenerSets of shop refer to it"),
  });
  expect(why("ListenerSet")).toEqual({ reason: "InvalidCertificateRef", message: "there is no Secret vault/cert" });
});

test("what a set must not ask for", () => {
  const object = (spec: object) => ({
    apiVersion: "gateway.networking.k8s.io/v1",
    kind: "ListenerSet",
    metadata: { name: "s", namespace: "shop" },
    spec,
  });
  const options = { "weft.dev/certificate-file": "/a", "weft.dev/private-key-file": "/b" };
  const wrong = violationsOf(
    object({
      parentRef: { name: "edge", kind: "Service" },
      listeners: [
        { name: "a", port: 443, protocol: "HTTPS", tls: { options } },
        { name: "a", port: 80, protocol: "HTTP", tls: {} },
      ],
    }),
  ).map(({ path }) => path);
  expect(wrong).toEqual([
    "spec.parentRef",
    "spec.listeners[1].name",
    "spec.listeners[1].tls",
    'spec.listeners[0].tls.options["weft.dev/certificate-file"]',
    'spec.listeners[0].tls.options["weft.dev/private-key-file"]',
  ]);
  expect(violationsOf(object({ parentRef: { name: "edge" }, listeners: [] })).map(({ path }) => path)).toEqual(["spec.listeners"]);
});
