// Owns: Envoy's local_ratelimit and adaptive_concurrency filters, and our Admission beside them, to LocalRateLimitConfig and AdmissionConfig. Counts nothing.

import type {
  RateLimit,
  RateLimit_Action,
  RateLimit_Action_MetaData,
} from "../../../wire/gen/envoy/config/route/v3/route_components_pb.ts";
import type { AdaptiveConcurrency } from "../../../wire/gen/envoy/extensions/filters/http/adaptive_concurrency/v3/adaptive_concurrency_pb.ts";
import type { LocalRateLimit } from "../../../wire/gen/envoy/extensions/filters/http/local_ratelimit/v3/local_rate_limit_pb.ts";
import type { TokenBucket } from "../../../wire/gen/envoy/type/v3/token_bucket_pb.ts";
import type { Admission } from "../../../wire/gen/weft/extensions/v1/overload_pb.ts";
import type { AdmissionConfig, LocalRateLimitConfig, RateAction } from "../../config.ts";
import type { BucketConfig } from "../../resilience/bucket.ts";
import { gradientDefaults } from "../../resilience/gradient.ts";
import { type RouteMetadata, textIn } from "../../route/metadata.ts";
import { ExpressionDescriptor, PeerIdentity } from "../proto/types.ts";
import { at, decodeExtension, type Extension, extension, type Gate, millis, present } from "./gate.ts";
import { fraction, headerMatch } from "./match.ts";

/** Each has a few hundred bytes. */
const mostDynamic = 100_000;

/** null: it asks for nothing (an empty message stands in a chain for routes that have a limit). */
export function decodeRateLimit(gate: Gate, limit: LocalRateLimit, path: string): LocalRateLimitConfig | null {
  present(gate, at(path, "stat_prefix"), limit.statPrefix);
  const bucket = limit.tokenBucket === undefined ? null : bucketOf(gate, limit.tokenBucket, at(path, "token_bucket"));
  const maxDynamic = limit.maxDynamicDescriptors ?? 1_024;
  if (maxDynamic < 1 || maxDynamic > mostDynamic)
    gate.add(at(path, "max_dynamic_descriptors"), `${maxDynamic} is not from 1 to ${mostDynamic}`);
  const descriptors = limit.descriptors.map((one, n) => {
    const where = `${path}.descriptors[${n}]`;
    if (one.entries.length === 0) gate.add(at(where, "entries"), "needs at least one");
    if (one.tokenBucket === undefined) gate.add(at(where, "token_bucket"), "is missing");
    return {
      entries: one.entries.map((entry, e) => ({ key: present(gate, `${where}.entries[${e}].key`, entry.key), value: entry.value })),
      bucket: one.tokenBucket === undefined ? nothing : bucketOf(gate, one.tokenBucket, at(where, "token_bucket")),
    };
  });
  const limits = limit.rateLimits
    .map((one, n) => {
      const where = `${path}.rate_limits[${n}]`;
      if ((one.stage ?? 0) !== 0) gate.add(at(where, "stage"), "only 0 is supported");
      return rateActions(gate, one, where);
    })
    .filter((one) => one !== null);
  if (descriptors.length > 0 && limits.length === 0)
    gate.add(at(path, "descriptors"), "needs rate_limits, whose actions make descriptors of a request");
  if (bucket === null && descriptors.length === 0) return null;
  const share = (value: LocalRateLimit["filterEnabled"], name: string) =>
    value?.defaultValue === undefined ? 0 : fraction(gate, value.defaultValue, at(path, `${name}.default_value`));
  const status = limit.status?.code ?? 0;
  // Envoy: below 400 the default is taken.
  return {
    bucket,
    descriptors,
    limits,
    status: status < 400 ? 429 : status,
    resourceExhausted: limit.rateLimitedAsResourceExhausted,
    tellHeaders: limit.enableXRatelimitHeaders === 1,
    alwaysDefault: limit.alwaysConsumeDefaultTokenBucket ?? true,
    // Envoy: absent is 0 %.
    enabled: share(limit.filterEnabled, "filter_enabled"),
    enforced: share(limit.filterEnforced, "filter_enforced"),
    maxDynamic,
  };
}

/** CEL, by Envoy's attributes: the URI name in the client's certificate. */
const peerExpression = "connection.uri_san_peer_certificate";

const nothing: BucketConfig = { maxTokens: 1, perFill: 1, fillMs: 1_000 };

function bucketOf(gate: Gate, bucket: TokenBucket, path: string): BucketConfig {
  if (bucket.maxTokens === 0) gate.add(at(path, "max_tokens"), "must be above 0");
  const perFill = bucket.tokensPerFill ?? 1;
  if (perFill === 0) gate.add(at(path, "tokens_per_fill"), "must be above 0");
  const fillMs = millis(gate, at(path, "fill_interval"), bucket.fillInterval, 0);
  if (fillMs < 50) gate.add(at(path, "fill_interval"), "must be at least 50ms, as Envoy has it");
  return { maxTokens: bucket.maxTokens || 1, perFill: perFill || 1, fillMs: fillMs || 1_000 };
}

const actionExtensions: readonly Extension<RateAction>[] = [
  extension(PeerIdentity, (_gate, one): RateAction => ({ kind: "peer", key: one.descriptorKey || "peer_identity", skipIfAbsent: false })),
  // Envoy evaluates expressions; the one that names the client is the one that we know.
  extension(ExpressionDescriptor, (gate, one, path): RateAction => {
    const key = present(gate, at(path, "descriptor_key"), one.descriptorKey);
    const text = one.exprSpecifier.value ?? "";
    if (text.trim() !== peerExpression)
      gate.add(at(path, "text"), `"${text.slice(0, 100)}" is not supported; the one expression known here is ${peerExpression}`);
    return { kind: "peer", key, skipIfAbsent: one.skipIfError };
  }),
];

/** What makes a descriptor of each of these limits; `metadata`: of the route they belong to, null where they belong to none. Null: the limit makes none. */
export function rateActions(
  gate: Gate,
  limit: RateLimit,
  path: string,
  metadata: RouteMetadata | null = null,
): readonly RateAction[] | null {
  if (limit.actions.length === 0) gate.add(at(path, "actions"), "needs at least one");
  const out: RateAction[] = [];
  let none = false;
  limit.actions.forEach((action, n) => {
    const where = `${path}.actions[${n}]`;
    const made =
      action.actionSpecifier.case === "metadata"
        ? fromMetadata(gate, action.actionSpecifier.value, metadata, at(where, "metadata"))
        : rateAction(gate, action, where);
    if (made === null) none = true;
    else if (made !== "skip") out.push(made);
  });
  return none || out.length === 0 ? null : out;
}

/** What a route's metadata says is known with the route; a filter, which is of all routes, asks each request's. */
function fromMetadata(
  gate: Gate,
  action: RateLimit_Action_MetaData,
  metadata: RouteMetadata | null,
  path: string,
): RateAction | null | "skip" {
  const key = present(gate, at(path, "descriptor_key"), action.descriptorKey);
  if (action.source !== 1) gate.add(at(path, "source"), "DYNAMIC is not supported: no filter here makes metadata; use ROUTE_ENTRY");
  const names = [present(gate, at(path, "metadata_key.key"), action.metadataKey?.key ?? "")];
  for (const { segment } of action.metadataKey?.path ?? []) names.push(segment.value ?? "");
  if (metadata === null) return { kind: "route", key, path: names, value: action.defaultValue, skipIfAbsent: action.skipIfAbsent };
  const value = textIn(metadata, names) || action.defaultValue;
  if (value === "") return action.skipIfAbsent ? "skip" : null;
  return { kind: "generic", key, value };
}

function rateAction(gate: Gate, action: RateLimit_Action, path: string): RateAction {
  const specifier = action.actionSpecifier;
  switch (specifier.case) {
    case "requestHeaders": {
      const { headerName, descriptorKey, skipIfAbsent } = specifier.value;
      const where = at(path, "request_headers");
      const name = present(gate, at(where, "header_name"), headerName).toLowerCase();
      if (name.startsWith(":") && ![":path", ":method", ":authority"].includes(name))
        gate.add(at(where, "header_name"), `${name} is not one of :path, :method, :authority`);
      return { kind: "header", name, key: present(gate, at(where, "descriptor_key"), descriptorKey), skipIfAbsent };
    }
    case "remoteAddress":
      return { kind: "remote" };
    case "sourceCluster":
      return { kind: "source" };
    case "destinationCluster":
      return { kind: "destination" };
    case "metadata":
      // `rateActions` has it.
      return { kind: "remote" };
    case "genericKey":
      return {
        kind: "generic",
        key: specifier.value.descriptorKey || "generic_key",
        value: present(gate, at(path, "generic_key.descriptor_value"), specifier.value.descriptorValue),
      };
    case "headerValueMatch": {
      const { descriptorKey, descriptorValue, expectMatch, headers } = specifier.value;
      const where = at(path, "header_value_match");
      if (headers.length === 0) gate.add(at(where, "headers"), "needs at least one");
      return {
        kind: "match",
        key: descriptorKey || "header_match",
        value: present(gate, at(where, "descriptor_value"), descriptorValue),
        expect: expectMatch ?? true,
        headers: headers.map((header, n) => headerMatch(gate, `${where}.headers[${n}]`, header)),
      };
    }
    case "extension": {
      const { name, typedConfig } = specifier.value;
      const config = { case: "typedConfig", value: typedConfig };
      return decodeExtension(gate, actionExtensions, "rate limit descriptor", name, config, at(path, "extension")) ?? { kind: "remote" };
    }
    case undefined:
      gate.add(
        path,
        "needs one of source_cluster, destination_cluster, metadata, request_headers, remote_address, generic_key, header_value_match, extension",
      );
      return { kind: "remote" };
  }
}

/** Envoy's filter. What it sets about measuring is Envoy's way of doing that; ours needs none of it, and takes the bound alone. */
export function decodeAdaptive(gate: Gate, filter: AdaptiveConcurrency, path: string): AdmissionConfig {
  const gradient = filter.concurrencyControllerConfig;
  if (gradient.case === undefined) gate.add(path, "needs gradient_controller_config");
  const most = gradient.value?.concurrencyLimitParams?.maxConcurrencyLimit ?? gradientDefaults.max;
  if (most < gradientDefaults.min)
    gate.add(
      at(path, "gradient_controller_config.concurrency_limit_params.max_concurrency_limit"),
      `must be at least ${gradientDefaults.min}`,
    );
  const status = filter.concurrencyLimitExceededStatus?.code ?? 0;
  return { ...adaptive, maxConcurrency: most, status: status < 400 ? 503 : status };
}

const adaptive: AdmissionConfig = {
  concurrency: 0,
  maxConcurrency: gradientDefaults.max,
  maxQueue: 0,
  targetMs: 0,
  criticalityHeader: null,
  shareBy: { kind: "nobody" },
  status: 503,
};

/** What waits is held in memory, and nobody waits usefully behind so many. */
const mostQueue = 100_000;

export function decodeAdmission(gate: Gate, filter: Admission, path: string): AdmissionConfig {
  if (filter.maxConcurrency !== 0 && filter.maxConcurrency < gradientDefaults.min)
    gate.add(at(path, "max_concurrency"), `must be at least ${gradientDefaults.min}`);
  if (filter.maxQueue > mostQueue) gate.add(at(path, "max_queue"), `${filter.maxQueue} is above ${mostQueue}`);
  if (filter.shareBy === 2 && filter.shareHeader === "") gate.add(at(path, "share_header"), "is missing, which share_by: HEADER needs");
  if (filter.shareBy !== 2 && filter.shareHeader !== "") gate.add(at(path, "share_header"), "needs share_by: HEADER");
  if (filter.shareBy > 2) gate.add(at(path, "share_by"), `${filter.shareBy} is not known`);
  if (filter.status !== 0 && (filter.status < 400 || filter.status > 599))
    gate.add(at(path, "status"), `${filter.status} is not from 400 to 599`);
  return {
    ...adaptive,
    status: filter.status || 503,
    concurrency: filter.concurrency,
    maxConcurrency: filter.maxConcurrency || gradientDefaults.max,
    maxQueue: filter.maxQueue,
    targetMs: millis(gate, at(path, "target_delay"), filter.targetDelay, 0),
    criticalityHeader: filter.criticalityHeader === "" ? null : filter.criticalityHeader,
    shareBy: filter.shareBy === 2 ? { kind: "header", name: filter.shareHeader } : { kind: filter.shareBy === 1 ? "peer" : "nobody" },
  };
}
