// Owns: the life of one request: route, permit, attempt, retries, the answer, the count at the end. Reused by its downstream connection for one
// request after another; everything a request needs is a field (rule 3), nothing is awaited.
// States: idle -> waiting (for a connection or an answer) -> answering -> idle, or -> tunnel. Late events of a finished attempt do not match `#conn`
// and are swallowed. Longer than most files: the steps of one request are read top to bottom here, and splitting them would hide the order.

import { denial, judge, judgePath, subject } from "../authz/judge.ts";
import { pathEnd } from "../authz/path.ts";
import type { Permit } from "../authz/permit.ts";
import type { Cluster, Waiter } from "../balance/cluster.ts";
import type { Endpoint } from "../balance/endpoint.ts";
import { pick } from "../balance/pick.ts";
import type { CompiledChain, HttpChain } from "../chain/chain.ts";
import { framing } from "../http1/body.ts";
import { Upstream, type UpstreamOwner } from "../http1/client.ts";
import { form, Head, parseRequest } from "../http1/head.ts";
import { limits } from "../http1/limits.ts";
import { takeIdle } from "../http1/pool.ts";
import type { ServerConnection } from "../http1/server.ts";
import { persistence, RequestPlan, writeAnswer, writeRequest } from "../http1/write.ts";
import { scratch } from "../net/outbox.ts";
import { isIdempotent, retriesStatus, retryOn } from "../resilience/retry.ts";
import { markEdited } from "../route/edit.ts";
import { rewritePrefix } from "../route/rewrite.ts";
import { type CompiledForward, type CompiledRoute, chooseTarget, findRoute } from "../route/table.ts";
import { anyWants, logTo } from "../telemetry/access.ts";
import type { ResponseFlag } from "../telemetry/record.ts";
import { equalsIgnoreCase, latin1, text } from "./bytes.ts";
import { requestCountersFor } from "./counters.ts";
import { type Failure, failures } from "./failure.ts";
import { httpRecord } from "./record.ts";
import { writeDirect, writeRedirect, writeReply } from "./reply.ts";
import { readTarget, target } from "./target.ts";

const state = { idle: 0, waiting: 1, answering: 2, tunnel: 3 } as const;

const headMethod = latin1("head");

/** For re-parsing a kept request; `parseRequest` of a fresh one has its own in the server connection. */
const againHead = new Head();
const plan = new RequestPlan();

export class Exchange implements UpstreamOwner, Waiter {
  readonly down: ServerConnection;
  #state: number = state.idle;
  chain: CompiledChain;
  route: CompiledRoute | null = null;
  #forward: CompiledForward | null = null;
  cluster: Cluster | null = null;
  endpoint: Endpoint | null = null;
  #conn: Upstream | null = null;
  #permit: Permit | null = null;
  /** The bytes that hold the request's head, kept for another attempt and for the record. */
  bytes: Uint8Array = scratch;
  headFrom = 0;
  headTo = 0;
  #isHead = false;
  #isConnect = false;
  minor = 1;
  #upgrade = false;
  /** `requestBytes` is counted here and not by the connection's body reader. */
  #opaque = false;
  #safe = false;
  #downClose = false;
  /** The path in its judged form, when that differs; with query. */
  #path: Uint8Array | null = null;
  addedId = false;
  id0 = 0;
  id1 = 0;
  id2 = 0;
  id3 = 0;
  startMs = 0;
  attempts = 0;
  #retriesLeft = 0;
  #retrying = false;
  status = 0;
  flag: ResponseFlag | null = null;
  details = "";
  reason = "";
  requestBytes = 0;
  responseBytes = 0;
  #requestDone = false;
  /** The answer is complete; the request may not be. */
  #answerDone = false;
  /** Request body that is not sent yet, or may have to be sent again. */
  #body: Uint8Array[] = [];
  #bodySize = 0;
  /** Everything of the body so far is in `#body`. */
  #bodyKept = true;
  /** The head of this attempt is out: a failure from now on may have reached the application. */
  #sent = false;
  #downPaused = false;
  #upPaused = false;
  /** Request deadline; Infinity = none. */
  #timeoutAtMs = Number.POSITIVE_INFINITY;
  #tryAtMs = Number.POSITIVE_INFINITY;
  #idleAtMs = Number.POSITIVE_INFINITY;
  #idleLimitMs = 0;
  /** A cluster that was full, so that no place in it was taken: for the labels. */
  refusedBy: Cluster | null = null;
  /** Upstream principal of the last connection, for the record. */
  upstreamPeer: string | null = null;

  constructor(down: ServerConnection, chain: CompiledChain) {
    this.down = down;
    this.chain = chain;
  }

  get isIdle(): boolean {
    return this.#state === state.idle;
  }

  /** The answer's head is out: nothing else can be said any more. */
  get answering(): boolean {
    return this.#state === state.answering || this.#state === state.tunnel;
  }

  /** When the connection should look at this exchange again. */
  get deadlineMs(): number {
    return Math.min(this.#timeoutAtMs, this.#tryAtMs, this.#idleAtMs);
  }

  // ---- the request ---------------------------------------------------------------------------------------------------

  /** A parsed head; [bodyFrom, bodyTo) is what came of the body, complete if `done`. */
  begin(
    chain: CompiledChain,
    http: HttpChain,
    bytes: Uint8Array,
    head: Head,
    bodyFrom: number,
    bodyTo: number,
    done: boolean,
    nowMs: number,
  ): void {
    const core = this.down.core;
    core.activeRequests++;
    this.chain = chain;
    this.#state = state.waiting;
    this.bytes = bytes;
    this.headFrom = head.from;
    this.headTo = head.to;
    this.startMs = nowMs;
    this.route = null;
    this.#forward = null;
    this.cluster = null;
    this.refusedBy = null;
    this.endpoint = null;
    this.status = 0;
    this.flag = null;
    this.details = "";
    this.attempts = 0;
    this.requestBytes = 0;
    this.responseBytes = 0;
    this.#opaque = false;
    this.#requestDone = done;
    this.#answerDone = false;
    this.#sent = false;
    this.#path = null;
    this.#upgrade = false;
    this.minor = head.minor;
    this.#downClose = head.minor === 1 ? head.close : !head.keepAlive || head.close;
    this.#isHead = head.methodTo - head.from === 4 && equalsIgnoreCase(bytes, head.from, head.methodTo, headMethod);
    this.#isConnect = head.form === form.authority;
    this.#timeoutAtMs = Number.POSITIVE_INFINITY;
    this.#tryAtMs = Number.POSITIVE_INFINITY;
    this.#idleLimitMs = http.streamIdleTimeoutMs;
    this.#idleAtMs = http.streamIdleTimeoutMs > 0 ? nowMs + http.streamIdleTimeoutMs : Number.POSITIVE_INFINITY;
    this.upstreamPeer = null;

    this.addedId = http.generateRequestId && head.requestId < 0;
    if (this.addedId) {
      this.id0 = (core.random() * 0x1_0000_0000) | 0;
      this.id1 = (core.random() * 0x1_0000_0000) | 0;
      this.id2 = (core.random() * 0x1_0000_0000) | 0;
      this.id3 = (core.random() * 0x1_0000_0000) | 0;
    }
    if (this.#isConnect && !http.connect) {
      this.#reply(failures.connectNotAllowed, "");
      return;
    }
    // What the policies judge is what is routed and forwarded.
    if (!readTarget(http, bytes, head, this.#isConnect)) {
      this.#reply(failures.badPath, "");
      return;
    }
    if (target.changed) this.#path = target.bytes;
    // The route is found first, as Envoy does, so that a refusal is counted for the service it was meant for; but a refusal comes before "no route".
    const host = this.down.findHost(http.table, bytes, head.authorityFrom, head.authorityTo);
    const route =
      host === null ? null : findRoute(host, bytes, head, target.bytes, target.from, target.to, target.queryTo, this.#isConnect);
    const permit = this.#authorize(http, route, bytes, head);
    if (permit === null) return;
    this.#permit = permit;
    if (route === null) {
      const why = host === null ? `no route for the host ${text(bytes, head.authorityFrom, head.authorityTo)}` : "";
      this.#reply(failures.noRoute, why);
      return;
    }
    this.route = route;
    const forward = route.forward;
    if (forward === null) {
      this.#answerHere(route, bytes, head);
      return;
    }
    this.#forward = forward;
    const cluster = chooseTarget(forward, core.random).current;
    if (cluster === null) {
      this.#reply(forward.missingCluster, "");
      return;
    }
    this.cluster = cluster;
    if (cluster.activeRequests >= cluster.config.limits.maxRequests) {
      this.cluster = null;
      this.refusedBy = cluster;
      this.#reply(failures.overflow, `the cluster is at its limit of ${cluster.config.limits.maxRequests} requests`);
      return;
    }
    cluster.activeRequests++;
    if (forward.timeoutMs > 0) this.#timeoutAtMs = nowMs + forward.timeoutMs;
    if (forward.idleTimeoutMs > 0) {
      this.#idleLimitMs = forward.idleTimeoutMs;
      this.#idleAtMs = nowMs + forward.idleTimeoutMs;
    }
    const retry = forward.retry;
    this.#retriesLeft = retry === null ? 0 : retry.attempts;
    this.#safe = retry !== null && isIdempotent(bytes, head.from, head.methodTo);
    if (head.upgrade >= 0) this.#upgrade = this.#upgradeAllowed(http, forward, bytes, head);
    if (this.#isConnect && !forward.terminateConnect) {
      this.#reply(failures.connectNotAllowed, "CONNECT to this route is not terminated here");
      return;
    }
    this.#body.length = 0;
    this.#bodySize = 0;
    this.#bodyKept = true;
    if (bodyTo > bodyFrom) {
      this.#body.push(bytes.subarray(bodyFrom, bodyTo));
      this.#bodySize = bodyTo - bodyFrom;
    }
    this.#attempt(nowMs, null, head);
  }

  /** A request whose head cannot be read: counted and logged like any other. The connection answers it. */
  refuse(chain: CompiledChain, failure: Failure, status: number, reason: string): void {
    this.chain = chain;
    this.down.core.activeRequests++;
    this.bytes = scratch;
    this.headFrom = 0;
    this.headTo = 0;
    this.startMs = this.down.core.ticker.nowMs;
    this.route = null;
    this.cluster = null;
    this.refusedBy = null;
    this.endpoint = null;
    this.status = status;
    this.flag = failure.flag;
    this.details = failure.details;
    this.reason = reason;
    this.attempts = 0;
    this.requestBytes = 0;
    this.responseBytes = 0;
    this.#opaque = true;
    this.#end();
  }

  /** More of the request's body: framing included, to be passed on as it is. */
  requestBody(bytes: Uint8Array, from: number, to: number, done: boolean): void {
    this.#requestDone = done;
    this.#touch();
    if (this.#state !== state.waiting && this.#state !== state.answering) return;
    if (to > from && !this.#answerDone) {
      const conn = this.#conn;
      const ready = this.#sent && conn !== null;
      if (!ready || (this.#bodyKept && this.#state === state.waiting)) this.#keepBody(bytes, from, to, ready);
      if (ready && !conn.out.write(bytes, from, to, false)) this.#pauseDown();
      if (!ready && this.#bodySize >= limits.replay) this.#pauseDown();
    }
  }

  /** Keeps body bytes for an attempt to come. Over the bound they are given up, and with them the retry. */
  #keepBody(bytes: Uint8Array, from: number, to: number, ready: boolean): void {
    const size = to - from;
    if (ready && (this.#retriesLeft === 0 || this.#bodySize + size > limits.replay)) {
      this.#bodyKept = false;
      this.#body.length = 0;
      this.#bodySize = 0;
      return;
    }
    this.#body.push(bytes.subarray(from, to));
    this.#bodySize += size;
  }

  /** The downstream connection is gone or broke the protocol. */
  abandon(failure: Failure): void {
    if (this.#state === state.idle) return;
    this.flag ??= failure.flag;
    if (this.details === "" || this.#state === state.waiting) this.details = failure.details;
    // A connection that is still being made may serve somebody else.
    this.#dropAttempt();
    this.#end();
  }

  onDeadline(nowMs: number): void {
    if (this.#timeoutAtMs <= nowMs) {
      this.#timeoutAtMs = Number.POSITIVE_INFINITY;
      this.#giveUp(failures.timeout);
    } else if (this.#tryAtMs <= nowMs) {
      this.#tryAtMs = Number.POSITIVE_INFINITY;
      this.#dropAttempt();
      this.#failed(failures.tryTimeout, "");
    } else if (this.#idleAtMs <= nowMs) {
      this.#idleAtMs = Number.POSITIVE_INFINITY;
      this.#giveUp(failures.idle);
    }
  }

  #giveUp(failure: Failure): void {
    this.#dropAttempt();
    if (this.answering) this.#cut(failure);
    else this.#reply(failure, "");
  }

  // ---- authorization and route -----------------------------------------------------------------------------------------

  #authorize(http: HttpChain, route: CompiledRoute | null, bytes: Uint8Array, head: Head): Permit | null {
    const filters = http.rbac;
    if (filters.length === 0) return judge(filters);
    subject.head = head;
    subject.bytes = bytes;
    subject.peer = this.down.peer;
    subject.wire = this.down.out.wire;
    subject.port = this.chain.port;
    const permit = http.readsPath ? judgePath(filters) : judge(filters);
    if (permit === null) {
      this.details = denial.details;
      if (route !== null && route.forward !== null) this.refusedBy = chooseTarget(route.forward, this.down.core.random).current;
      this.#reply(failures.denied, denial.reason);
    }
    return permit;
  }

  #upgradeAllowed(http: HttpChain, forward: CompiledForward, bytes: Uint8Array, head: Head): boolean {
    if (http.upgrades.length === 0 && forward.upgrades.length === 0) return false;
    const token = text(bytes, head.valueFrom[head.upgrade] as number, head.valueTo[head.upgrade] as number).toLowerCase();
    return http.upgrades.includes(token) || forward.upgrades.includes(token);
  }

  /** Redirects and direct answers. */
  #answerHere(route: CompiledRoute, bytes: Uint8Array, head: Head): void {
    const close = this.#closesAfter(false);
    let size = 0;
    if (route.direct !== null) {
      this.status = route.direct.status;
      size = writeDirect(route.direct, text(bytes, head.authorityFrom, head.authorityTo), route.responseEdits, this.#isHead, close);
      this.details = "direct_response";
    } else if (route.redirect !== null) {
      this.status = route.redirect.status;
      size = writeRedirect(route.redirect, route.matchedSize, bytes, head, route.responseEdits, close);
      this.details = "direct_response";
    }
    this.down.out.write(scratch, 0, size, true);
    this.#answered();
  }

  // ---- attempts ----------------------------------------------------------------------------------------------------------

  /** `head` is the parsed request when this is the first attempt, made at once. */
  #attempt(nowMs: number, not: Endpoint | null, head: Head | null): void {
    const cluster = this.cluster as Cluster;
    let endpoint = pick(cluster, this.#permit as Permit, nowMs, this.down.core.random, not);
    if (endpoint === null) {
      this.#reply(failures.noEndpoint, "");
      return;
    }
    let conn = takeIdle(endpoint);
    if (conn === null && cluster.connections >= cluster.config.limits.maxConnections) {
      // At the limit any endpoint that has a connection is better than waiting.
      for (const other of cluster.usable) {
        conn = takeIdle(other);
        if (conn === null) continue;
        endpoint = other;
        break;
      }
    }
    if (conn !== null) conn.take(this);
    else if (cluster.connections >= cluster.config.limits.maxConnections) {
      if (cluster.waiting.length >= cluster.config.limits.maxPending) {
        this.#reply(failures.overflow, `the cluster is at its limit of ${cluster.config.limits.maxConnections} connections`);
        return;
      }
      cluster.waiting.push(this);
      return;
    } else conn = new Upstream(this.down.core, endpoint, this, nowMs);
    this.attempts++;
    this.endpoint = endpoint;
    endpoint.active++;
    this.#conn = conn;
    this.#sent = false;
    const perTry = (this.#forward as CompiledForward).retry?.perTryTimeoutMs ?? 0;
    if (perTry > 0) this.#tryAtMs = nowMs + perTry;
    if (conn.out.wire === null) conn.connect();
    else this.#send(conn, head);
    this.down.arm();
  }

  /** A place in the cluster's queue came up. */
  retryPick(): void {
    if (this.#state === state.waiting && this.#conn === null) this.#attempt(this.down.core.ticker.nowMs, null, null);
    else this.cluster?.wakeOne();
  }

  /** Writes head and what there is of the body. */
  #send(conn: Upstream, parsed: Head | null): void {
    if (this.#isConnect) {
      this.#openTunnel(conn);
      return;
    }
    let head = parsed;
    if (head === null) {
      head = againHead;
      parseRequest(this.bytes, this.headFrom, this.headTo, head);
    }
    const route = this.route as CompiledRoute;
    const forward = this.#forward as CompiledForward;
    const bytes = this.bytes;
    plan.edits = route.requestEdits;
    if (plan.edits !== null) markEdited(bytes, head, plan.edits);
    plan.path = this.#path;
    plan.pathSize = this.#path === null ? 0 : this.#path.length;
    if (forward.prefixRewrite !== null) {
      const source = this.#path ?? bytes;
      const from = this.#path === null ? head.pathFrom : 0;
      const to = this.#path === null ? head.pathTo : this.#path.length;
      plan.path = rewritePrefix(forward.prefixRewrite, route.matchedSize, source, from, pathEnd(source, from, to), to);
      plan.pathSize = plan.path.length;
    }
    plan.host = forward.hostRewrite;
    plan.addId = this.addedId;
    plan.id0 = this.id0;
    plan.id1 = this.id1;
    plan.id2 = this.id2;
    plan.id3 = this.id3;
    plan.keepUpgrade = this.#upgrade;
    let size = writeRequest(bytes, head, plan);
    conn.unchunk = this.minor === 0;
    conn.expectAnswer(this.#isHead, this.#upgrade);
    this.#sent = true;
    let all = true;
    const body = this.#body;
    const count = body.length;
    if (count === 0) all = conn.out.write(scratch, 0, size, true);
    else {
      let next = 0;
      const first = body[0] as Uint8Array;
      if (size + first.length <= scratch.length) {
        scratch.set(first, size);
        size += first.length;
        next = 1;
      }
      all = conn.out.write(scratch, 0, size, true);
      for (; next < count; next++) {
        const part = body[next] as Uint8Array;
        all = conn.out.write(part, 0, part.length, false);
      }
      if (this.#retriesLeft === 0 || this.#bodySize > limits.replay) {
        this.#bodyKept = false;
        body.length = 0;
        this.#bodySize = 0;
      }
    }
    if (all) this.#resumeDown();
    else this.#pauseDown();
  }

  onUpstreamReady(conn: Upstream): void {
    if (conn === this.#conn) this.#send(conn, null);
  }

  onUpstreamFailed(conn: Upstream, failure: Failure, why: string): void {
    if (conn !== this.#conn) return;
    this.#leaveEndpoint();
    this.#failed(failure, why);
  }

  onUpstreamLost(conn: Upstream, failure: Failure, why: string): void {
    if (conn !== this.#conn) return;
    this.#leaveEndpoint();
    if (this.answering) {
      this.#cut(failure === failures.reset ? failures.truncated : failure);
      return;
    }
    this.#failed(failure, why);
  }

  /** An attempt ended without an answer: again, or tell the client. */
  #failed(failure: Failure, why: string): void {
    const last = this.endpoint;
    if (this.#mayRetry(failure)) {
      this.#again(last);
      return;
    }
    this.#reply(failure, why);
  }

  #mayRetry(failure: Failure): boolean {
    const retry = this.#forward?.retry ?? null;
    if (retry === null || this.#retriesLeft === 0 || !this.#bodyKept || this.#state !== state.waiting || !this.#retryFits()) return false;
    if (failure.retry === "safe") return (retry.on & (retryOn.connectFailure | retryOn.refusedStream)) !== 0;
    if (failure.retry === "idempotent") return this.#safe && (retry.on & retryOn.reset) !== 0;
    return false;
  }

  /** The cluster's limit of parallel retries. 3 is Envoy's default, and taken for "not set" (Istio lifts it too): three would turn the end of one busy instance into errors. */
  #retryFits(): boolean {
    const cluster = this.cluster as Cluster;
    const most = cluster.config.limits.maxRetries;
    return most === 3 || this.#retrying || cluster.activeRetries < most;
  }

  #again(last: Endpoint | null): void {
    this.#retriesLeft--;
    if (!this.#retrying) {
      this.#retrying = true;
      (this.cluster as Cluster).activeRetries++;
    }
    this.down.core.retries.value++;
    this.#sent = false;
    this.#tryAtMs = Number.POSITIVE_INFINITY;
    this.#attempt(this.down.core.ticker.nowMs, last, null);
  }

  #leaveEndpoint(): void {
    if (this.#conn !== null) {
      this.#conn = null;
      if (this.endpoint !== null) this.endpoint.active--;
    }
    if (this.#upPaused) this.#upPaused = false;
  }

  /** Gives up the connection of this attempt. */
  #dropAttempt(): void {
    const conn = this.#conn;
    if (conn === null) return;
    conn.owner = null;
    this.#leaveEndpoint();
    if (this.#sent) conn.dispose();
  }

  // ---- the answer --------------------------------------------------------------------------------------------------------

  onInterim(conn: Upstream, bytes: Uint8Array, head: Head): void {
    if (conn !== this.#conn || this.minor === 0) return;
    // RFC 9110 15.2: to be forwarded, but not to an HTTP/1.0 client.
    const size = writeAnswer(bytes, head, null, persistence.silent, false, true);
    this.down.out.write(scratch, 0, size, true);
  }

  onAnswer(conn: Upstream, bytes: Uint8Array, head: Head, from: number, to: number, done: boolean): void {
    if (conn !== this.#conn) return;
    const route = this.route as CompiledRoute;
    const status = head.status;
    const fromPeer = conn.peer !== null;
    if (head.notDelivered >= 0 || status >= 500 || (this.#forward as CompiledForward).retry !== null) {
      if (this.#retryAnswer(conn, head, fromPeer, done)) return;
    }
    this.#state = state.answering;
    this.#bodyKept = false;
    if (this.#bodySize > 0) {
      this.#body.length = 0;
      this.#bodySize = 0;
    }
    this.status = status;
    this.details = "via_upstream";
    this.#tryAtMs = Number.POSITIVE_INFINITY;
    const edits = route.responseEdits;
    if (edits !== null) markEdited(bytes, head, edits);
    const untilClose = conn.answerFraming === framing.untilClose || (conn.unchunk && head.chunked);
    const close = this.#closesAfter(untilClose);
    const connection = close ? persistence.close : this.minor === 0 ? persistence.keepAlive : persistence.silent;
    // A reason from a peer's sidecar is for the application to see; one from an application is not a sidecar's word.
    let size = writeAnswer(bytes, head, edits, connection, fromPeer && !this.chain.inbound, conn.unchunk);
    const out = this.down.out;
    let all: boolean;
    const bodySize = to - from;
    if (bodySize > 0 && size + bodySize <= scratch.length) {
      if (bodySize <= 32) for (let i = from; i < to; i++) scratch[size++] = bytes[i] as number;
      else {
        (bytes as Buffer).copy(scratch, size, from, to);
        size += bodySize;
      }
      all = out.write(scratch, 0, size, true);
    } else {
      all = out.write(scratch, 0, size, true);
      if (bodySize > 0) all = out.write(bytes, from, to, false);
    }
    if (done) this.#answerComplete(conn);
    else {
      this.#touch();
      if (!all) this.#pauseUp(conn);
    }
  }

  onAnswerBody(conn: Upstream, bytes: Uint8Array, from: number, to: number, done: boolean): void {
    if (conn !== this.#conn) return;
    const all = to === from || this.down.out.write(bytes, from, to, false);
    if (done) this.#answerComplete(conn);
    else {
      this.#touch();
      if (!all) this.#pauseUp(conn);
    }
  }

  /** Does this answer ask for another attempt? Then the connection is given back (or up) and the attempt made. */
  #retryAnswer(conn: Upstream, head: Head, fromPeer: boolean, done: boolean): boolean {
    const retry = (this.#forward as CompiledForward).retry;
    if (retry === null || this.#retriesLeft === 0 || !this.#bodyKept || !this.#retryFits()) return false;
    const undelivered = head.notDelivered >= 0 && fromPeer && (retry.on & retryOn.connectFailure) !== 0;
    if (!undelivered && !(this.#safe && retriesStatus(retry, head.status))) return false;
    // Another attempt is better than this answer only where another endpoint can give it.
    const last = this.endpoint;
    if (undelivered) last?.connectFailed(this.down.core.ticker.nowMs);
    this.#leaveEndpoint();
    if (done) conn.release(this.#requestDone, this.down.core.ticker.nowMs);
    else {
      conn.owner = null;
      conn.dispose();
    }
    this.#again(last);
    return true;
  }

  #answerComplete(conn: Upstream): void {
    this.responseBytes = conn.answerBytes;
    this.upstreamPeer = conn.peer === null ? null : conn.peer.principal;
    const untilClose = conn.answerFraming === framing.untilClose || (conn.unchunk && conn.answerFraming === framing.chunked);
    const paused = this.#upPaused;
    this.#leaveEndpoint();
    if (paused) conn.resumeReading();
    conn.release(this.#requestDone, this.down.core.ticker.nowMs);
    if (untilClose) this.#downClose = true;
    this.#answered();
  }

  /** Everything of the answer is written (or waits in the outbox). */
  #answered(): void {
    this.#answerDone = true;
    // RFC 9112 9.3: after an answer before the end of its request the connection is read on for a while, but not used again.
    if (!this.#requestDone) this.#downClose = true;
    this.#finish();
  }

  #finish(): void {
    const close = this.#closesAfter(false);
    this.#end();
    this.down.exchangeDone(close);
  }

  /** Must the downstream connection be closed after this answer? */
  #closesAfter(untilClose: boolean): boolean {
    return untilClose || this.#downClose || this.down.closing;
  }

  /** A failure after the answer began: nothing can be said any more but by breaking off. */
  #cut(failure: Failure): void {
    this.flag = failure.flag;
    this.details = failure.details;
    this.#end();
    this.down.destroy();
  }

  /** Says it ourselves. */
  #reply(failure: Failure, why: string): void {
    this.#dropAttempt();
    this.status = failure.status;
    this.flag = failure.flag;
    if (failure !== failures.denied) this.details = failure.details;
    const exhausted = this.attempts > 1 && this.#retriesLeft === 0 && failure.side === "upstream";
    if (exhausted) this.flag = "URX";
    this.reason = why === "" ? failure.sentence : failure === failures.denied ? why : `${failure.sentence}: ${why}`;
    if (failure.close) this.#downClose = true;
    const undelivered = this.chain.inbound && (failure.retry === "safe" || failure === failures.noEndpoint);
    const close = this.#closesAfter(false) || !this.#requestDone;
    const size = writeReply(failure.status, this.flag ?? "-", this.reason, undelivered, this.#isHead, close);
    this.down.out.write(scratch, 0, size, true);
    this.#answered();
  }

  // ---- tunnels -----------------------------------------------------------------------------------------------------------

  #openTunnel(conn: Upstream): void {
    this.#sent = true;
    conn.becomeRaw();
    this.status = 200;
    this.details = "via_upstream";
    this.down.out.write(connected, 0, connected.length, false);
    this.#enterTunnel();
  }

  onSwitch(conn: Upstream, bytes: Uint8Array, head: Head, from: number, to: number): void {
    if (conn !== this.#conn) return;
    this.status = 101;
    this.details = "via_upstream";
    const size = writeAnswer(bytes, head, (this.route as CompiledRoute).responseEdits, persistence.upgrade, false, true);
    this.down.out.write(scratch, 0, size, true);
    this.#enterTunnel();
    if (to > from) this.onRawBytes(conn, bytes.subarray(from, to));
  }

  #enterTunnel(): void {
    this.#state = state.tunnel;
    this.#timeoutAtMs = Number.POSITIVE_INFINITY;
    this.#tryAtMs = Number.POSITIVE_INFINITY;
    this.#opaque = true;
    this.#touch();
    this.down.becomeTunnel();
  }

  /** Opaque bytes from the client. */
  tunnelBytes(bytes: Uint8Array): void {
    const conn = this.#conn;
    if (conn === null) return;
    this.requestBytes += bytes.length;
    this.#touch();
    if (!conn.out.write(bytes, 0, bytes.length, false)) this.#pauseDown();
  }

  /** The client sends no more. */
  tunnelEnd(): void {
    this.#conn?.out.finish();
    this.#requestDone = true;
    if (this.#answerDone) this.#closeTunnel();
  }

  onRawBytes(conn: Upstream, bytes: Uint8Array): void {
    if (conn !== this.#conn) return;
    this.responseBytes += bytes.length;
    this.#touch();
    if (!this.down.out.write(bytes, 0, bytes.length, false)) this.#pauseUp(conn);
  }

  onRawEnd(conn: Upstream): void {
    if (conn !== this.#conn) return;
    this.down.out.finish();
    this.#answerDone = true;
    // A client that has sent its FIN too is done; one that has not may go on sending (half close).
    if (this.down.inputEnded) this.#closeTunnel();
  }

  #closeTunnel(): void {
    const conn = this.#conn;
    this.#leaveEndpoint();
    if (conn !== null) {
      conn.owner = null;
      // What waits for the upstream peer is still delivered: it goes when its FIN is out.
      if (conn.out.waiting === 0) conn.dispose();
    }
    this.#end();
    this.down.tunnelDone();
  }

  // ---- flow --------------------------------------------------------------------------------------------------------------

  onUpstreamDrained(conn: Upstream): void {
    if (conn === this.#conn) this.#resumeDown();
  }

  /** The downstream socket took what waited. */
  downDrained(): void {
    if (!this.#upPaused) return;
    this.#upPaused = false;
    this.#conn?.resumeReading();
  }

  #pauseDown(): void {
    if (this.#downPaused) return;
    this.#downPaused = true;
    this.down.pauseReading();
  }

  #resumeDown(): void {
    if (!this.#downPaused) return;
    this.#downPaused = false;
    this.down.resumeReading();
  }

  #pauseUp(conn: Upstream): void {
    if (this.#upPaused) return;
    this.#upPaused = true;
    conn.pauseReading();
  }

  #touch(): void {
    if (this.#idleLimitMs > 0) {
      this.#idleAtMs = this.down.core.ticker.nowMs + this.#idleLimitMs;
      this.down.arm();
    }
  }

  // ---- the end -----------------------------------------------------------------------------------------------------------

  /** Counts and forgets. Every path ends here, once. */
  #end(): void {
    const core = this.down.core;
    this.#state = state.idle;
    core.activeRequests--;
    if (this.#conn !== null) this.#leaveEndpoint();
    const cluster = this.cluster;
    if (cluster !== null) {
      cluster.activeRequests--;
      if (this.#retrying) {
        this.#retrying = false;
        cluster.activeRetries--;
      }
      const at = cluster.waiting.length === 0 ? -1 : cluster.waiting.indexOf(this);
      if (at >= 0) cluster.waiting.splice(at, 1);
    }
    this.#resumeDown();
    if (!this.#opaque) this.requestBytes = this.down.requestBytes;
    const durationMs = core.ticker.now() - this.startMs;
    const flag = this.flag;
    requestCountersFor(this).count(this.status, flag ?? "-", durationMs, this.requestBytes, this.responseBytes);
    const logs = (this.chain.terminal as HttpChain).logs;
    if (logs.length > 0 && anyWants(logs, this.status, flag ?? "")) logTo(logs, this.status, flag ?? "", httpRecord(this, durationMs));
    this.bytes = scratch;
    if (this.#body.length > 0) this.#body.length = 0;
    this.#timeoutAtMs = Number.POSITIVE_INFINITY;
    this.#tryAtMs = Number.POSITIVE_INFINITY;
    this.#idleAtMs = Number.POSITIVE_INFINITY;
    this.reason = "";
    if (core.draining) core.onQuiet?.();
  }
}

const connected = Buffer.from("HTTP/1.1 200 Connection Established\r\n\r\n", "latin1");
