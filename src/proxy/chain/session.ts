// Owns: sticky sessions (Envoy's `envoy.filters.http.stateful_session`): a cookie or header names the endpoint that answered first, and later requests that
// bring it go there while it is available; else anywhere, and the answer names the new one. The value is the endpoint's address in base64, as in Envoy.

import { addressText } from "../balance/wanted.ts";
import type { SessionConfig } from "../config.ts";
import { latin1, text } from "../http/bytes.ts";
import type { Exchange } from "../http/exchange.ts";
import { fieldNamed } from "../http/grpc.ts";
import { addAnswerLines } from "../http/staged.ts";
import type { Head } from "../http1/head.ts";
import { cookieLine, cookieValue } from "../route/hash.ts";
import { type Stage, type StageFamily, verdict } from "./stage.ts";

/** Longer than any address is in base64. */
const longestValue = 96;

export const sessionFamily: StageFamily<SessionConfig | null> = {
  build(config): Stage | null {
    return config === null ? null : sessionStage(config);
  },
};

export function sessionStage(config: SessionConfig): Stage {
  const name = latin1(config.kind === "header" ? config.name.toLowerCase() : config.name);
  const carried = (bytes: Uint8Array, head: Head): Uint8Array | null => {
    if (config.kind === "cookie") return cookieValue(bytes, head, name);
    const i = fieldNamed(bytes, head, name);
    return i < 0 ? null : bytes.subarray(head.valueFrom[i] as number, head.valueTo[i] as number);
  };
  return {
    early: null,
    request(x: Exchange, bytes: Uint8Array, head: Head) {
      const value = carried(bytes, head);
      if (value !== null && value.length > 0 && value.length <= longestValue)
        x.stick = Buffer.from(text(value, 0, value.length), "base64").toString("latin1");
      return verdict.go;
    },
    answer(x: Exchange, bytes: Uint8Array | null) {
      const { endpoint } = x;
      // A reply of ours names nobody.
      if (bytes === null || endpoint === null) return;
      const address = addressText(endpoint.host, endpoint.port);
      if (address === x.stick) return;
      const value = Buffer.from(address, "latin1").toString("base64");
      addAnswerLines(
        x,
        config.kind === "cookie" ? cookieLine(config.name, value, config.ttlMs, config.path) : latin1(`${config.name}: ${value}\r\n`),
      );
    },
    end: null,
  };
}
