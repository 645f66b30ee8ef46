import { expect, test } from "bun:test";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import type { Permission, Principal, RbacConfig } from "../config.ts";
import { Head, parseRequest } from "../http1/head.ts";
import type { Peer } from "../tls/peer.ts";
import { addressInPrefix, parseAddress } from "./address.ts";
import { denial, judge, setPath, subject } from "./judge.ts";
import { needsNormalizing, normalize } from "./path.ts";
import { compileRbac } from "./rules.ts";

function normalized(path: string): string | number {
  const raw = Buffer.from(path, "latin1");
  if (!needsNormalizing(raw, 0, raw.length)) return path;
  const out = new Uint8Array(raw.length);
  const size = normalize(raw, 0, raw.length, out);
  return size < 0 ? size : Buffer.from(out.subarray(0, size)).toString("latin1");
}

test.each([
  ["/a/b", "/a/b"],
  ["/", "/"],
  ["/a/../b", "/b"],
  ["/a/./b", "/a/b"],
  ["/a/b/..", "/a/"],
  ["/a/b/.", "/a/b/"],
  ["/a/%2e%2E/b", "/b"],
  ["/a/.%2e/b", "/b"],
  ["//a///b", "/a/b"],
  ["/%61dmin", "/admin"],
  ["/a\\..\\b", "/b"],
  ["/public//../admin", "/admin"],
  ["/a%2fb", "/a%2fb"],
  ["/a%5cb", "/a%5cb"],
  ["/a/...", "/a/..."],
  ["/a/..b", "/a/..b"],
  ["/%", "/%"],
  ["/%zz", "/%zz"],
  ["/..", -1],
  ["/a/../../b", -1],
  ["/%00", -1],
])("the path %s is judged as %s", (path, expected) => {
  expect(normalized(path)).toBe(expected as string);
});

const exact = (value: string) => ({ kind: "exact" as const, value, ignoreCase: false });
const prefix = (value: string) => ({ kind: "prefix" as const, value, ignoreCase: false });

function asks(filters: readonly RbacConfig[], request: string, who: string | null, port = 80): string {
  const raw = Buffer.from(request, "latin1");
  const head = new Head();
  expect(parseRequest(raw, 0, raw.length, head)).toBe(raw.length);
  subject.head = head;
  subject.bytes = raw;
  subject.port = port;
  subject.peer =
    who === null
      ? null
      : ({ principal: who, uris: [who], dns: [], namespace: "", serviceAccount: "", tlsVersion: "TLSv1.3" } satisfies Peer);
  if (!setPath(raw, head.pathFrom, head.pathTo)) return "bad path";
  return judge(filters.map(compileRbac)) === null ? denial.details : "allowed";
}

function policy(action: RbacConfig["action"], name: string, permission: Permission, principal: Principal = { kind: "any" }): RbacConfig {
  return { action, policies: [{ name, permissions: [permission], principals: [principal] }] };
}

const get = (path: string, extra = "") => `GET ${path} HTTP/1.1\r\nHost: x\r\n${extra}\r\n`;

test("deny before allow, none means denied, tricks with the path do not help", () => {
  const filters = [
    policy("deny", "no-admin", { kind: "path", match: prefix("/admin") }),
    policy("allow", "front", { kind: "any" }, { kind: "authenticated", match: exact("spiffe://d/ns/a/sa/b") }),
  ];
  const me = "spiffe://d/ns/a/sa/b";
  expect(asks(filters, get("/x"), me)).toBe("allowed");
  expect(asks(filters, get("/x"), "spiffe://d/ns/a/sa/c")).toBe("rbac_access_denied_matched_policy[none]");
  expect(asks(filters, get("/x"), null)).toBe("rbac_access_denied_matched_policy[none]");
  for (const path of [
    "/admin",
    "/admin?x",
    "//admin",
    "/./admin",
    "/x/../admin",
    "/%61dmin",
    "/x/%2e%2e/admin",
    "/x\\..\\admin",
    "/x//../../admin/",
  ]) {
    expect([path, asks(filters, get(path), me)]).toEqual([
      path,
      path === "/x//../../admin/" ? "bad path" : "rbac_access_denied_matched_policy[no-admin]",
    ]);
  }
  expect(asks([], get("/"), null)).toBe("allowed");
});

test("every kind of rule", () => {
  const allow = (permission: Permission, principal?: Principal) => [policy("allow", "p", permission, principal)];
  const denied = "rbac_access_denied_matched_policy[none]";
  const header = (name: string, match: ReturnType<typeof exact> | null, invert = false): Permission => ({
    kind: "header",
    header: { name, match, invert },
  });
  expect(asks(allow(header(":method", exact("GET"))), get("/"), null)).toBe("allowed");
  expect(asks(allow(header(":method", exact("POST"))), get("/"), null)).toBe(denied);
  expect(asks(allow(header("x-a", exact("1"))), get("/", "X-A: 1\r\n"), null)).toBe("allowed");
  expect(asks(allow(header("x-a", exact("1"))), get("/", "X-A: 1\r\nX-A: 2\r\n"), null)).toBe(denied);
  expect(asks(allow(header("x-a", exact("1,2"))), get("/", "X-A: 1\r\nX-A: 2\r\n"), null)).toBe("allowed");
  expect(asks(allow(header("x-a", null)), get("/"), null)).toBe(denied);
  expect(asks(allow(header("x-a", null, true)), get("/"), null)).toBe("allowed");
  expect(asks(allow(header(":path", exact("/a?b"))), get("/./a?b"), null)).toBe("allowed");
  expect(asks(allow({ kind: "port", port: 80 }), get("/"), null, 80)).toBe("allowed");
  expect(asks(allow({ kind: "port", port: 80 }), get("/"), null, 81)).toBe(denied);
  expect(
    asks(allow({ kind: "not", rule: { kind: "path", match: { kind: "regex", value: "/a.*", ignoreCase: false } } }), get("/ab"), null),
  ).toBe(denied);
  expect(asks(allow({ kind: "or", rules: [{ kind: "port", port: 1 }, { kind: "any" }] }), get("/"), null)).toBe("allowed");
  expect(asks(allow({ kind: "and", rules: [{ kind: "port", port: 1 }, { kind: "any" }] }), get("/"), null)).toBe(denied);
  expect(asks(allow({ kind: "any" }, { kind: "authenticated", match: null }), get("/"), "spiffe://x")).toBe("allowed");
  expect(asks(allow({ kind: "any" }, { kind: "authenticated", match: null }), get("/"), null)).toBe(denied);
  expect(asks([policy("log", "p", { kind: "any" })], get("/"), null)).toBe("allowed");
  expect(() =>
    compileRbac({
      action: "allow",
      policies: [
        {
          name: "p",
          permissions: [{ kind: "path", match: { kind: "regex", value: "(", ignoreCase: false } }],
          principals: [{ kind: "any" }],
        },
      ],
    }),
  ).toThrow();
  expect(() => compileRbac({ action: "deny", policies: [{ name: "p", permissions: [], principals: [] }] })).toThrow("no permissions");
});

test("rules on HTTP fields do not match a TCP connection", () => {
  subject.head = null;
  subject.peer = null;
  expect(judge([compileRbac(policy("allow", "p", { kind: "path", match: prefix("/") }))])).toBeNull();
  expect(judge([compileRbac(policy("allow", "p", { kind: "header", header: { name: ":method", match: null, invert: true } }))])).toBeNull();
});

test("address prefixes", () => {
  expect(addressInPrefix("10.1.0.0", 16)("10.1.2.3")).toBe(true);
  expect(addressInPrefix("10.1.0.0", 16)("10.2.2.3")).toBe(false);
  expect(addressInPrefix("10.1.128.0", 17)("10.1.129.1")).toBe(true);
  expect(addressInPrefix("10.1.0.0", 16)("::ffff:10.1.2.3")).toBe(true);
  expect(addressInPrefix("2001:db8::", 32)("2001:db8:1::1")).toBe(true);
  expect(addressInPrefix("2001:db8::", 32)("2001:db9::1")).toBe(false);
  expect(addressInPrefix("0.0.0.0", 0)("9.9.9.9")).toBe(true);
  for (const bad of [
    "1.2.3",
    "1.2.3.256",
    "::1::",
    "1:2",
    "g::",
    "",
    "01.2.3.4",
    "1e1.2.3.4",
    " 1.2.3.4",
    "1.2.3.4 ",
    "::1 ",
    "1.2.3.4::",
    "1.2.3.4.",
    "::1.2.3",
  ])
    expect([bad, parseAddress(bad)]).toEqual([bad, null]);
  expect(() => addressInPrefix("10.0.0.0", 33)).toThrow();
});

test("only the judge grants permits", () => {
  const root = join(import.meta.dir, "..");
  const users = readdirSync(root, { recursive: true, encoding: "utf8" })
    .filter((path) => path.endsWith(".ts") && !path.endsWith(".test.ts"))
    .filter((path) => /\bgrant\b/.test(readFileSync(join(root, path), "utf8")) && /permit/i.test(readFileSync(join(root, path), "utf8")));
  expect(users.sort()).toEqual(["authz/judge.ts", "authz/permit.ts"]);
});
