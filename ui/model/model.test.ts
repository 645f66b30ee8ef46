// The page's pure parts: what numbers become, what the picture holds, what belongs to a service, what the address keeps.

import { describe, expect, test } from "bun:test";
import { rootNamespace as compiledRootNamespace } from "../../src/api/kinds/authorizationpolicy.ts";
import type { GraphAnswer, ProxyObject } from "../../src/api/live.ts";
import { createDevMesh } from "../dev-data.ts";
import { nearest } from "../graph/arrows.ts";
import { byteRate, duration, failing, rate, span, success } from "./format.ts";
import { edgeHealth, healthOf, serviceHealth } from "./health.ts";
import { readPlace, writePlace } from "./location.ts";
import { findText, inNamespace, toPicture } from "./picture.ts";
import { asWritten, instancesOf, type Objects, policiesOf, problemsOf, rootNamespace, routesOf, serviceNamesOf } from "./related.ts";
import { describeCall, lockWords, nameOf } from "./words.ts";

const atMs = 1_700_000_000_000;
const mesh = createDevMesh("shop", 1, () => "");
const picture = toPicture(mesh.graph(atMs, 30));
const objects: Objects = {
  entries: mesh.objects("workloadentries") ?? [],
  services: mesh.objects("services") ?? [],
  routes: mesh.objects("httproutes") ?? [],
  policies: mesh.objects("authorizationpolicies") ?? [],
};
const service = (id: string) => picture.services.get(id) ?? expect.unreachable(`no ${id}`);

describe("numbers", () => {
  test.each([
    [0, "0"],
    [0.004, "<0.01"],
    [0.04, "0.04"],
    [3.24, "3.2"],
    [99.96, "100"],
    [1_240, "1240"],
    [12_400, "12k"],
    [3_400_000, "3.4M"],
  ])("rate %p is %p", (value, words) => expect(rate(value)).toBe(words));

  test.each([
    [null, "–"],
    [1, "100 %"],
    [0.99999, "99.9 %"],
    [0.995, "99.5 %"],
    [0, "0 %"],
  ])("success %p is %p, never rounded up to all", (value, words) => expect(success(value)).toBe(words));

  test("failing says what is missing, and nothing when nothing is", () => {
    expect([failing(1), failing(null), failing(0.99999), failing(0.952), failing(0.4)]).toEqual([
      "",
      "",
      "<0.1 % fail",
      "4.8 % fail",
      "60.0 % fail",
    ]);
  });

  test("durations, bytes and spans pick their unit", () => {
    expect([duration(0.42), duration(12.4), duration(1_340), duration(null)]).toEqual(["0.4 ms", "12 ms", "1.3 s", "–"]);
    expect([byteRate(640), byteRate(12_000), byteRate(3_400_000)]).toEqual(["640 B/s", "12 kB/s", "3.4 MB/s"]);
    expect([span(8_200), span(180_000), span(7_500_000), span(345_600_000)]).toEqual(["8 s", "3 min", "2 h 5 min", "4 d"]);
  });
});

describe("health", () => {
  test("the thresholds are inclusive and null is idle", () => {
    expect([healthOf(1), healthOf(0.99), healthOf(0.9899), healthOf(0.95), healthOf(0.9499), healthOf(null)]).toEqual([
      "good",
      "good",
      "warn",
      "warn",
      "bad",
      "idle",
    ]);
  });

  test("opaque TCP with open connections is good though it has no ratio", () => {
    const ledger = picture.calls.get("shop/orders>bank/ledger");
    expect(ledger && edgeHealth(ledger.stats)).toBe("good");
    expect(ledger && edgeHealth({ ...ledger.stats, openConnections: 0, bytesPerSecond: 0 })).toBe("idle");
    expect(serviceHealth(service("bank/ledger"), picture.traffic.get("bank/ledger"))).toBe("good");
  });
});

describe("picture", () => {
  test("is sorted, and a call's end that is no node is added without instances", () => {
    const graph = mesh.graph(atMs, 30);
    const without: GraphAnswer = { ...graph, nodes: graph.nodes.filter((node) => node.id !== "shop/cart").toReversed() };
    const made = toPicture(without);
    expect([...made.services.keys()]).toEqual([...picture.services.keys()]);
    expect(made.services.get("shop/cart")).toMatchObject({ name: "cart", namespace: "shop", versions: [] });
  });

  test("says who only calls and who is reached by bytes", () => {
    expect(picture.traffic.get("shop/visitors")).toEqual({ kind: "caller" });
    expect(picture.traffic.get("shop/mailer")).toEqual({ kind: "none" });
    expect(picture.traffic.get("bank/ledger")).toMatchObject({ kind: "bytes", openConnections: 4 });
    expect(picture.traffic.get("shop/front")).toEqual({ kind: "requests" });
  });

  test("a namespace keeps the far ends of its calls", () => {
    const bank = inNamespace(picture, "bank");
    expect([...bank.services.keys()]).toEqual(["bank/ledger", "shop/orders"]);
    expect([...bank.calls.keys()]).toEqual(["shop/orders>bank/ledger"]);
  });

  test("text finds names and versions in any case, and the calls that touch them", () => {
    expect(findText(picture, "  ")).toBeNull();
    expect([...(findText(picture, "RATing")?.services ?? [])]).toEqual(["shop/ratings"]);
    expect([...(findText(picture, "rating")?.calls ?? [])]).toEqual(["shop/reviews>shop/ratings"]);
    expect([...(findText(picture, "v3")?.services ?? [])]).toEqual(["shop/front"]);
  });

  test("names carry the namespace only where it differs", () => {
    expect([nameOf("shop/a", "shop/b"), nameOf("bank/a", "shop/b"), nameOf("shop/b", "unknown/unknown")]).toEqual(["a", "a.bank", "b"]);
  });

  test("a call is said in one sentence", () => {
    const plain = picture.calls.get("unknown/unknown>shop/catalog");
    expect(plain && describeCall(plain)).toMatch(
      /^unknown calls catalog: healthy, 0\.\d\d requests a second, 100 % succeed, p50 [\d.]+ ms, p99 [\d.]+ ms, not encrypted$/,
    );
    const refused = plain && { ...plain, stats: { ...plain.stats, mutualTls: null } };
    expect(refused && describeCall(refused)).toMatch(/, p99 [\d.]+ ms$/);
    expect([lockWords(true), lockWords(false), lockWords(null)]).toEqual(["mutual TLS", "not encrypted", ""]);
  });
});

describe("what belongs to a service", () => {
  test("instances with their proxies; not ready says why; a proxy without entry comes too", () => {
    const cart = instancesOf(service("shop/cart"), objects.entries, mesh.proxies(atMs));
    expect(cart.map((i) => [i.ready, i.reason, i.proxy?.metadata.name === i.name])).toContainEqual([
      false,
      "127.0.0.1:9082 refuses connections",
      true,
    ]);
    expect(cart).toHaveLength(2);
    const stray = { ...mesh.proxies(atMs)[0]!, metadata: { name: "cart-gone", namespace: "shop", labels: { app: "cart" } } } as ProxyObject;
    expect(instancesOf(service("shop/cart"), objects.entries, [stray]).find((i) => i.name === "cart-gone")?.reason).toBe("not registered");
  });

  test("services by name and by selector", () => {
    const extra = {
      apiVersion: "v1",
      kind: "Service",
      metadata: { name: "reviews-v2", namespace: "shop" },
      spec: { selector: { app: "reviews", version: "v2" } },
    };
    const all = { ...objects, services: [...objects.services, extra] };
    expect([...serviceNamesOf(service("shop/reviews"), all)]).toEqual(["reviews", "reviews-v2"]);
    expect(serviceNamesOf(service("shop/cart"), all).has("reviews-v2")).toBe(false);
  });

  test("routes: as parent, or as a backend of another's; never another namespace's", () => {
    const reviews = service("shop/reviews");
    expect(routesOf(reviews, objects).map((r) => [r.object.metadata.name, r.problems.length])).toEqual([
      ["reviews-canary", 1],
      ["reviews-split", 0],
    ]);
    const [first] = objects.routes;
    const moved = { ...first!, metadata: { name: "elsewhere", namespace: "bank" } };
    expect(routesOf(reviews, { ...objects, routes: [moved] })).toEqual([]);
    const onward = {
      ...first!,
      spec: { parentRefs: [{ kind: "Service", name: "front" }], rules: [{ backendRefs: [{ name: "reviews", port: 80 }] }] },
    };
    expect(routesOf(reviews, { ...objects, routes: [onward] }).map((r) => r.why)).toEqual(["sends calls on to reviews"]);
    const gateway = { ...first!, spec: { parentRefs: [{ name: "reviews" }] } };
    expect(routesOf(reviews, { ...objects, routes: [gateway] })).toEqual([]);
  });

  test("policies: by selector, for the namespace, for the mesh", () => {
    const policy = (name: string, spec: Record<string, unknown>, namespace = "shop") => ({
      apiVersion: "security.istio.io/v1",
      kind: "AuthorizationPolicy",
      metadata: { name, namespace },
      spec,
    });
    const policies = [
      policy("all", {}),
      policy("other", { selector: { matchLabels: { app: "cart" } } }),
      policy("mesh", {}, rootNamespace),
      policy("elsewhere", {}, "bank"),
      policy("v2", { selector: { matchLabels: { app: "reviews", version: "v2" } } }),
    ];
    expect(policiesOf(service("shop/reviews"), { ...objects, policies }).map((p) => [p.object.metadata.name, p.why])).toEqual([
      ["all", "holds for all of shop"],
      ["mesh", "holds for the whole mesh"],
      ["v2", "selects app=reviews, version=v2"],
    ]);
  });

  test("the root namespace is the one the compiler knows", () => expect(rootNamespace).toBe(compiledRootNamespace));

  test("an object is shown as written, and its complaints once each", () => {
    const [split] = objects.routes;
    expect(Object.keys(asWritten(split!))).toEqual(["apiVersion", "kind", "metadata", "spec"]);
    expect(asWritten(split!).metadata).toEqual({ name: "reviews-split", namespace: "shop" });
    expect(problemsOf(objects.routes[1]!)).toEqual(["ResolvedRefs: backendRefs[0]: there is no Service reviews-v3 in namespace shop"]);
  });
});

describe("address", () => {
  test("is read back as written, and nonsense is the default", () => {
    const place = {
      view: "list",
      windowSeconds: 60,
      namespace: "shop",
      text: "re v",
      selection: { kind: "call", id: "shop/a>bank/b" },
    } as const;
    expect(writePlace(place)).toBe("#view=list&window=60&namespace=shop&find=re+v&call=shop/a>bank/b");
    expect(readPlace(writePlace(place))).toEqual(place);
    const plain = readPlace("#view=spiral&window=7");
    expect(plain).toEqual({ view: null, windowSeconds: 30, namespace: "", text: "", selection: null });
    expect(writePlace(plain)).toBe("");
  });
});

test("arrow keys lead to the nearest item ahead, and nowhere when there is none", () => {
  const centres = [
    { x: 0, y: 0 },
    { x: 100, y: 10 },
    { x: 90, y: 200 },
    { x: 0, y: 150 },
  ];
  const go = (key: string, from: number) => nearest(key, centres[from]!, centres);
  expect([go("ArrowRight", 0), go("ArrowDown", 0), go("ArrowLeft", 1), go("ArrowUp", 0), go("Enter", 0)]).toEqual([1, 3, 0, -1, -1]);
});
