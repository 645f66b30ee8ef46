// Owns: weft.dev RateLimitPolicy: how many requests a Service or a Gateway takes in a time, of all clients or of each. What it compiles to stands in
// compile/policies/limits.ts; who counts what is shared stands in control/ratelimit.

import { acceptedColumn, ageColumn, defineKind, textColumn } from "../define.ts";
import type { KubeObject, Violation } from "../meta.ts";
import { show } from "../schema.ts";
import { type Add, checkRegex, checkRuleNames, durationMs, gatewayDuration, gather, sectionName } from "./gateway-refs.ts";
import { checkShared, checkStatus, checkTargets, headerName, refusalStatus, targetNames, targetRefs } from "./policy-targets.ts";
import { type LimitRule, limitUnits, type RateLimitPolicyObject, ruleName } from "./ratelimitpolicy-spec.ts";

/** Nothing is limited by more than a proxy could take in a second of years. */
const mostRequests = 1_000_000_000;
/** Each is a bucket (or, with `by`, some) that every request is held against. */
const mostRules = 16;
/** Envoy fills buckets no oftener than each 50 ms. */
const shortestLocalMs = 100;
const longestLocalMs = 24 * 3_600_000;
/** The request waits for as long. */
const longestTimeoutMs = 5_000;

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
      description: "How many requests a Service or a Gateway takes in a time.",
      required: ["targetRefs", "rules"],
      properties: {
        targetRefs,
        rules: {
          type: "array",
          description: "Limits; a request is held against each whose match fits.",
          minItems: 1,
          maxItems: mostRules,
          items: {
            type: "object",
            required: ["requests", "per"],
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
              requests: { type: "integer", minimum: 1, maximum: mostRequests, description: "How many requests in the time that per says." },
              per: { ...gatewayDuration, description: "The time: 100ms to 24h; of scope Global 1s, 1m, 1h or 24h." },
              burst: {
                type: "integer",
                minimum: 1,
                maximum: mostRequests,
                description: "Most requests at once, of scope Local. Absent: as requests.",
              },
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
    "A policy with `sectionName` goes before one for the whole Service at that port. Of several for the same target the oldest decides, then the first by name; the others are told `Conflicted`.",
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

function sayRule({ scope, requests, per, by = [] }: LimitRule): string {
  const whose = by.map(({ type, header }) => header ?? type.toLowerCase()).join("+");
  return `${requests}/${per}${whose === "" ? "" : ` by ${whose}`}${scope === "Global" ? " (global)" : ""}`;
}

function checkPolicy({ spec }: RateLimitPolicyObject, add: Add): void {
  checkStatus(spec.status, add);
  checkTargets(
    spec.targetRefs,
    ["Service", "Gateway"],
    "name the Service that the requests go to, or the Gateway they come by, and tell them apart by rules[].match",
    add,
  );
  checkRuleNames(spec.rules, add);
  const names = new Map([...spec.rules.entries()].reverse().map(([at, rule]) => [ruleName(rule, at), at]));
  for (const [at, rule] of spec.rules.entries()) {
    const path = `spec.rules[${at}]`;
    const same = names.get(ruleName(rule, at));
    if (same !== at && rule.name === undefined) add(path, `is called ${ruleName(rule, at)}, as spec.rules[${same}] is; give it a name`);
    checkRule(rule, path, add);
  }
  const ms = durationMs(spec.timeout);
  if (ms < 1 || ms > longestTimeoutMs)
    add("spec.timeout", `${show(spec.timeout)} is not from 1ms to ${longestTimeoutMs / 1_000}s: every request waits for as long`);
}

function checkRule(rule: LimitRule, path: string, add: Add): void {
  const { match, by = [], per, burst, scope } = rule;
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
