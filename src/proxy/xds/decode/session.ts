// Owns: envoy.extensions.filters.http.stateful_session.v3 to SessionConfig: where a client carries the address of its endpoint.

import type {
  StatefulSession as PbSession,
  StatefulSessionPerRoute as PbSessionPerRoute,
} from "../../../wire/gen/envoy/extensions/filters/http/stateful_session/v3/stateful_session_pb.ts";
import type { SessionConfig } from "../../config.ts";
import { CookieBasedSessionState, HeaderBasedSessionState } from "../proto/types.ts";
import { at, cookieMillis, decodeExtension, extension, type Gate } from "./gate.ts";

const token = /^[!#$%&'*+.^_`|~0-9A-Za-z-]+$/;

const states = [
  extension(CookieBasedSessionState, (gate, { cookie }, path): SessionConfig => {
    const where = at(path, "cookie");
    const name = cookie?.name ?? "";
    if (!token.test(name)) gate.add(at(where, "name"), "must be the name of a cookie");
    const cookiePath = cookie?.path ?? "";
    if (/[;\r\n\0]/.test(cookiePath)) gate.add(at(where, "path"), "must have no ; or line ends");
    return { kind: "cookie", name, ttlMs: cookieMillis(gate, at(where, "ttl"), cookie?.ttl, 0), path: cookiePath };
  }),
  extension(HeaderBasedSessionState, (gate, { name }, path): SessionConfig => {
    if (!token.test(name)) gate.add(at(path, "name"), "must be the name of a header field");
    return { kind: "header", name };
  }),
];

/** null: no state, so that nothing sticks; the filter then stands ready for routes. */
export function decodeSession(gate: Gate, session: PbSession, path: string): SessionConfig | null {
  const state = session.sessionState;
  if (session.strict) gate.add(at(path, "strict"), "true is not supported: where the endpoint is gone, another one takes over");
  if (state === undefined) return null;
  const typed = state.typedConfig === undefined ? undefined : { value: state.typedConfig };
  return decodeExtension(gate, states, "session state", state.name, typed, at(path, "session_state")) ?? null;
}

export function decodeSessionOverride(gate: Gate, { override }: PbSessionPerRoute, path: string): SessionConfig | "off" | null {
  switch (override.case) {
    case "disabled":
      return "off";
    case "statefulSession":
      return decodeSession(gate, override.value, at(path, "stateful_session"));
    default:
      gate.add(path, "needs one of disabled, stateful_session");
      return null;
  }
}
