// Owns: asking an authorization service whether a request may pass (Envoy's `envoy.filters.http.ext_authz`), by gRPC or by HTTP. The request is held until it
// has answered; what cannot be asked is refused unless the configuration says otherwise. Holds that request alone. Rules of the mesh are judged before.

import type { Permit } from "../authz/permit.ts";
import type { AuthBody, AuthService, ExtAuthzConfig } from "../config.ts";
import { latin1 } from "../http/bytes.ts";
import type { Exchange } from "../http/exchange.ts";
import { type Failure, failures, reasonPhrase } from "../http/failure.ts";
import { answered, closesAfter, reply } from "../http/finish.ts";
import { requestHeadOf } from "../http/request-head.ts";
import { addAnswerLines, answerStages } from "../http/staged.ts";
import { type Call, type CallEnd, callUnary, startCall, type UnaryEnd, unaryMethod } from "../http/unary-call.ts";
import type { Head } from "../http1/head.ts";
import { parseAnswer } from "../http1/head.ts";
import { scratch } from "../net/outbox.ts";
import type { BuildContext } from "../runtime/build.ts";
import { type Changes, changeAnswer, changeRequest, compileHttpAnswer, readCheckResponse, type Said } from "./ext-authz-answer.ts";
import { mostCheckAnswer } from "./ext-authz-limits.ts";
import { bodyOf, checkRequest, httpHead, tellNames } from "./ext-authz-request.ts";
import { type Stage, type StageFamily, type Verdict, verdict } from "./stage.ts";

/** Of one request. */
export interface AuthCheck {
  call: Call | null;
  passed: boolean;
  /** What is to be changed of its answer. */
  answer: Changes | null;
  /** Header lines of a refusal. */
  refusal: string;
}

export const extAuthzFamily: StageFamily<ExtAuthzConfig> = {
  build(config, where, context): Stage | null {
    const { filter, off, route } = config;
    if (filter === null) return route === null ? null : refusingStage(where);
    if (off || filter.enabled === 0) return null;
    const body = route === null || route.body === undefined ? filter.body : route.body;
    return checkStage(filter, route?.service ?? filter.service, body, route?.context ?? {}, where, context);
  },
};

/** Of a route whose chain has no such filter: who is to be asked cannot be said. */
function refusingStage(where: string): Stage {
  return {
    early: null,
    request(x) {
      x.down.core.externalAuth.count(where, "error_denied");
      reply(x, failures.authUnknown, "");
      return verdict.replied;
    },
    answer: null,
    end: null,
  };
}

const path = "/envoy.service.auth.v3.Authorization/Check";

/** Asks, and tells what was said; later, never within the call. */
type Ask = (x: Exchange, bytes: Uint8Array, head: Head, done: (said: Said) => void) => Call | string;

function checkStage(
  filter: NonNullable<ExtAuthzConfig["filter"]>,
  service: AuthService,
  body: AuthBody | null,
  context: Readonly<Record<string, string>>,
  where: string,
  build: BuildContext,
): Stage {
  if (body !== null) build.wholeBodies?.();
  const told = tellNames(filter, service);
  const ask = service.kind === "grpc" ? askByGrpc(service) : askByHttp(service);
  const unknown: Failure = { ...failures.authUnknown, status: filter.statusOnError, grpc: grpcOf(filter.statusOnError) };
  const failure = (x: Exchange, why: string): boolean => {
    const { core } = x.down;
    core.externalAuth.count(where, filter.failureAllow ? "error_allowed" : "error_denied");
    if (core.mayLog()) core.log.debug({ listener: where, reason: why }, "An authorization service could not be asked.");
    return filter.failureAllow && (!filter.failureHeader || changeRequest(x, noChanges, [["x-envoy-auth-failure-mode-allowed", "true"]]));
  };

  function askByGrpc(grpc: Extract<AuthService, { kind: "grpc" }>): Ask {
    const slot = build.clusterSlot(grpc.cluster);
    const method = unaryMethod(slot, path, grpc.authority, "authorization", grpc.metadata, grpc.timeoutMs, mostCheckAnswer);
    return (x, bytes, head, done) =>
      callUnary(x.down.core, x.permit as Permit, method, checkRequest(x, bytes, head, told, context, body), (end: UnaryEnd) =>
        done(end.ok ? readCheckResponse(end.message) : { kind: "error", why: end.sentence }),
      );
  }

  function askByHttp(http: Extract<AuthService, { kind: "http" }>): Ask {
    const slot = build.clusterSlot(http.cluster);
    const read = compileHttpAnswer(http);
    return (x, bytes, head, done) => {
      const content = bodyOf(x, body);
      const made = httpHead(x, bytes, head, told, http, body, content.length);
      if (made === null) return "CONNECT cannot be told by HTTP";
      const request = {
        slot,
        head: made,
        body: content,
        http2: false,
        isHead: x.isHead,
        timeoutMs: http.timeoutMs,
        maxAnswerBytes: mostCheckAnswer,
      };
      return startCall(x.down.core, x.permit as Permit, request, (end: CallEnd) =>
        done(end.ok ? read(end) : { kind: "error", why: end.sentence }),
      );
    };
  }

  /** true: it goes on. */
  const take = (x: Exchange, check: AuthCheck, said: Said): boolean => {
    switch (said.kind) {
      case "yes":
        if (!changeRequest(x, said.request, []))
          return take(x, check, { kind: "error", why: "the request is too large or none with its changes" });
        check.answer = said.answer;
        x.down.core.externalAuth.count(where, "ok");
        return true;
      case "no":
        x.down.core.externalAuth.count(where, "denied");
        refuse(x, check, said);
        return false;
      case "error":
        if (failure(x, said.why)) return true;
        x.held = false;
        reply(x, unknown, "");
        return false;
    }
  };

  /** Whether all of the body that is told is here; false: the request waits, or is answered. */
  const bodyIsHere = (x: Exchange, head: Head, settings: AuthBody): boolean | "too large" => {
    x.bodyWanted = 0;
    if (!settings.partial && (x.bodySize > settings.maxBytes || head.contentLength > settings.maxBytes)) return "too large";
    if (x.requestDone || x.isConnect || x.bodySize >= settings.maxBytes + (settings.partial ? 0 : 1)) return true;
    x.bodyWanted = settings.maxBytes + (settings.partial ? 0 : 1);
    if (head.expectContinue) sendContinue(x);
    return false;
  };

  return {
    early: null,
    request(x, bytes, head): Verdict {
      let check = x.authCheck;
      if (check === null) {
        if (filter.enabled < 1 && x.down.core.random() >= filter.enabled) return verdict.go;
        check = { call: null, passed: false, answer: null, refusal: "" };
        x.authCheck = check;
      }
      if (check.passed) return verdict.go;
      // Bodies of requests that came before anybody looked into them still have their framing.
      if (body !== null && x.framed)
        return take(x, check, { kind: "error", why: "the body has its framing" }) ? verdict.go : verdict.replied;
      if (body !== null && head.upgrade < 0) {
        const here = bodyIsHere(x, head, body);
        if (here === "too large") {
          reply(x, failures.tooLargeToJudge, "");
          return verdict.replied;
        }
        if (!here) return verdict.again;
      }
      const { serial } = x;
      const asked = check;
      const started = ask(x, bytes, head, (said) => {
        asked.call = null;
        if (x.serial !== serial || x.authCheck !== asked || !x.held) return;
        asked.passed = take(x, asked, said);
        if (asked.passed) x.resume(serial);
      });
      if (typeof started === "string") return take(x, check, { kind: "error", why: started }) ? verdict.go : verdict.replied;
      check.call = started;
      return verdict.again;
    },
    answer(x, bytes, head) {
      const check = x.authCheck;
      if (check === null) return;
      if (check.refusal !== "") addAnswerLines(x, latin1(check.refusal));
      if (check.answer === null) return;
      const lines = changeAnswer(check.answer, bytes, head);
      if (lines !== "") addAnswerLines(x, latin1(lines));
    },
    end(x) {
      x.authCheck?.call?.abandon();
      x.authCheck = null;
      x.bodyWanted = 0;
    },
  };
}

const noChanges: Changes = { set: [], append: [], ifAbsent: [], ifPresent: [], remove: [] };

/** As http-grpc-status-mapping.md of the gRPC project has it. */
function grpcOf(status: number): number {
  return { 400: 13, 401: 16, 403: 7, 404: 12, 429: 14, 502: 14, 503: 14, 504: 14 }[status] ?? 2;
}

/** The service's own answer goes to the client. */
function refuse(x: Exchange, check: AuthCheck, { status, fields, body }: Extract<Said, { kind: "no" }>): void {
  x.held = false;
  check.refusal = fields.map(([name, value]) => `${name}: ${value}\r\n`).join("");
  if (x.grpc !== null) {
    reply(x, { ...failures.authDenied, status, grpc: grpcOf(status), sentence: body.toString("utf8") || failures.authDenied.sentence }, "");
    return;
  }
  x.status = status;
  x.flag = failures.authDenied.flag;
  x.details = failures.authDenied.details;
  x.reason = failures.authDenied.sentence;
  const close = closesAfter(x, false) || (!x.requestDone && x.half.version === 1);
  answerStages(x, null, null);
  const kind = body.length === 0 || fields.some(([name]) => name === "content-type") ? "" : "content-type: text/plain\r\n";
  const length = status === 204 || status === 304 ? "" : `content-length: ${body.length}\r\n`;
  const more = x.answerLines === null ? "" : Buffer.from(x.answerLines).toString("latin1");
  const head = `HTTP/1.1 ${status} ${reasonPhrase(status)}\r\n${kind}${length}${more}${close ? "connection: close\r\n" : ""}\r\n`;
  const size = scratch.write(head, 0, "latin1");
  const bodyless = x.isHead || length === "" || size + body.length > scratch.length;
  if (!bodyless) scratch.set(body, size);
  x.half.sendReply(bodyless ? size : size + body.length);
  answered(x);
}

const continueHead = latin1("HTTP/1.1 100 Continue\r\n\r\n");

/** RFC 9110 10.1.1: who is to look into the body must ask for it. */
function sendContinue(x: Exchange): void {
  const head = requestHeadOf(x);
  if (head === null || parseAnswer(continueHead, 0, continueHead.length, head) <= 0) return;
  x.half.sendInterim(continueHead, head);
}
