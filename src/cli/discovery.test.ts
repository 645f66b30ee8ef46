import { describe, expect, test } from "bun:test";
import { findResource, pathOf, type Resource, resourceFor, shownName } from "./discovery.ts";

const resource = (change: Partial<Resource>): Resource => ({
  group: "",
  version: "v1",
  versions: ["v1"],
  kind: "Service",
  plural: "services",
  singular: "service",
  shortNames: ["svc"],
  categories: [],
  namespaced: true,
  verbs: ["list"],
  ...change,
});
const httpRoute = resource({
  group: "gateway.networking.k8s.io",
  versions: ["v1", "v1beta1"],
  kind: "HTTPRoute",
  plural: "httproutes",
  singular: "httproute",
  shortNames: [],
});
const otherService = resource({ group: "serving.knative.dev", shortNames: ["ksvc"] });
const namespace = resource({ kind: "Namespace", plural: "namespaces", singular: "namespace", shortNames: ["ns"], namespaced: false });
const all = [otherService, resource({}), httpRoute, namespace];

describe("naming a kind", () => {
  test.each([
    ["httproute", httpRoute],
    ["HTTPRoutes", httpRoute],
    ["httproute.gateway.networking.k8s.io", httpRoute],
    ["httproutes.v1beta1.gateway.networking.k8s.io", httpRoute],
    ["httproute.gateway", httpRoute],
    ["svc", all[1]],
    ["services", all[1]],
    ["services.serving.knative.dev", otherService],
    ["ksvc", otherService],
  ])("%s", (word, found) => {
    expect(findResource(all, word)).toBe(found as Resource);
  });

  test("an unknown one is refused with the near one and the list", () => {
    expect(() => findResource(all, "htproute")).toThrow(
      'the control plane has no kind "htproute"; did you mean httproute? it has httproutes, namespaces, services',
    );
  });
});

describe("a manifest's kind", () => {
  const of = (apiVersion: string, kind: string) => () => resourceFor(all, { apiVersion, kind, metadata: { name: "x" } });

  test("the version written is the version used", () => {
    expect(of("gateway.networking.k8s.io/v1beta1", "HTTPRoute")().version).toBe("v1beta1");
  });

  test.each([
    [
      "gateway.networking.k8s.io/v1alpha2",
      "HTTPRoute",
      "HTTPRoute is served as gateway.networking.k8s.io/v1, gateway.networking.k8s.io/v1beta1, not",
    ],
    ["v1", "HTTPRoute", "apiVersion: HTTPRoute belongs to gateway.networking.k8s.io/v1, not v1"],
    ["v1", "Servic", "kind: the control plane has no Servic in v1; did you mean Service?"],
  ])("%s %s", (apiVersion, kind, message) => {
    expect(of(apiVersion, kind)).toThrow(message);
  });
});

test("paths and names", () => {
  expect(pathOf(httpRoute, "shop", "a/b")).toBe("/apis/gateway.networking.k8s.io/v1/namespaces/shop/httproutes/a%2Fb");
  expect(pathOf(all[1] as Resource, undefined)).toBe("/api/v1/services");
  expect(pathOf(namespace, "shop", "x")).toBe("/api/v1/namespaces/x");
  expect(shownName(httpRoute, "reviews")).toBe("httproute.gateway.networking.k8s.io/reviews");
  expect(shownName(all[1] as Resource, "reviews")).toBe("service/reviews");
});
