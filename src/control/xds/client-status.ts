// Owns: the answer of the client status discovery service (CSDS): for each connected client the resources it asked for, runs or has rejected. Reads the
// ledgers of the open streams; changes nothing. Never says who may ask: the server does.

import { create, toBinary } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { ClientResourceStatus } from "../../wire/gen/envoy/admin/v3/config_dump_shared_pb.ts";
import {
  type ClientConfig_GenericXdsConfig,
  ClientConfig_GenericXdsConfigSchema,
  ClientConfigSchema,
  type ClientStatusRequest,
  ClientStatusResponseSchema,
  ConfigStatus,
} from "../../wire/gen/envoy/service/status/v3/csds_pb.ts";
import type { StringMatcher } from "../../wire/gen/envoy/type/matcher/v3/string_pb.ts";
import { grpcNodeId } from "../../wire/grpc-names.ts";
import { nodeId } from "../../wire/names.ts";
import { type StreamType, streamOrder, typeUrl } from "../../wire/xds-types.ts";
import { withoutPrivateKeys } from "./blot.ts";
import type { Session } from "./session.ts";
import type { AccountEntry } from "./type-ledger.ts";

/** Clients in one answer, and bytes of it: a fleet is asked for in parts, by node id. */
export const maxClients = 1_000;
export const maxAnswerBytes = 32 * 1024 * 1024;

export type StatusAnswer = { readonly ok: true; readonly bytes: Uint8Array } | { readonly ok: false; readonly reason: string };

/** `sessions`: those that the caller may see. */
export function clientStatus(request: ClientStatusRequest, sessions: Iterable<Session>): StatusAnswer {
  const wanted: StringMatcher[] = [];
  for (const [n, matcher] of request.nodeMatchers.entries()) {
    const kind = matcher.nodeId?.matchPattern.case;
    if (matcher.nodeId === undefined || matcher.$unknown !== undefined || kind === undefined || kind === "safeRegex")
      return no(`node_matchers[${n}]: only node_id with exact, prefix, suffix or contains is known`);
    wanted.push(matcher.nodeId);
  }
  const config = [];
  let clients = 0;
  let size = 0;
  for (const session of sessions) {
    const id = idOf(session);
    if (id === undefined || (wanted.length > 0 && !wanted.some((matcher) => fits(matcher, id)))) continue;
    if (++clients > maxClients) return no(`more than ${maxClients} clients fit; name some by node_matchers`);
    const client = create(ClientConfigSchema, {
      node: { id, userAgentName: session.agent },
      genericXdsConfigs: streamOrder.flatMap((type) => resourcesOf(session, type, request.excludeResourceContents)),
      clientScope: session.peer,
    });
    size += client.genericXdsConfigs.reduce((sum, each) => sum + 200 + (each.xdsConfig?.value.length ?? 0), 200);
    if (size > maxAnswerBytes)
      return no(
        `the answer would have more than ${maxAnswerBytes} bytes; set exclude_resource_contents, or name some clients by node_matchers`,
      );
    config.push(client);
  }
  return { ok: true, bytes: toBinary(ClientStatusResponseSchema, create(ClientStatusResponseSchema, { config })) };
}

function no(reason: string): StatusAnswer {
  return { ok: false, reason };
}

function idOf({ node }: Session): string | undefined {
  if (node === undefined) return undefined;
  return (node.client === "grpc" ? grpcNodeId : nodeId)(node.namespace, node.workload);
}

function fits({ matchPattern, ignoreCase }: StringMatcher, text: string): boolean {
  const fold = (each: string): string => (ignoreCase ? each.toLowerCase() : each);
  const { case: kind, value } = matchPattern;
  if (typeof value !== "string") return false;
  if (kind === "exact") return fold(text) === fold(value);
  if (kind === "prefix") return fold(text).startsWith(fold(value));
  if (kind === "suffix") return fold(text).endsWith(fold(value));
  return kind === "contains" && fold(text).includes(fold(value));
}

function resourcesOf(session: Session, type: StreamType, withoutContents: boolean): ClientConfig_GenericXdsConfig[] {
  const out: ClientConfig_GenericXdsConfig[] = [];
  for (const [name, entry] of session.ledger.type(type).account()) out.push(describe(session, type, name, entry, withoutContents));
  return out;
}

const states = {
  requested: [ConfigStatus.NOT_SENT, ClientResourceStatus.REQUESTED],
  absent: [ConfigStatus.NOT_SENT, ClientResourceStatus.DOES_NOT_EXIST],
  accepted: [ConfigStatus.SYNCED, ClientResourceStatus.ACKED],
  rejected: [ConfigStatus.ERROR, ClientResourceStatus.NACKED],
} as const;

function describe(
  session: Session,
  type: StreamType,
  name: string,
  entry: AccountEntry,
  withoutContents: boolean,
): ClientConfig_GenericXdsConfig {
  const [configStatus, status] = states[entry.state];
  const { resource } = entry;
  const url = typeUrl[type];
  // What a reconnected delta client says it holds was not sent on this stream: its bytes are not known.
  const contents = resource !== undefined && resource.value.length > 0 && !withoutContents;
  const config = create(ClientConfig_GenericXdsConfigSchema, {
    typeUrl: url,
    name,
    versionInfo: resource?.version ?? "",
    configStatus,
    clientStatus: status,
  });
  if (contents) config.xdsConfig = { $typeName: "google.protobuf.Any", typeUrl: url, value: withoutPrivateKeys(resource.value) };
  if (entry.state === "rejected") {
    const at = session.lastRejection?.atMs;
    config.errorState = {
      $typeName: "envoy.admin.v3.UpdateFailureState",
      details: entry.reason,
      versionInfo: entry.version,
      ...(at === undefined ? {} : { lastUpdateAttempt: timestampFromMs(at) }),
    };
  }
  return config;
}
