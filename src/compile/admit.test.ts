import { describe, expect, test } from "bun:test";
import type { KubeObject } from "../api/meta.ts";
import { admit } from "./admit.ts";
import { objectsOf } from "./testing/objects.ts";
import { buildWorld } from "./world.ts";

/** What is said when the last object comes to the others. */
function contradictions(yaml: string): readonly string[] {
  const objects = objectsOf(yaml);
  const candidate = objects.pop() as KubeObject;
  return admit(buildWorld(objects, "cluster.local"), candidate).map(({ path, message }) => `${path}: ${message}`);
}

const route = (name: string, rules: string, parent = "reviews", namespace = "shop", port = "") => `
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: ${name}, namespace: ${namespace}}
spec:
  parentRefs: [{group: "", kind: Service, name: ${parent}, namespace: shop${port}}]
  rules: ${rules}
---`;

describe("two HTTPRoutes on one Service", () => {
  const toV1 = "[{backendRefs: [{name: reviews-v1, port: 80}]}]";
  const toV2 = "[{backendRefs: [{name: reviews-v2, port: 80}]}]";

  test("with the same match and other backends are refused, naming both", () => {
    const [said, ...more] = contradictions(route("a", toV1) + route("b", toV2));
    expect(more).toEqual([]);
    expect(said).toBe(
      "spec.rules[0].matches[0]: contradicts HTTPRoute shop/a, spec.rules[0].matches[0]: for the same requests of Service shop/reviews (path PathPrefix /) " +
        "this route sends them to reviews-v2:80, that one sends them to reviews-v1:80; change one of the matches, or change HTTPRoute shop/a instead of adding this one",
    );
  });

  test("that say the same contradict nothing, however it is written", () => {
    const a =
      "[{matches: [{path: {value: /x/}, headers: [{name: A, value: b}]}], backendRefs: [{name: v1, port: 80, weight: 1}, {name: v2, port: 80, weight: 1}]}]";
    const b =
      "[{matches: [{headers: [{name: a, value: b}], path: {value: /x}}], backendRefs: [{name: v2, port: 80, weight: 50}, {name: v1, port: 80, weight: 50}]}]";
    expect(contradictions(route("a", a) + route("b", b))).toEqual([]);
  });

  for (const [what, first, second] of [
    ["other matches", route("a", toV1), route("b", "[{matches: [{path: {value: /x}}], backendRefs: [{name: reviews-v2, port: 80}]}]")],
    ["other Services", route("a", toV1), route("b", toV2, "ratings")],
    ["other ports", route("a", toV1, "reviews", "shop", ", port: 80"), route("b", toV2, "reviews", "shop", ", port: 81")],
    ["a consumer's namespace", route("a", toV1), route("b", toV2, "reviews", "bank")],
    ["the same name (an update)", route("a", toV1), route("a", toV2)],
  ] as const) {
    test(`with ${what} are taken`, () => expect(contradictions(first + second)).toEqual([]));
  }

  test("that meet at a Gateway alone follow the standard: the older goes first", () => {
    const both = (name: string, port: number, rules: string) =>
      route(name, rules, "reviews", "shop", `, port: ${port}}, {name: reviews`).replace(
        "  rules:",
        `  hostnames: [${name}.example]\n  rules:`,
      );
    expect(contradictions(both("a", 80, toV1) + both("b", 81, toV2))).toEqual([]);
  });

  test("that keep sessions otherwise are refused", () => {
    const sticky = "[{sessionPersistence: {sessionName: a}, backendRefs: [{name: reviews-v1, port: 80}]}]";
    expect(contradictions(route("a", toV1) + route("b", sticky))).toHaveLength(1);
  });

  test("one port against all ports still meet", () => {
    expect(contradictions(route("a", toV1, "reviews", "shop", ", port: 80") + route("b", toV2))).toHaveLength(1);
  });

  test("two rules of one route may not contradict each other either", () => {
    expect(contradictions(route("a", "[{backendRefs: [{name: v1, port: 80}]}, {backendRefs: [{name: v2, port: 80}]}]"))[0]).toContain(
      "matches the same requests (path PathPrefix /) as spec.rules[0].matches[0]",
    );
  });
});

const policy = (name: string, spec: string, namespace = "shop") => `
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: ${name}, namespace: ${namespace}}
spec: ${spec}
---`;

describe("ALLOW and DENY for the same workloads", () => {
  const frontend = "from: [{source: {principals: [cluster.local/ns/shop/sa/frontend]}}]";
  const allow = policy(
    "allow",
    `{selector: {matchLabels: {app: cart}}, rules: [{${frontend}, to: [{operation: {methods: [GET], paths: [/cart]}}]}]}`,
  );

  test("a DENY that covers an ALLOW rule is refused, naming both", () => {
    const [said, ...more] = contradictions(
      allow +
        policy(
          "deny",
          `{selector: {matchLabels: {app: cart}}, action: DENY, rules: [{to: [{operation: {methods: [POST]}}]}, {${frontend}, to: [{operation: {paths: ["/car*"]}}]}]}`,
        ),
    );
    expect(more).toEqual([]);
    expect(said).toBe(
      "spec.rules[1]: denies all that AuthorizationPolicy shop/allow allows with spec.rules[0], for the same workloads (app=cart); remove that rule there, or narrow this one",
    );
  });

  test("and so is the ALLOW that comes second", () => {
    const deny = policy("deny", `{selector: {matchLabels: {app: cart}}, action: DENY, rules: [{${frontend}}]}`);
    expect(contradictions(deny + allow)[0]).toContain("allows what AuthorizationPolicy shop/deny denies with spec.rules[0]");
  });

  for (const [what, yaml] of [
    [
      "a narrower DENY is an exception",
      allow +
        policy(
          "deny",
          `{selector: {matchLabels: {app: cart}}, action: DENY, rules: [{${frontend}, to: [{operation: {paths: [/cart/secret]}}]}]}`,
        ),
    ],
    ["a DENY of everything is a switch", allow + policy("deny", "{selector: {matchLabels: {app: cart}}, action: DENY, rules: [{}]}")],
    ["other workloads", allow + policy("deny", `{selector: {matchLabels: {app: stock}}, action: DENY, rules: [{${frontend}}]}`)],
    [
      "another namespace",
      allow + policy("deny", `{selector: {matchLabels: {app: cart}}, action: DENY, rules: [{${frontend}}]}`, "weft-system"),
    ],
    [
      "a condition of its own narrows a DENY",
      allow +
        policy(
          "deny",
          `{selector: {matchLabels: {app: cart}}, action: DENY, rules: [{${frontend}, when: [{key: remote.ip, values: [10.0.0.0/8]}]}]}`,
        ),
    ],
    [
      "negative conditions are not proof",
      allow + policy("deny", "{selector: {matchLabels: {app: cart}}, action: DENY, rules: [{from: [{source: {notNamespaces: [shop]}}]}]}"),
    ],
  ] as const) {
    test(`${what}: taken`, () => expect(contradictions(yaml)).toEqual([]));
  }
});

const service = (name: string, port: string, selector = "{app: cart}") => `
apiVersion: v1
kind: Service
metadata: {name: ${name}, namespace: shop}
spec: {selector: ${selector}, ports: [${port}]}
---`;

const entry = (name: string, ports: string, more = "") => `
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: ${name}, namespace: shop, labels: {app: cart}}
spec: {address: 127.0.0.1, ports: ${ports}}
${more}
---`;

describe("two Services of the same workloads", () => {
  test("that speak http and tcp to one port are refused, naming both", () => {
    const said = contradictions(
      entry("cart-1", "{http: 4000, db: 4001}") +
        service("cart", "{name: http, port: 80}") +
        service("cart-raw", "{name: tcp, port: 90, targetPort: http}"),
    );
    expect(said).toEqual([
      "spec.ports[0]: speaks tcp to the same port of the same workloads (shop/cart-1) to which port 80 of Service shop/cart speaks http; give both the same appProtocol",
    ]);
  });

  test("are refused without any workload when their selectors are equal", () => {
    expect(
      contradictions(
        service("cart", "{name: http, port: 80, targetPort: 9000}") + service("raw", "{name: tcp, port: 90, targetPort: 9000}"),
      )[0],
    ).toContain("app=cart");
  });

  test("are taken when they mean different ports, or say the same", () => {
    expect(
      contradictions(
        entry("cart-1", "{http: 4000, db: 4001}") +
          service("cart", "{name: http, port: 80}") +
          service("db", "{name: tcp, port: 90, targetPort: db}"),
      ),
    ).toEqual([]);
    expect(
      contradictions(
        entry("cart-1", "{http: 4000}") + service("cart", "{name: http, port: 80}") + service("cart-v1", "{name: http, port: 80}"),
      ),
    ).toEqual([]);
  });
});

describe("two WorkloadEntries", () => {
  test("on one address and port are refused, naming both", () => {
    expect(contradictions(entry("a", "{http: 4000}") + entry("b", "{web: 4000}"))).toEqual([
      "spec.ports.web: 127.0.0.1:4000 is claimed by WorkloadEntry shop/a (spec.ports.http) already; choose another port, or delete that entry if its workload is gone",
    ]);
  });

  test("an entry known to be down claims nothing, and an update is not in its own way", () => {
    expect(
      contradictions(
        entry("a", "{http: 4000}", 'status: {conditions: [{type: Healthy, status: "False", reason: Gone, message: ""}]}') +
          entry("b", "{http: 4000}"),
      ),
    ).toEqual([]);
    expect(contradictions(entry("a", "{http: 4000}") + entry("a", "{http: 4000}"))).toEqual([]);
  });
});

describe("two Telemetries with the same selector", () => {
  const telemetry = (name: string, logging: string) => `
apiVersion: telemetry.istio.io/v1
kind: Telemetry
metadata: {name: ${name}, namespace: shop}
spec: {accessLogging: [${logging}]}
---`;

  test("that decide differently are refused, naming both", () => {
    expect(contradictions(telemetry("on", "{}") + telemetry("off", "{disabled: true, match: {mode: CLIENT}}"))).toEqual([
      "spec.accessLogging[0]: turns the access log of side CLIENT off where Telemetry shop/on, spec.accessLogging[0], turns it on for the same workloads (all of namespace shop); change that one, or select other workloads",
    ]);
  });

  test("that agree, or speak of different sides, are taken", () => {
    expect(contradictions(telemetry("on", "{}") + telemetry("also", "{providers: [{name: envoy}]}"))).toEqual([]);
    expect(
      contradictions(telemetry("on", "{match: {mode: SERVER}}") + telemetry("off", "{disabled: true, match: {mode: CLIENT}}")),
    ).toEqual([]);
  });
});
