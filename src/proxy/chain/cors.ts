// Owns: CORS (Fetch standard, section 3.2; Envoy's `envoy.filters.http.cors`): a preflight is answered here, before authorization, as browsers send no
// credentials with it; answers to allowed origins get their headers, in place of those that the application set.

import type { CorsConfig } from "../config.ts";
import { equals, equalsIgnoreCase, latin1, text } from "../http/bytes.ts";
import type { Exchange } from "../http/exchange.ts";
import { answered, closesAfter } from "../http/finish.ts";
import { fieldNamed } from "../http/grpc.ts";
import { writeLines } from "../http/reply.ts";
import { requestHeadOf } from "../http/request-head.ts";
import { addAnswerLines } from "../http/staged.ts";
import { field, type Head } from "../http1/head.ts";
import { compileBytes } from "../route/match.ts";
import { type Stage, type StageFamily, verdict } from "./stage.ts";

const optionsMethod = latin1("OPTIONS");
const originName = latin1("origin");
const requestMethodName = latin1("access-control-request-method");
const privateNetworkName = latin1("access-control-request-private-network");
/** What the policy says in the application's place. */
const ours = ["access-control-allow-origin", "access-control-allow-credentials", "access-control-expose-headers"].map(latin1);

export const corsFamily: StageFamily<CorsConfig | null> = {
  build(config): Stage | null {
    return config === null ? null : corsStage(config);
  },
};

export function corsStage(config: CorsConfig): Stage {
  const origins = config.origins.map(compileBytes);
  const credentials = config.credentials ? "access-control-allow-credentials: true\r\n" : "";
  const preflight =
    credentials +
    line("access-control-allow-methods", config.methods) +
    line("access-control-allow-headers", config.headers) +
    line("access-control-max-age", config.maxAge);
  const simple = credentials + line("access-control-expose-headers", config.expose);

  /** The origin as it stands in the request, where the policy allows it; else empty. */
  const allowed = (bytes: Uint8Array, head: Head): string => {
    const i = fieldNamed(bytes, head, originName);
    if (i < 0) return "";
    const from = head.valueFrom[i] as number;
    const to = head.valueTo[i] as number;
    for (const origin of origins) if (origin(bytes, from, to)) return text(bytes, from, to);
    return "";
  };
  /** The answer depends on the origin, which caches must know (Fetch 3.2.6). */
  const originLines = (origin: string): string => `access-control-allow-origin: ${origin}\r\nvary: origin\r\n`;

  return {
    early(x: Exchange, bytes: Uint8Array, head: Head) {
      if (!equals(bytes, head.from, head.methodTo, optionsMethod) || fieldNamed(bytes, head, requestMethodName) < 0) return verdict.go;
      if (fieldNamed(bytes, head, originName) < 0) return verdict.go;
      const origin = allowed(bytes, head);
      if (origin === "" && config.forwardUnmatched) return verdict.go;
      const privateNetwork =
        config.privateNetwork && fieldNamed(bytes, head, privateNetworkName) >= 0 ? "access-control-allow-private-network: true\r\n" : "";
      x.status = 200;
      x.details = "cors_response";
      const close = closesAfter(x, false) || (!x.requestDone && x.half.version === 1);
      x.half.sendReply(writeLines(200, origin === "" ? "" : originLines(origin) + preflight + privateNetwork, close));
      answered(x);
      return verdict.replied;
    },
    request: null,
    answer(x: Exchange, bytes: Uint8Array | null, answer: Head | null) {
      const head = requestHeadOf(x);
      if (head === null) return;
      const origin = allowed(x.bytes, head);
      if (origin === "") return;
      if (bytes !== null && answer !== null) {
        for (let i = 0; i < answer.count; i++) {
          for (const name of ours) {
            if (equalsIgnoreCase(bytes, answer.nameFrom[i] as number, answer.nameTo[i] as number, name)) answer.kind[i] = field.edited;
          }
        }
      }
      addAnswerLines(x, latin1(originLines(origin) + simple));
    },
    end: null,
  };
}

function line(name: string, value: string): string {
  return value === "" ? "" : `${name}: ${value}\r\n`;
}
