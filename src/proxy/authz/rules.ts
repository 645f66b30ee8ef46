// Owns: compiling RBAC configurations into functions (configuration time). Whatever cannot be compiled throws, and the listener is refused:
// a policy is never accepted and ignored.

import type { ClaimMatch, HeaderMatch, Permission, Principal, RbacConfig } from "../config.ts";
import { compileHeader } from "../route/header.ts";
import { compileBytes, compileString } from "../route/match.ts";
import { addressInPrefix } from "./address.ts";
import type { Rule } from "./subject.ts";

/** One RBAC filter, ready to be asked. */
export interface CompiledRbac {
  readonly action: "allow" | "deny" | "log";
  readonly policies: readonly { readonly name: string; readonly applies: Rule }[];
  /** Some rule looks at the path, so it must be normalised before the question. */
  readonly readsPath: boolean;
  /** Some rule looks at the client's address, so that `subject.client` must be there. */
  readonly readsClient: boolean;
}

export function compileRbac(config: RbacConfig): CompiledRbac {
  let readsPath = false;
  const readsClient = config.policies.some((policy) => policy.principals.some(asksForClient));
  const seen = () => {
    readsPath = true;
  };
  const policies = config.policies.map((policy) => {
    if (policy.permissions.length === 0 || policy.principals.length === 0)
      throw new Error(`policy ${policy.name} has no permissions or no principals`);
    const permitted = any(policy.permissions.map((permission) => compilePermission(permission, seen)));
    const meant = any(policy.principals.map((principal) => compilePrincipal(principal, seen)));
    return { name: policy.name, applies: both(permitted, meant) };
  });
  return { action: config.action, policies, readsPath, readsClient };
}

function compilePermission(permission: Permission, seesPath: () => void): Rule {
  switch (permission.kind) {
    case "any":
      return always;
    case "and":
      return all(permission.rules.map((rule) => compilePermission(rule, seesPath)));
    case "or":
      return any(permission.rules.map((rule) => compilePermission(rule, seesPath)));
    case "not":
      return not(compilePermission(permission.rule, seesPath));
    case "header":
      return headerRule(permission.header, seesPath);
    case "path": {
      seesPath();
      const matches = compileBytes(permission.match);
      return (subject) => subject.head !== null && matches(subject.pathBytes, subject.pathFrom, subject.pathTo);
    }
    case "port": {
      const port = permission.port;
      // 0: connections of this chain come from a redirection or a load balancer, and each knows its own destination.
      return (subject) => (subject.port !== 0 ? subject.port : (subject.wire?.localPort ?? 0)) === port;
    }
  }
}

function compilePrincipal(principal: Principal, seesPath: () => void): Rule {
  switch (principal.kind) {
    case "any":
      return always;
    case "and":
      return all(principal.rules.map((rule) => compilePrincipal(rule, seesPath)));
    case "or":
      return any(principal.rules.map((rule) => compilePrincipal(rule, seesPath)));
    case "not":
      return not(compilePrincipal(principal.rule, seesPath));
    case "authenticated": {
      if (principal.match === null) return (subject) => subject.peer !== null && subject.peer.principal !== null;
      const matches = compileString(principal.match);
      return (subject) => {
        const peer = subject.peer;
        return peer !== null && peer.principal !== null && matches(peer.principal);
      };
    }
    case "header":
      return headerRule(principal.header, seesPath);
    case "remote_ip": {
      const within = addressInPrefix(principal.prefix, principal.prefixLength);
      // Envoy's direct_remote_ip: who is at the other end of the socket, whatever a PROXY header said.
      return (subject) => subject.wire !== null && within(subject.wire.directAddress ?? subject.wire.remoteAddress);
    }
    case "claim": {
      const { path, invert } = principal;
      const matches = compileClaim(principal.match);
      return (subject) => {
        // What stands here of a request says nothing of the connection that is judged next.
        let value: unknown = subject.head === null ? undefined : (subject.claims ?? undefined);
        for (let i = 0; i < path.length && value !== undefined; i++) value = memberOf(value, path[i] as string);
        return matches(value) !== invert;
      };
    }
    case "client_ip": {
      const within = addressInPrefix(principal.prefix, principal.prefixLength);
      // Of a connection or datagram whoever a PROXY header names, or who is at the other end.
      return (subject) => {
        const client = subject.client ?? subject.wire?.remoteAddress ?? null;
        return client !== null && within(client);
      };
    }
  }
}

function memberOf(value: unknown, name: string): unknown {
  if (typeof value !== "object" || value === null || Array.isArray(value) || !Object.hasOwn(value, name)) return undefined;
  return (value as Readonly<Record<string, unknown>>)[name];
}

function compileClaim(match: ClaimMatch): (value: unknown) => boolean {
  switch (match.kind) {
    case "string": {
      const matches = compileString(match.match);
      return (value) => typeof value === "string" && matches(value);
    }
    case "present":
      return (value) => (value !== undefined) === match.present;
    case "list": {
      const matches = compileClaim(match.of);
      return (value) => Array.isArray(value) && value.some(matches);
    }
    case "or": {
      const of = match.of.map(compileClaim);
      return (value) => {
        for (let i = 0; i < of.length; i++) if ((of[i] as (value: unknown) => boolean)(value)) return true;
        return false;
      };
    }
  }
}

function asksForClient(principal: Principal): boolean {
  switch (principal.kind) {
    case "client_ip":
      return true;
    case "and":
    case "or":
      return principal.rules.some(asksForClient);
    case "not":
      return asksForClient(principal.rule);
    default:
      return false;
  }
}

function headerRule(config: HeaderMatch, seesPath: () => void): Rule {
  if (config.name === ":path") {
    // Envoy hands `:path` with its query to a header rule; the path in it is the normalised one.
    seesPath();
    const matches = config.match === null ? () => true : compileBytes(config.match);
    const invert = config.invert;
    return (subject) => subject.head !== null && matches(subject.pathBytes, subject.pathFrom, subject.fullTo) !== invert;
  }
  const matches = compileHeader(config);
  return (subject) => subject.head !== null && matches(subject.bytes, subject.head);
}

const always: Rule = () => true;

function not(rule: Rule): Rule {
  return (subject) => !rule(subject);
}

function both(a: Rule, b: Rule): Rule {
  return (subject) => a(subject) && b(subject);
}

function any(rules: readonly Rule[]): Rule {
  if (rules.length === 1) return rules[0] as Rule;
  return (subject) => {
    for (let i = 0; i < rules.length; i++) if ((rules[i] as Rule)(subject)) return true;
    return false;
  };
}

function all(rules: readonly Rule[]): Rule {
  if (rules.length === 1) return rules[0] as Rule;
  return (subject) => {
    for (let i = 0; i < rules.length; i++) if (!(rules[i] as Rule)(subject)) return false;
    return true;
  };
}
