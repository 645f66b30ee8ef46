// Owns: weft.dev RateLimitPolicy: how many requests a Service, a Gateway or a route there takes in a time, of all clients or of each. What it compiles to stands in
// compile/policies/limits.ts; who counts what is shared stands in control/ratelimit.

import { acceptedColumn, ageColumn, defineKind, textColumn } from "../define.ts";
import type { KubeObject, Violation } from "../meta.ts";
import { notImplemented, type Schema, show } from "../schema.ts";
import {
  type Add,
  checkRegex,
  checkRuleNames,
  durationMs,
  gatewayDuration,
  gather,
  hostGroup,
  isHost,
  isService,
  sectionName,
} from "./gateway-refs.ts";
import {
  checkShared,
  checkStatus,
  checkTargets,
  headerName,
  isRouteTarget,
  refusalStatus,
  targetNames,
  targetsWith,
} from "./policy-targets.ts";
import {
  type LimitMatch,
  type LimitRule,
  type LimitService,
  limitUnits,
  type RateLimitPolicyObject,
  ruleName,
} from "./ratelimitpolicy-spec.ts";

/** Nothing is limited by more than a proxy could take in a second of years. */
const mostRequests = 1_000_000_000;
/** Each is a bucket (or, with `by`, some) that every request is held against. */
const mostRules = 16;
/** Envoy fills buckets no oftener than each 50 ms. */
const shortestLocalMs = 100;
const longestLocalMs = 24 * 3_600_000;
/** The request waits for as long. */
const longestTimeoutMs = 5_000;

/** envoyproxy/ratelimit nests as deep as anybody likes; each entry is read and told with every request. */
const mostEntries = 8;

const descriptor: Schema = {
  type: "array",
  description: "What spec.service is asked about, in the place of requests, per and by: entries in the order in which it has them.",
  minItems: 1,
  maxItems: mostEntries,
  items: {
    type: "object",
    required: ["key"],
    properties: {
      key: { type: "string", minLength: 1, maxLength: 256, description: "Key of the entry; remote_address for type RemoteAddress." },
      value: { type: "string", minLength: 1, maxLength: 1024, description: "The same value with every request." },
      type: {
        type: "string",
        enum: ["Identity", "Header", "RemoteAddress"],
        description: "In the place of value: the client's SPIFFE ID, a header's value, or the client's address.",
      },
      header: { ...headerName, description: "Name of the header, for type Header." },
    },
  },
};

const service: Schema = {
  type: "object",
  description: "A rate limit service that is asked about rules of scope Global. Absent: the control plane's.",
  required: ["backendRef", "domain"],
  properties: {
    backendRef: {
      type: "object",
      description: "Where it is: a port that speaks gRPC, of a Service, or of a host that a ServiceEntry makes known.",
      required: ["name", "port"],
      properties: {
        group: { type: "string", maxLength: 253, default: "", description: `"" (default) for a Service, ${hostGroup} for a Hostname.` },
        kind: { type: "string", minLength: 1, maxLength: 63, default: "Service", description: "Service (default) or Hostname." },
        name: { type: "string", minLength: 1, maxLength: 253, description: "Name of the Service, or the host." },
        namespace: {
          type: "string",
          minLength: 1,
          maxLength: 63,
          description: "Namespace of the Service, which needs a ReferenceGrant where it is another. Absent: the policy's own.",
        },
        port: { type: "integer", minimum: 1, maximum: 65535, description: "Port of the Service or the host." },
      },
    },
    domain: {
      type: "string",
      minLength: 1,
      maxLength: 256,
      description: "Domain of the questions, as the service's configuration has it.",
    },
  },
};

const policy = (object: KubeObject) => object as RateLimitPolicyObject;

export const rateLimitPolicyKind = defineKind({
  group: "weft.dev",
  versions: ["v1alpha1"],
  kind: "RateLimitPolicy",
  plural: "ratelimitpolicies",
  shortNames: ["rlp"],
  categories: ["weft"],
  namespaced: true,
  hasStatus: true,
  requiredFields: ["spec"],
  fields: {
    spec: {
      type: "object",
      description: "How many requests a Service, a Gateway or a route there takes in a time.",
      required: ["targetRefs", "rules"],
      properties: {
        targetRefs: targetsWith("Name of one port of the Service, or of one rule of the route. Absent: all of them."),
        service,
        rules: {
          type: "array",
          description: "Limits; a request is held against each whose match fits.",
          minItems: 1,
          maxItems: mostRules,
          items: {
            type: "object",
            properties: {
              name: { ...sectionName, maxLength: 63, description: "Name of the rule, in answers and metrics." },
              scope: {
                type: "string",
                enum: ["Local", "Global"],
                default: "Local",
                description: "Local (default): each proxy counts for itself. Global: one count for the whole mesh.",
              },
              match: {
                type: "object",
                description: "Requests that the rule is for. Absent: all.",
                properties: {
                  path: {
                    type: "object",
                    description: "Path, normalised and without its query.",
                    required: ["value"],
                    properties: {
                      type: {
                        type: "string",
                        enum: ["Exact", "PathPrefix", "RegularExpression"],
                        default: "PathPrefix",
                        description: "How value is compared; PathPrefix by default: whole segments.",
                      },
                      value: {
                        type: "string",
                        minLength: 1,
                        maxLength: 1024,
                        description: "The path, its beginning, or an expression (RE2).",
                      },
                    },
                  },
                  method: { type: "string", minLength: 1, maxLength: 32, pattern: "^[A-Z]+$", description: "Method, such as POST." },
                  headers: {
                    type: "array",
                    description: "Headers, all of which must fit.",
                    maxItems: 8,
                    items: {
                      type: "object",
                      required: ["name"],
                      properties: {
                        name: headerName,
                        type: {
                          type: "string",
                          enum: ["Exact", "Prefix", "Present", "RegularExpression"],
                          default: "Exact",
                          description: "How value is compared; Exact by default. Present: the header is there.",
                        },
                        value: {
                          type: "string",
                          minLength: 1,
                          maxLength: 1024,
                          description: "The value, its beginning, or an expression (RE2).",
                        },
                      },
                    },
                  },
                },
              },
              by: {
                type: "array",
                description: "Each value of what these name has a count of its own. Absent: all requests share one.",
                maxItems: 3,
                items: {
                  type: "object",
                  required: ["type"],
                  properties: {
                    type: {
                      type: "string",
                      enum: ["Identity", "Header", "RemoteAddress"],
                      description: "The client's SPIFFE ID, a header's value, or the client's address.",
                    },
                    header: { ...headerName, description: "Name of the header, for type Header." },
                  },
                },
              },
              requests: {
                type: "integer",
                minimum: 1,
                maximum: mostRequests,
                description: "How many requests in the time that per says; required without descriptor.",
              },
              per: {
                ...gatewayDuration,
                description: "The time: 100ms to 24h; of scope Global 1s, 1m, 1h or 24h; required without descriptor.",
              },
              burst: {
                type: "integer",
                minimum: 1,
                maximum: mostRequests,
                description: "Most requests at once, of scope Local. Absent: as requests.",
              },
              descriptor,
            },
          },
        },
        status: { ...refusalStatus, default: 429, description: "HTTP status that a refused request is answered with; 429 by default." },
        tellClients: {
          type: "boolean",
          default: true,
          description: "Answers carry x-ratelimit-limit, -remaining and -reset; true by default.",
        },
        whenServiceFails: {
          type: "string",
          enum: ["Allow", "Deny"],
          default: "Allow",
          description: "What becomes of requests while global counts cannot be asked for; Allow by default.",
        },
        timeout: {
          ...gatewayDuration,
          default: "50ms",
          description: "How long a request waits for a global count, 1ms to 5s; 50ms by default.",
        },
      },
    },
  },
  notes: [
    "Attached to a `Service` of its own namespace (`sectionName`: one port of it) it is enforced by the sidecar of each instance, where the client's verified identity is known; attached to a `Gateway` by the gateway's processes.",
    "A request is held against every rule whose `match` fits it, and refused (`status`, gRPC UNAVAILABLE) when one of them has nothing left. Without `match` a rule is for all requests. Paths are matched in their normalised form, without the query.",
    "`by` gives each value of what it names a bucket of its own: the client's SPIFFE ID, a header's value, the client's address. Requests that lack it (no such header, no client certificate) share one bucket, so that leaving it out is no way around.",
    "`scope: Local` is a token bucket in each proxy: `requests` each `per`, at most `burst` (default `requests`) at once. `scope: Global` is one count for all proxies, kept by the control plane's rate limit service in windows of `per` (1s, 1m, 1h or 24h); with a day and `by` it is a quota.",
    "While that service cannot be asked, or takes longer than `timeout`, requests pass or are refused by `whenServiceFails`.",
    "`tellClients` adds `x-ratelimit-limit`, `-remaining` and `-reset` to answers.",
    "Attached to an `HTTPRoute` or `GRPCRoute` (`sectionName`: one rule of it by its name) it is enforced by the processes of the Gateways that the route is attached to, for the requests that follow it. Routes at Services are followed by callers, whom nothing holds to a limit: name the Service there.",
    "A policy with `sectionName` goes before one for the whole Service at that port, or the whole route at that rule. Of several for the same target the oldest decides, then the first by name; the others are told `Conflicted`.",
    "Policies for a Gateway, for routes there and for the Services behind them all apply: a request passes where each lets it pass. Of those at one Gateway `whenServiceFails: Deny` of one is that of all, and the longest `timeout`; `status` is that of the Gateway's, then of the oldest route's.",
    "`service` names a rate limit service of your own that speaks `envoy.service.ratelimit.v3`, for the rules of scope Global: each says in `descriptor` what it is asked, in the place of `requests`, `per` and `by`, since the service knows the limits. An entry that a request lacks (no such header, no client certificate) is left out. A rule with `match` shows in the first entry with a `value`, which only requests have that fit; for a route so does the next one.",
    "A `Service` of another namespace needs a ReferenceGrant there (`from` kind RateLimitPolicy, group weft.dev), a `Hostname` (group networking.istio.io) a ServiceEntry that is exported to the policy's namespace. While the reference leads nowhere the policy is `ResolvedRefs: False`, and `whenServiceFails` decides. One port asks one service: of policies that name different ones for the same instances or Gateway the first is heard, and the others are told `Conflicted`.",
    "It compiles to Envoy's `local_ratelimit` and `ratelimit` filters, so that an Envoy in the place of a sidecar enforces it too.",
    "Fair shares of a service that is full are the OverloadPolicy's `shareBy`.",
  ],
  rules: (object): Violation[] => gather((add) => checkPolicy(policy(object), add)),
  columns: [
    textColumn("Targets", "What it is for.", (object) => targetNames(policy(object).spec?.targetRefs)),
    textColumn("Rules", "Requests by time, and whose.", (object) => (policy(object).spec?.rules ?? []).map(sayRule).join(", ")),
    acceptedColumn,
    ageColumn,
  ],
});

function sayRule({ scope, requests, per, by = [], descriptor }: LimitRule): string {
  if (descriptor !== undefined)
    return `${descriptor.map(({ key, value }) => (value === undefined ? key : `${key}=${value}`)).join("+")} (service)`;
  const whose = by.map(({ type, header }) => header ?? type.toLowerCase()).join("+");
  return `${requests}/${per}${whose === "" ? "" : ` by ${whose}`}${scope === "Global" ? " (global)" : ""}`;
}

function checkPolicy({ metadata, spec }: RateLimitPolicyObject, add: Add): void {
  checkStatus(spec.status, add);
  if (spec.service !== undefined) checkService(spec.service, spec, metadata.namespace ?? "", add);
  checkTargets(
    spec.targetRefs,
    ["Service", "Gateway", "HTTPRoute", "GRPCRoute"],
    "name the Service that the requests go to, the Gateway they come by, or an HTTPRoute or GRPCRoute there, and tell them apart by rules[].match",
    add,
  );
  checkRuleNames(spec.rules, add);
  const names = new Map([...spec.rules.entries()].reverse().map(([at, rule]) => [ruleName(rule, at), at]));
  for (const [at, rule] of spec.rules.entries()) {
    const path = `spec.rules[${at}]`;
    const same = names.get(ruleName(rule, at));
    if (same !== at && rule.name === undefined) add(path, `is called ${ruleName(rule, at)}, as spec.rules[${same}] is; give it a name`);
    checkRule(rule, path, spec, add);
  }
  const ms = durationMs(spec.timeout);
  if (ms < 1 || ms > longestTimeoutMs)
    add("spec.timeout", `${show(spec.timeout)} is not from 1ms to ${longestTimeoutMs / 1_000}s: every request waits for as long`);
}

function checkService({ backendRef: ref }: LimitService, spec: RateLimitPolicyObject["spec"], namespace: string, add: Add): void {
  const path = "spec.service.backendRef";
  if (!spec.rules.some(({ scope }) => scope === "Global"))
    add("spec.service", "no rule has scope Global, so that it would never be asked; remove it, or give a rule scope: Global");
  if (ref.kind === "Hostname") {
    if (!isHost(ref)) add(`${path}.group`, `a Hostname is in group ${show(hostGroup)}, got ${show(ref.group)}`);
    if (ref.namespace !== undefined)
      add(`${path}.namespace`, "must not be there for a Hostname, which is the same in every namespace; remove it");
    if (!hostName.test(ref.name))
      add(`${path}.name`, `${show(ref.name)} is no full name of a host in lower case, such as limits.example.com`);
  } else if (ref.kind !== "Service")
    add(
      `${path}.kind`,
      notImplemented(`a rate limit service of kind ${show(ref.kind)}`, "name a Service, or the Hostname of a ServiceEntry"),
    );
  else if (!isService(ref)) add(`${path}.group`, `a Service is in group "", got ${show(ref.group)}`);
  else if (
    spec.targetRefs.some((target) => target.kind === "Service" && target.name === ref.name && (ref.namespace ?? namespace) === namespace)
  )
    add(path, `is a target of the policy itself: each question to Service ${ref.name} would be asked about with another question`);
}

/** Labels of RFC 1123, at least two. */
const hostName = /^([a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?\.)+[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$/;

/** A question to a service that knows the limits itself. */
function checkDescriptor({ match, by, requests, per, burst, descriptor }: LimitRule, path: string, ofRoute: boolean, add: Add): void {
  for (const [name, value] of Object.entries({ requests, per, burst, by }))
    if (value !== undefined)
      add(`${path}.${name}`, "is for spec.service to know, which the rule asks; remove it, and say in descriptor what is asked");
  if (descriptor === undefined) {
    add(`${path}.descriptor`, "is required where spec.service is asked: it finds its limits by descriptors");
    return;
  }
  const keys = new Set<string>();
  for (const [at, entry] of descriptor.entries()) {
    const where = `${path}.descriptor[${at}]`;
    if ((entry.value === undefined) === (entry.type === undefined)) add(where, "needs value or type, and not both");
    if (entry.type !== undefined)
      checkShared({ type: entry.type, ...(entry.header === undefined ? {} : { header: entry.header }) }, where, add);
    else if (entry.header !== undefined) add(`${where}.header`, "belongs to type Header");
    if (entry.type === "RemoteAddress" && entry.key !== remoteKey)
      add(`${where}.key`, `must be ${remoteKey} for type RemoteAddress: Envoy has no other word for it, got ${show(entry.key)}`);
    if (keys.has(entry.key)) add(`${where}.key`, `${show(entry.key)} stands in the descriptor twice`);
    keys.add(entry.key);
  }
  const conditions = [...(match === undefined ? [] : ["match"]), ...(ofRoute ? ["the route"] : [])];
  const fixed = descriptor.filter(({ value }) => value !== undefined).length;
  if (fixed < conditions.length)
    add(
      `${path}.descriptor`,
      `needs ${conditions.length === 1 ? "an entry" : "two entries"} with a value, which a request has only where it fits ${conditions.join(" and ")}; got ${fixed}`,
    );
}

const remoteKey = "remote_address";

function checkRule(rule: LimitRule, path: string, { service, targetRefs }: RateLimitPolicyObject["spec"], add: Add): void {
  if (service !== undefined && rule.scope === "Global") checkDescriptor(rule, path, targetRefs.some(isRouteTarget), add);
  else {
    if (rule.descriptor !== undefined)
      add(`${path}.descriptor`, "belongs to rules of scope Global of a policy that names its own rate limit service (spec.service)");
    if (rule.requests === undefined) add(`${path}.requests`, "is required");
    if (rule.per === undefined) add(`${path}.per`, "is required");
    else checkCount(rule, rule.per, path, add);
  }
  checkMatch(rule.match, path, add);
}

function checkCount({ by = [], burst, scope }: LimitRule, per: string, path: string, add: Add): void {
  const ms = durationMs(per);
  if (scope === "Global") {
    if (!limitUnits.has(per))
      add(`${path}.per`, `${show(per)} is no window of a global limit; use one of ${[...limitUnits.keys()].join(", ")}`);
    if (burst !== undefined) add(`${path}.burst`, "belongs to scope Local: a global limit counts in windows; remove it");
  } else if (ms < shortestLocalMs || ms > longestLocalMs) add(`${path}.per`, `${show(per)} is not from 100ms to 24h`);
  const seen = new Set<string>();
  for (const [at, each] of by.entries()) {
    const where = `${path}.by[${at}]`;
    checkShared(each, where, add);
    const key = `${each.type} ${(each.header ?? "").toLowerCase()}`;
    if (seen.has(key)) add(where, "says the same as one before it");
    seen.add(key);
  }
}

function checkMatch(match: LimitMatch | undefined, path: string, add: Add): void {
  if (match === undefined) return;
  if (match.path === undefined && match.method === undefined && (match.headers ?? []).length === 0)
    add(`${path}.match`, "says nothing; remove it for a rule about all requests");
  if (match.path?.type === "RegularExpression") checkRegex(match.path.value, `${path}.match.path.value`, add);
  else if (match.path !== undefined && (!match.path.value.startsWith("/") || /[?#]/.test(match.path.value)))
    add(`${path}.match.path.value`, `must begin with "/" and have no query, got ${show(match.path.value)}`);
  for (const [at, header] of (match.headers ?? []).entries()) {
    const where = `${path}.match.headers[${at}]`;
    if (header.type === "Present" ? header.value !== undefined : header.value === undefined)
      add(`${where}.value`, header.type === "Present" ? "must not be there for type Present" : `is required for type ${header.type}`);
    else if (header.type === "RegularExpression") checkRegex(header.value ?? "", `${where}.value`, add);
  }
}
