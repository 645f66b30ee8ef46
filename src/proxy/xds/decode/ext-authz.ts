// Owns: Envoy's `ext_authz` filter and what stands at a route for it, to ExtAuthzConfig. Asks nobody.

import type { HttpUri } from "../../../wire/gen/envoy/config/core/v3/http_uri_pb.ts";
import type {
  BufferSettings,
  ExtAuthzPerRoute,
  HttpService,
  ExtAuthz as PbExtAuthz,
} from "../../../wire/gen/envoy/extensions/filters/http/ext_authz/v3/ext_authz_pb.ts";
import type { ListStringMatcher } from "../../../wire/gen/envoy/type/matcher/v3/string_pb.ts";
import { mostCheckBody } from "../../chain/ext-authz-limits.ts";
import type { AuthBody, AuthService, ExtAuthzConfig, StringMatch } from "../../config.ts";
import { at, type Gate, millis, present } from "./gate.ts";
import { hasControl } from "./header-edits.ts";
import { fraction, stringMatch } from "./match.ts";
import { apiVersion, envoyGrpc } from "./sources.ts";

/** Envoy's default of a gRPC service; whoever wants more says so. */
const defaultTimeoutMs = 200;
/** Every request waits as long as the service takes. */
const longestTimeoutMs = 60_000;

export function decodeExtAuthz(gate: Gate, filter: PbExtAuthz, path: string): ExtAuthzConfig {
  apiVersion(gate, at(path, "transport_api_version"), filter.transportApiVersion);
  if (filter.clearRouteCache)
    gate.add(at(path, "clear_route_cache"), "true is not supported: the route is found once, before anybody is asked");
  for (const [name, set] of [
    ["include_peer_certificate", filter.includePeerCertificate],
    ["include_tls_session", filter.includeTlsSession],
  ] as const)
    if (set) gate.add(at(path, name), "true is not supported: the client is told by source.principal");
  const status = filter.statusOnError?.code ?? 0;
  return {
    filter: {
      service: serviceOf(gate, filter.services, path) ?? nobody,
      allowed: filter.allowedHeaders === undefined ? null : strings(gate, filter.allowedHeaders, at(path, "allowed_headers")),
      disallowed: strings(gate, filter.disallowedHeaders, at(path, "disallowed_headers")),
      body: filter.withRequestBody === undefined ? null : bodyOf(gate, filter.withRequestBody, at(path, "with_request_body")),
      failureAllow: filter.failureModeAllow,
      failureHeader: filter.failureModeAllowHeaderAdd,
      statusOnError: status === 0 ? 403 : errorStatus(gate, status, at(path, "status_on_error.code")),
      enabled:
        filter.filterEnabled?.defaultValue === undefined
          ? 1
          : fraction(gate, filter.filterEnabled.defaultValue, at(path, "filter_enabled.default_value")),
    },
    off: false,
    route: null,
  };
}

export function decodePerRoute(gate: Gate, { override }: ExtAuthzPerRoute, path: string): ExtAuthzConfig | "off" {
  if (override.case === "disabled") {
    if (!override.value) gate.add(at(path, "disabled"), "must be true, or be left out");
    return "off";
  }
  const settings = override.value;
  if (settings === undefined) gate.add(path, "needs one of disabled, check_settings");
  const where = at(path, "check_settings");
  const body = settings?.withRequestBody;
  if (settings?.disableRequestBodyBuffering === true && body !== undefined)
    gate.add(at(where, "with_request_body"), "and disable_request_body_buffering exclude each other");
  return {
    filter: null,
    off: false,
    route: {
      context: { ...settings?.contextExtensions },
      body:
        settings?.disableRequestBodyBuffering === true
          ? null
          : body === undefined
            ? undefined
            : bodyOf(gate, body, at(where, "with_request_body")),
      service:
        settings === undefined || settings.serviceOverride.case === undefined ? null : serviceOf(gate, settings.serviceOverride, where),
    },
  };
}

const nobody: AuthService = { kind: "grpc", cluster: "", authority: "", metadata: [], timeoutMs: defaultTimeoutMs };

function serviceOf(gate: Gate, services: PbExtAuthz["services"], path: string): AuthService | null {
  switch (services.case) {
    case "grpcService": {
      const where = at(path, "grpc_service");
      const timeoutMs = millis(gate, at(where, "timeout"), services.value.timeout, defaultTimeoutMs);
      checkTimeout(gate, timeoutMs, at(where, "timeout"));
      // A call has a time-out, which streams have not.
      const target = envoyGrpc(gate, { ...services.value, timeout: undefined } as unknown as Parameters<typeof envoyGrpc>[1], where);
      return { kind: "grpc", cluster: target.cluster, authority: target.authority, metadata: target.metadata, timeoutMs };
    }
    case "httpService":
      return httpService(gate, services.value, at(path, "http_service"));
    case undefined:
      gate.add(path, "needs one of grpc_service, http_service");
      return null;
  }
}

function checkTimeout(gate: Gate, timeoutMs: number, path: string): void {
  if (timeoutMs <= 0 || timeoutMs > longestTimeoutMs) gate.add(path, `must be above 0s and at most ${longestTimeoutMs / 1_000}s`);
}

function httpService(gate: Gate, service: HttpService, path: string): AuthService {
  const uri: HttpUri | undefined = service.serverUri;
  const where = at(path, "server_uri");
  if (uri === undefined) gate.add(where, "is missing");
  const timeoutMs = millis(gate, at(where, "timeout"), uri?.timeout, defaultTimeoutMs);
  checkTimeout(gate, timeoutMs, at(where, "timeout"));
  const prefix = service.pathPrefix;
  if (prefix !== "" && !/^\/[\x21-\x7e]*$/.test(prefix)) gate.add(at(path, "path_prefix"), `"${prefix}" is no path that begins with "/"`);
  const asked = service.authorizationRequest;
  const answer = service.authorizationResponse;
  const answers = at(path, "authorization_response");
  return {
    kind: "http",
    cluster: present(gate, at(where, "cluster"), uri?.httpUpstreamType.value ?? ""),
    timeoutMs,
    pathPrefix: prefix,
    addHeaders: (asked?.headersToAdd ?? []).map(({ key, value }, n) => {
      const place = `${path}.authorization_request.headers_to_add[${n}]`;
      if (!/^[!#$%&'*+.^_`|~0-9A-Za-z-]+$/.test(key)) gate.add(at(place, "key"), `"${key}" is not a header name`);
      if (hasControl(value) || value.includes("%")) gate.add(at(place, "value"), "must be plain text without commands");
      return { name: key.toLowerCase(), value };
    }),
    allowed: strings(gate, asked?.allowedHeaders, at(path, "authorization_request.allowed_headers")),
    upstreamSet: strings(gate, answer?.allowedUpstreamHeaders, at(answers, "allowed_upstream_headers")),
    upstreamAppend: strings(gate, answer?.allowedUpstreamHeadersToAppend, at(answers, "allowed_upstream_headers_to_append")),
    client:
      answer?.allowedClientHeaders === undefined ? null : strings(gate, answer.allowedClientHeaders, at(answers, "allowed_client_headers")),
    clientOnSuccess: strings(gate, answer?.allowedClientHeadersOnSuccess, at(answers, "allowed_client_headers_on_success")),
  };
}

/** Names of header fields are compared without regard to case, which all are in lower. */
function strings(gate: Gate, list: ListStringMatcher | undefined, path: string): readonly StringMatch[] {
  return (list?.patterns ?? []).map((pattern, n) => {
    const match = stringMatch(gate, `${path}.patterns[${n}]`, pattern);
    return match.kind === "regex" ? match : { ...match, value: match.value.toLowerCase() };
  });
}

function bodyOf(gate: Gate, settings: BufferSettings, path: string): AuthBody {
  const most = settings.maxRequestBytes;
  if (most === 0 || most > mostCheckBody) gate.add(at(path, "max_request_bytes"), `${most} is not from 1 to ${mostCheckBody}`);
  return { maxBytes: most, partial: settings.allowPartialMessage, asBytes: settings.packAsBytes };
}

function errorStatus(gate: Gate, status: number, path: string): number {
  if (status < 400 || status > 599) gate.add(path, `${status} is not from 400 to 599`);
  return status;
}
