// Owns: copies of requests that go to other clusters (Envoy's `request_mirror_policies`): sent when the whole request is here, its answer read and
// dropped. A copy never touches the exchange it was made of: it has its own deadline, its own limits, and is given up silently but for a counter.

import { pathEnd } from "../authz/path.ts";
import type { Permit } from "../authz/permit.ts";
import type { Cluster } from "../balance/cluster.ts";
import { pick } from "../balance/pick.ts";
import { latin1, text } from "../http/bytes.ts";
import type { Exchange } from "../http/exchange.ts";
import type { RequestNeeds, UpstreamHalf, UpstreamOwner } from "../http/halves.ts";
import { Upstream } from "../http1/client.ts";
import { Head, parseRequest } from "../http1/head.ts";
import type { HttpLimits } from "../http1/limits.ts";
import { limits as bounds } from "../http1/limits.ts";
import { takeIdle } from "../http1/pool.ts";
import { RequestPlan } from "../http1/write.ts";
import { acquireStream } from "../http2/pool.ts";
import type { Timed } from "../resilience/ticker.ts";
import { applyEdits, type CompiledEdits } from "../route/edit.ts";
import { rewritePrefix } from "../route/rewrite.ts";
import type { CompiledMirror } from "../route/table.ts";
import type { Core } from "../runtime/core.ts";
import type { HttpChain } from "./chain.ts";

/** Copies under way in one process; with the bound of a body 16 MiB at most. More are dropped and counted. */
export const mostMirrors = 256;
/** Envoy gives a copy its route's time-out; without one, this. */
const defaultTimeoutMs = 15_000;

const head = new Head();
const plan = new RequestPlan();

/** What copies of one request share: its head as it is forwarded, and its body as far as it is here. */
export class MirrorTap {
  readonly #mirrors: readonly CompiledMirror[];
  readonly #x: Exchange;
  readonly #body: Uint8Array[] = [];
  #size = 0;
  #over = false;

  constructor(x: Exchange, mirrors: readonly CompiledMirror[]) {
    this.#x = x;
    this.#mirrors = mirrors;
  }

  /** More of the body. A body larger than the replay bound is not mirrored: nothing waits for a copy. */
  more(bytes: Uint8Array, from: number, to: number): void {
    if (this.#over || to === from) return;
    this.#size += to - from;
    if (this.#size > bounds.replay) {
      this.#over = true;
      this.#body.length = 0;
      for (const one of this.#mirrors) this.#x.down.core.mirrors.count(one.slot.name, "too_large");
    } else this.#body.push(Buffer.from(bytes.subarray(from, to)));
  }

  /** The request is complete. `trailers`: its filtered trailer lines, null = none. */
  done(trailers: Uint8Array | null): void {
    if (!this.#over) for (const one of this.#mirrors) send(this.#x, one, this.#body, trailers);
  }
}

/** Draws for each mirror of the route, and sends or waits for the body. Called with everything chosen and nothing sent yet. */
export function mirror(x: Exchange, mirrors: readonly CompiledMirror[]): void {
  const drawn = mirrors.filter((one) => one.fraction >= 1 || x.down.core.random() < one.fraction);
  // A tunnel is no request that could be repeated elsewhere.
  if (drawn.length === 0 || x.isConnect || x.upgrade) return;
  const tap = new MirrorTap(x, drawn);
  for (const piece of x.body) tap.more(piece, 0, piece.length);
  if (x.requestDone) tap.done(x.requestTrailerLines);
  else x.tap = tap;
}

function send(x: Exchange, to: CompiledMirror, body: readonly Uint8Array[], trailers: Uint8Array | null): void {
  const core = x.down.core;
  const cluster = to.slot.current;
  const count = (outcome: MirrorOutcome): void => core.mirrors.count(to.slot.name, outcome);
  if (cluster === null) count("no_cluster");
  else if (core.mirrors.active >= mostMirrors) count("overflow");
  else if (cluster.activeRequests >= cluster.config.limits.maxRequests) {
    cluster.refused("max_requests");
    count("overflow");
  } else new MirroredRequest(x, to, cluster, body, trailers).start(x.permit as Permit);
}

export type MirrorOutcome = "answered" | "failed" | "timeout" | "overflow" | "too_large" | "no_cluster" | "no_endpoint";

class MirroredRequest implements UpstreamOwner, Timed {
  readonly #core: Core;
  readonly #cluster: Cluster;
  readonly #name: string;
  readonly #bytes: Uint8Array;
  readonly #limits: HttpLimits;
  readonly #body: readonly Uint8Array[];
  readonly #trailers: Uint8Array | null;
  readonly #needs: RequestNeeds;
  readonly #edits: CompiledEdits | null;
  readonly #framed: boolean;
  readonly #http2: boolean;
  readonly #path: Uint8Array | null;
  readonly #host: Uint8Array | null;
  readonly #ids: readonly [boolean, number, number, number, number];
  readonly #takesTrailers: boolean;
  readonly #viaLine: Uint8Array | null;
  readonly #lines: Uint8Array | null;
  #half: UpstreamHalf | null = null;
  #over = false;
  deadlineMs: number;
  slot = -1;

  constructor(x: Exchange, to: CompiledMirror, cluster: Cluster, body: readonly Uint8Array[], trailers: Uint8Array | null) {
    this.#core = x.down.core;
    this.#cluster = cluster;
    this.#name = to.slot.name;
    // The exchange goes on to other requests: what the copy needs is its own.
    this.#bytes = Buffer.from(x.bytes.subarray(x.headFrom, x.headTo));
    this.#limits = (x.chain.terminal as HttpChain).limits;
    this.#body = body;
    this.#trailers = trailers;
    const unsized = x.unsized && !x.framed;
    this.#needs = {
      isHead: x.isHead,
      allowSwitch: false,
      unchunk: true,
      addChunks: unsized,
      end: trailers === null && !(x.framed && body.length === 0 && unsized),
      endsWithData: x.grpc !== null,
    };
    this.#framed = x.framed;
    this.#http2 = x.half.version === 2;
    const forward = x.forward;
    const timeoutMs = forward !== null && forward.timeoutMs > 0 ? forward.timeoutMs : defaultTimeoutMs;
    this.deadlineMs = this.#core.ticker.now() + timeoutMs;
    this.#takesTrailers = x.teTrailers && x.minor === 1;
    this.#viaLine = (x.chain.terminal as HttpChain).viaLine;
    this.#lines = x.requestLines;
    this.#ids = [x.addedId, x.id0, x.id1, x.id2, x.id3];
    const edits = x.target?.requestEdits ?? null;
    const parsed = this.#parse();
    this.#path = forwardedPath(x, this.#bytes);
    this.#edits = edits === null || !parsed ? null : applyEdits(x, edits, this.#bytes, head, false);
    const host = x.target?.hostRewrite ?? x.newHost ?? this.#bytes.subarray(head.authorityFrom, head.authorityTo);
    this.#host = to.shadowHost ? shadow(host) : host.length === 0 ? null : host;
  }

  start(permit: Permit): void {
    const core = this.#core;
    const nowMs = core.ticker.nowMs;
    const cluster = this.#cluster;
    const endpoint = pick(cluster, permit, nowMs, core.random, null);
    if (endpoint === null || cluster.config.proxyProtocol !== undefined) {
      const full = endpoint === null && cluster.full;
      if (full) cluster.refused("instances");
      core.mirrors.count(this.#name, full ? "overflow" : "no_endpoint");
      return;
    }
    core.mirrors.active++;
    cluster.activeRequests++;
    endpoint.active++;
    core.ticker.add(this);
    const protocol = endpoint.transport.protocol;
    const over2 =
      protocol === "http2" ||
      (protocol === "downstream" && this.#http2) ||
      (protocol === "auto" && endpoint.transport.tls !== null && endpoint.agreed !== "http/1.1");
    if (over2) this.#half = this.#framed ? null : acquireStream(core, endpoint, this, nowMs);
    else {
      const idle = takeIdle(endpoint);
      if (idle !== null) {
        idle.take(this);
        this.#half = idle;
      } else if (cluster.connections < cluster.config.limits.maxConnections) {
        const made = new Upstream(core, endpoint, this, nowMs);
        this.#half = made;
        made.connect();
      }
    }
    const half = this.#half;
    if (half === null) {
      // Chunks that are passed on as they came have no place on HTTP/2, whatever room there is.
      if (!(over2 && this.#framed)) cluster.refused("max_connections");
      endpoint.active--;
      this.#leave("overflow");
    } else if (half.open) this.#send(half);
  }

  #parse(): boolean {
    head.limits = this.#limits;
    return parseRequest(this.#bytes, 0, this.#bytes.length, head) > 0;
  }

  #send(half: UpstreamHalf): void {
    if (!this.#parse()) {
      this.#end("failed");
      return;
    }
    // Marks what the edits remove; what they append was worked out when the copy was made.
    const edits = this.#edits;
    if (edits !== null) applyEdits(noExchange, edits, this.#bytes, head, false);
    plan.edits = edits;
    plan.path = this.#path;
    plan.pathSize = this.#path === null ? 0 : this.#path.length;
    plan.host = this.#host;
    [plan.addId, plan.id0, plan.id1, plan.id2, plan.id3] = this.#ids;
    plan.keepUpgrade = false;
    plan.takesTrailers = this.#takesTrailers;
    plan.viaLine = this.#viaLine;
    plan.lines = this.#lines;
    half.sendRequest(this.#bytes, head, plan, this.#needs, this.#body);
    const trailers = this.#trailers;
    if (trailers !== null) half.sendTrailers(trailers, 0, trailers.length);
  }

  #end(outcome: MirrorOutcome): void {
    const half = this.#half;
    if (half === null || this.#over) return;
    this.#half = null;
    half.endpoint.active--;
    if (outcome === "answered") half.release(true, this.#core.ticker.nowMs);
    else {
      half.owner = null;
      half.dispose();
    }
    this.#leave(outcome);
  }

  /** It ended by itself: nothing to give back. */
  #lost(outcome: MirrorOutcome): void {
    const half = this.#half;
    if (half === null || this.#over) return;
    this.#half = null;
    half.endpoint.active--;
    this.#leave(outcome);
  }

  #leave(outcome: MirrorOutcome): void {
    if (this.#over) return;
    this.#over = true;
    this.deadlineMs = Number.POSITIVE_INFINITY;
    this.#core.ticker.remove(this);
    this.#cluster.activeRequests--;
    this.#core.mirrors.active--;
    this.#core.mirrors.count(this.#name, outcome);
  }

  onDeadline(): void {
    this.#end("timeout");
  }

  onUpstreamReady(half: UpstreamHalf): void {
    if (half === this.#half) this.#send(half);
  }

  onUpstreamFailed(): void {
    this.#lost("failed");
  }

  onUpstreamLost(): void {
    this.#lost("failed");
  }

  onInterim(): void {}

  onAnswer(_half: UpstreamHalf, _bytes: Uint8Array, _head: Head, _from: number, _to: number, done: boolean): void {
    if (done) this.#end("answered");
  }

  onAnswerBody(_half: UpstreamHalf, _bytes: Uint8Array, _from: number, _to: number, done: boolean): void {
    if (done) this.#end("answered");
  }

  onAnswerTrailers(): void {
    this.#end("answered");
  }

  onSwitch(): void {
    this.#end("failed");
  }

  onUpstreamDrained(): void {}

  onRawBytes(): void {}

  onRawEnd(): void {
    this.#lost("failed");
  }
}

/** `applyEdits` asks the exchange only for what is worked out late, and a copy's edits have nothing of that left. */
const noExchange = null as unknown as Exchange;

/** The path with its query as it is forwarded; null = as it came. `head` holds the request in `bytes`. */
function forwardedPath(x: Exchange, bytes: Uint8Array): Uint8Array | null {
  const prefix = x.forward?.prefixRewrite ?? null;
  if (prefix === null || x.route === null) return x.newPath ?? x.path;
  const source = x.path ?? bytes;
  const from = x.path === null ? head.pathFrom : 0;
  const to = x.path === null ? head.pathTo : x.path.length;
  return rewritePrefix(prefix, x.route.matchedSize, source, from, pathEnd(source, from, to), to);
}

/** `reviews:80` becomes `reviews-shadow:80`, as Envoy has it. */
function shadow(host: Uint8Array): Uint8Array {
  const name = text(host, 0, host.length);
  const colon = name.lastIndexOf(":");
  if (colon > name.lastIndexOf("]")) return latin1(`${name.slice(0, colon)}-shadow${name.slice(colon)}`);
  return latin1(`${name}-shadow`);
}
