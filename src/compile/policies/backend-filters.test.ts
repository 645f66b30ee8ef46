// Filters of single backends: shares of one draw that add up, whose filter counts, what is lost with a backend or an authorization service.

import { expect, test } from "bun:test";
import { fromBinary } from "@bufbuild/protobuf";
import type { RouteFilter, RouteRule } from "../../api/kinds/httproute-spec.ts";
import { VirtualHostSchema } from "../../wire/gen/envoy/config/route/v3/route_components_pb.ts";
import { routeConflicts } from "../conflicts/httproute.ts";
import { virtualHostBytes } from "../emit/route.ts";
import type { TargetPlan } from "../plan/plan.ts";
import { objectsOf } from "../testing/objects.ts";
import { buildWorld } from "../world.ts";
import { planGrpcRule } from "./grpcroute.ts";
import { planRule } from "./route-rules.ts";

const to = (name: string, weight: number, filters: RouteFilter[] = []) => ({ name, port: 80, weight, filters });
const mirror = (name: string): RouteFilter => ({ type: "RequestMirror", requestMirror: { backendRef: { name, port: 80 } } });
const redirect: RouteFilter = { type: "RequestRedirect", requestRedirect: { scheme: "https" } };
const auth = (name: string): RouteFilter => ({
  type: "ExternalAuth",
  externalAuth: { protocol: "HTTP", backendRef: { name, port: 80 }, http: {} },
});

const plan = (rule: RouteRule) =>
  planRule("shop/r/0", rule, {}, ({ name }) => ({ cluster: `outbound|80||${name}`, missing: name === "gone" }));

test("shares add up in order, and the last route takes what is left", () => {
  const routes = plan({ backendRefs: [to("a", 5), to("b", 2, [mirror("m")]), to("c", 3, [redirect]), to("d", 10)] });
  expect(routes.map(({ match, action }) => [match.belowMillionth, action.kind])).toEqual([
    [100_000, "forward"],
    [250_000, "redirect"],
    [undefined, "forward"],
  ]);
  const backends = routes.map(({ action }) =>
    action.kind === "forward" ? action.backends.map((each) => [each.cluster, each.weight]) : [],
  );
  expect(backends).toEqual([
    [["outbound|80||b", 2]],
    [],
    [
      ["outbound|80||a", 5],
      ["outbound|80||d", 10],
    ],
  ]);
});

test("one backend, or none beside it that has a weight, has all of the requests", () => {
  for (const others of [[], [to("a", 0)], [to("a", 0, [mirror("x")])]]) {
    const [only, ...more] = plan({ backendRefs: [to("b", 1, [mirror("m")]), ...others] });
    expect(more).toEqual([]);
    expect(only?.match.belowMillionth).toBeUndefined();
    expect(only?.action).toMatchObject({ kind: "forward", mirrors: [{ cluster: "outbound|80||m", perMillion: 1_000_000 }] });
  }
});

test("the backend's filter goes before the rule's, copies are sent for both, and nothing of it is the others'", () => {
  const rewrite = (path: string): RouteFilter => ({
    type: "URLRewrite",
    urlRewrite: { hostname: `h${path.slice(1)}`, path: { type: "ReplaceFullPath", replaceFullPath: path } },
  });
  const cors = (origin: string): RouteFilter => ({ type: "CORS", cors: { allowOrigins: [origin] } });
  const [own, rest] = plan({
    filters: [mirror("all"), cors("https://all"), rewrite("/all")],
    backendRefs: [to("a", 1), to("b", 1, [mirror("own"), cors("https://own"), rewrite("/own")])],
  });
  const seen = [own, rest].map((route) => {
    const forward = route?.action.kind === "forward" ? route.action : undefined;
    return [forward?.mirrors?.map(({ cluster }) => cluster), route?.cors?.origins[0]?.value, forward?.hostRewrite];
  });
  expect(seen).toEqual([
    [["outbound|80||own", "outbound|80||all"], "https://own", "hown"],
    [["outbound|80||all"], "https://all", "hall"],
  ]);
});

test("a share whose authorization service is not there is answered with 500, and so is that of a backend that is not", () => {
  const routes = plan({ backendRefs: [to("a", 1), to("b", 1, [auth("gone")]), to("c", 1, [auth("g")]), to("gone", 1, [auth("g")])] });
  expect(routes.map(({ action, auth }) => [action.kind, auth?.cluster])).toEqual([
    ["direct", undefined],
    ["forward", "outbound|80||g"],
    ["forward", undefined],
  ]);
  expect(routes[2]?.action).toMatchObject({ backends: [{ missing: false }, { cluster: "outbound|80||gone", missing: true }] });
  expect(plan({ backendRefs: [to("b", 1, [mirror("m")]), to("gone", 1)] }).map(({ action }) => action.kind)).toEqual(["forward", "direct"]);
});

test("a tunnel follows all backends of the rule that takes everything", () => {
  const routes = plan({ backendRefs: [to("a", 5), to("b", 2, [mirror("m")]), to("c", 3, [redirect])] });
  const bytes = virtualHostBytes({ name: "a", domains: ["a"], target: { cluster: "outbound|80||a" } as TargetPlan, routes });
  const [connect] = fromBinary(VirtualHostSchema, bytes).routes;
  expect(connect?.action).toMatchObject({
    value: {
      clusterSpecifier: {
        value: {
          clusters: [
            { name: "outbound|80||b", weight: 2 },
            { name: "outbound|80||a", weight: 5 },
          ],
        },
      },
    },
  });
});

test("calls likewise", () => {
  const backendOf = ({ name }: { name: string }) => ({ cluster: name, missing: false });
  const routes = planGrpcRule("shop/g/0", { backendRefs: [to("a", 3), to("b", 1, [mirror("m")])] }, {}, backendOf);
  expect(routes.map(({ match, action }) => [match.belowMillionth, action.kind === "forward" && action.mirrors?.length])).toEqual([
    [250_000, 1],
    [undefined, undefined],
  ]);
});

test("rules that differ in a backend's filter contradict each other", () => {
  const route = (name: string, filters: string) => `
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: ${name}, namespace: shop, creationTimestamp: "2026-01-01T00:00:00Z"}
spec: {parentRefs: [{group: "", kind: Service, name: a}], rules: [{backendRefs: [{name: a, port: 80, filters: ${filters}}]}]}
---`;
  const [one, same, other] = objectsOf(
    route("one", "[]") + route("same", "[]") + route("other", "[{type: RequestRedirect, requestRedirect: {scheme: https}}]"),
  );
  const world = buildWorld([one!], "cluster.local");
  expect(routeConflicts(world, same as never)).toEqual([]);
  expect(routeConflicts(world, other as never)).toHaveLength(1);
});
