// The normal form of paths is what policies judge, and then what is routed and forwarded; with normalize_path and merge_slashes it is so without policies.

import { expect, test } from "bun:test";
import { decodeBootstrap } from "./bootstrap.ts";

const typeUrl = (name: string): string => `type.googleapis.com/envoy.extensions.filters.${name}`;
const router = { name: "router", typed_config: { "@type": typeUrl("http.router.v3.Router") } };
const rbac = {
  name: "rbac",
  typed_config: {
    "@type": typeUrl("http.rbac.v3.RBAC"),
    rules: {
      action: "DENY",
      policies: { p: { permissions: [{ url_path: { path: { prefix: "/secret" } } }], principals: [{ any: true }] } },
    },
  },
};

function problems(words: Record<string, unknown>, judged = true, prefix = "/"): readonly string[] {
  const manager = {
    "@type": typeUrl("network.http_connection_manager.v3.HttpConnectionManager"),
    stat_prefix: "hop",
    route_config: {
      name: "r",
      virtual_hosts: [{ name: "all", domains: ["*"], routes: [{ match: { prefix }, direct_response: { status: 200 } }] }],
    },
    http_filters: judged ? [rbac, router] : [router],
    ...words,
  };
  const listener = {
    name: "hop",
    address: { socket_address: { address: "127.0.0.1", port_value: 8080 } },
    filter_chains: [{ filters: [{ name: "http", typed_config: manager }] }],
  };
  const found = decodeBootstrap({ static_resources: { listeners: [listener] } }, () => {
    throw new Error("no such file");
  });
  return "violations" in found ? found.violations.map((one) => `${one.path.split(".").at(-1)}: ${one.message}`) : [];
}

test("it is taken with and without policies, whatever the routes look at", () => {
  for (const judged of [true, false])
    for (const prefix of ["/", "/x"]) expect(problems({ normalize_path: true, merge_slashes: true }, judged, prefix)).toEqual([]);
  expect(problems({})).toEqual([]);
  expect(problems({}, false, "/x")).toEqual([]);
});

test("and refused where it would not be the whole truth", () => {
  expect(problems({ normalize_path: false })).toEqual(["normalize_path: false is not supported: policies judge the normal form of a path"]);
  expect(problems({ normalize_path: true })).toEqual(["normalize_path: normalize_path and merge_slashes come together here"]);
  expect(problems({ merge_slashes: true })).toEqual(["merge_slashes: normalize_path and merge_slashes come together here"]);
});
