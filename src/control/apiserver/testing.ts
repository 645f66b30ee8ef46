// Owns: a whole API server for tests, with a few kinds of its own, an in-memory store and callers made up by token.
// Only tests import it.

import type { KindDefinition, KubeObject, Violation } from "../../api/meta.ts";
import { type Clock, systemClock } from "../../base/clock.ts";
import { silentLogger } from "../../base/log.ts";
import { openSqliteStore } from "../store/sqlite.ts";
import type { Store } from "../store/store.ts";
import type { ApiServer, ApiServerDeps, Caller } from "./deps.ts";
import { createApiServer } from "./server.ts";

const plain = {
  shortNames: [],
  categories: [],
  namespaced: true,
  hasStatus: true,
  virtual: false,
  columns: [],
  applyDefaults: () => {},
  validate: () => [],
} satisfies Partial<KindDefinition>;

function unknownFields(record: unknown, path: string, known: readonly string[]): Violation[] {
  if (typeof record !== "object" || record === null) return [{ path, message: "must be an object" }];
  return Object.keys(record)
    .filter((name) => !known.includes(name))
    .map((name) => ({ path: `${path}.${name}`, message: "unknown field" }));
}

export const testKinds: readonly KindDefinition[] = [
  {
    ...plain,
    group: "",
    versions: ["v1"],
    kind: "Namespace",
    plural: "namespaces",
    singular: "namespace",
    shortNames: ["ns"],
    namespaced: false,
  },
  { ...plain, group: "", versions: ["v1"], kind: "Service", plural: "services", singular: "service", shortNames: ["svc"] },
  {
    ...plain,
    group: "test.weft.dev",
    versions: ["v1", "v1beta1"],
    kind: "Gadget",
    plural: "gadgets",
    singular: "gadget",
    shortNames: ["gd"],
    categories: ["all"],
    columns: [
      { name: "Size", type: "integer", description: "How large.", priority: 0, value: (object) => specOf(object).size ?? 0 },
      { name: "Note", type: "string", description: "For wide output.", priority: 1, value: (object) => specOf(object).note ?? "" },
    ],
    applyDefaults: (object) => {
      specOf(object).size ??= 1;
    },
    validate: (object) => {
      const violations = unknownFields(object.spec, "spec", ["size", "note", "list"]);
      if (violations.length === 0 && typeof specOf(object).size !== "number") {
        violations.push({ path: "spec.size", message: `must be a number, got ${JSON.stringify(specOf(object).size)}` });
      }
      if (typeof object.metadata.name !== "string") violations.push({ path: "metadata.name", message: "is required" });
      return violations;
    },
  },
  { ...plain, group: "weft.dev", versions: ["v1alpha1"], kind: "Proxy", plural: "proxies", singular: "proxy", virtual: true },
];

function specOf(object: KubeObject): { size?: number; note?: string } {
  return object.spec as { size?: number; note?: string };
}

/** `admin` and `shop/reviews`-like tokens stand for callers; the second kind may touch gadgets whose note is its account. */
function callerOf(token: string): Caller | undefined {
  if (token === "admin") return { kind: "admin", user: "admin" };
  const [namespace = "", serviceAccount = ""] = token.split("/");
  if (serviceAccount === "") return undefined;
  return { kind: "workload", user: `system:serviceaccount:${namespace}:${serviceAccount}`, namespace, serviceAccount };
}

export interface TestServer {
  readonly api: ApiServer;
  readonly store: Store;
  readonly live: Map<string, KubeObject>;
  /** Tells the watchers of live state that it changed. */
  readonly liveChanged: () => void;
  readonly held: Request[];
  /** A request as `admin` unless a token is given; a body that is no string is sent as JSON. */
  ask(method: string, path: string, body?: unknown, headers?: Record<string, string>): Promise<Response>;
}

export function makeTestServer(overrides: Partial<ApiServerDeps> = {}, clock: Clock = systemClock): TestServer {
  const store = overrides.store ?? openSqliteStore(":memory:");
  const live = new Map<string, KubeObject>();
  const listeners = new Set<() => void>();
  const held: Request[] = [];
  const deps: ApiServerDeps = {
    store,
    kinds: testKinds,
    admit: () => [],
    authenticate: (request) => {
      const token = /^Bearer (.+)$/.exec(request.headers.get("authorization") ?? "")?.[1];
      const caller = token === undefined ? undefined : callerOf(token);
      return caller === undefined ? { ok: false, reason: "no valid credentials; ask the admin for a token" } : { ok: true, caller };
    },
    authorize: (caller, access) => {
      if (caller.kind === "admin") return { allowed: true };
      if (caller.kind === "user") return { allowed: false, reason: `${caller.user} may do nothing here` };
      if (access.type === "path" || access.namespace !== caller.namespace || access.resource !== "gadgets.test.weft.dev") {
        return { allowed: false, reason: `${caller.user} may only touch gadgets of namespace ${caller.namespace}` };
      }
      const owns = (object: KubeObject) => specOf(object).note === caller.serviceAccount;
      return { allowed: true, owns, ownsWhat: `spec.note must be ${JSON.stringify(caller.serviceAccount)}` };
    },
    virtual: {
      list: () => [...live.values()],
      subscribe: (_resource, onChange) => {
        listeners.add(onChange);
        return () => listeners.delete(onChange);
      },
    },
    routes: [],
    issueToken: async (request) => ({
      token: `token-for-${request.namespace}-${request.serviceAccount}-${request.expirationSeconds}`,
      expirationTimestamp: "2030-01-01T00:00:00Z",
    }),
    notReady: () => undefined,
    clock,
    random: (bytes) => void crypto.getRandomValues(bytes),
    log: silentLogger,
    version: "0.0.0-test",
    ...overrides,
  };
  const api = createApiServer(deps);
  const holder = { timeout: (request: Request) => void held.push(request) };
  return {
    api,
    store,
    live,
    liveChanged: () => {
      for (const listener of [...listeners]) listener();
    },
    held,
    ask(method, path, body, headers = {}) {
      const text = body === undefined || typeof body === "string" ? body : JSON.stringify(body);
      const type = text === undefined ? {} : { "content-type": "application/json" };
      const request = new Request(`https://weft${path}`, {
        method,
        headers: { authorization: "Bearer admin", ...type, ...headers },
        ...(text !== undefined && { body: text }),
      });
      return api.handle(request, holder);
    },
  };
}

export function gadget(name: string, spec: Record<string, unknown> = {}, metadata: Record<string, unknown> = {}): KubeObject {
  return { apiVersion: "test.weft.dev/v1", kind: "Gadget", metadata: { name, ...metadata }, spec } as KubeObject;
}
