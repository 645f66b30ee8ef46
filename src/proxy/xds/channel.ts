// Owns: the one connection to the control plane that all streams of a proxy share: connecting, the check of the server, reconnecting. Never knows what
// the streams carry.

import type { Clock, Timer } from "../../base/clock.ts";
import type { Logger } from "../../base/log.ts";
import type { ClusterConfig, EndpointConfig, SanMatcher, UpstreamTlsConfig } from "../config.ts";
import type { HeaderField, Http2Connection } from "../http2/client.ts";
import { connectHttp2, type Http2TlsOptions } from "../http2/socket.ts";
import { type Certificate, parseCertificate } from "../identity/x509.ts";
import { Backoff } from "./backoff.ts";
import type { GrpcTarget } from "./decode/sources.ts";
import { GrpcCall, type GrpcEvents } from "./grpc.ts";
import { Told } from "./told.ts";

/** What proves who we are, asked for each time it is needed. */
export interface ChannelCredentials {
  /** Presented in the TLS handshake. */
  certificate(): { readonly certificatePem: string; readonly privateKeyPem: string } | undefined;
  /** Roots of the mesh that the server may show beside those of the bootstrap, which may be older than the last root; absent: none. */
  roots?(): string | undefined;
  /** The join token, read anew; used while there is no certificate. */
  token(): string | undefined;
}

/** Somebody with streams on the channel. */
export interface ChannelUser {
  /** A new connection; calls may be made until `closed`. */
  opened(): void;
  /** The connection is gone; every call has ended. */
  closed(reason: string): void;
}

export interface ChannelOptions {
  readonly clock: Clock;
  readonly log: Logger;
  readonly random: () => number;
  readonly cluster: ClusterConfig;
  readonly target: GrpcTarget;
  readonly credentials: ChannelCredentials;
}

type ChannelState =
  | { readonly at: "idle" }
  | { readonly at: "connecting"; readonly abandon: (reason: string) => void }
  | { readonly at: "open"; readonly connection: Http2Connection; readonly sinceMs: number; readonly shown: string | undefined }
  | { readonly at: "waiting"; readonly timer: Timer }
  | { readonly at: "closed" };

/** First retry within 100 ms: a control plane that restarts is back in a fraction of a second. */
const firstRetryMs = 100;
const longestRetryMs = 10_000;
/** A control plane that stands still (SIGSTOP, a cut network) is left within the sum: PING after so long without a byte from it, */
const keepaliveMs = 5_000;
/** and so long for the answer. */
const keepaliveTimeoutMs = 3_000;
/** A connection that lasted this long counts as a success. */
const provenAfterMs = 2_000;

const refusedCertificate = "the server refused our certificate";
const refusedOther = "the server refused what this connection came with; the present certificate has not been shown yet";
const refusals: ReadonlySet<string> = new Set([refusedCertificate, refusedOther]);

export class ControlChannel {
  readonly #options: ChannelOptions;
  readonly #users: ChannelUser[] = [];
  readonly #backoff: Backoff;
  #state: ChannelState = { at: "idle" };
  #nextEndpoint: number;
  /** Since a connection last proved itself; each address is tried once before the pause grows. */
  #failures = 0;
  #lastProblem = "";
  /** Why connections failed since one last proved itself. */
  readonly #told = new Told();
  #distrustCertificate = false;

  constructor(options: ChannelOptions) {
    this.#options = options;
    // A fleet spreads itself over its control planes.
    this.#nextEndpoint = Math.floor(options.random() * Math.max(1, this.#endpoints));
    this.#backoff = new Backoff(options.random, firstRetryMs, longestRetryMs);
  }

  get connected(): boolean {
    return this.#state.at === "open";
  }

  /** Why there is no connection; empty while there is one. */
  get problem(): string {
    return this.connected ? "" : this.#lastProblem;
  }

  /** Adds a user before or after the start. */
  add(user: ChannelUser): void {
    this.#users.push(user);
    if (this.connected) user.opened();
  }

  start(): void {
    if (this.#state.at === "idle") this.#connect();
  }

  /** Closes for good. */
  close(): void {
    const before = this.#state;
    this.#state = { at: "closed" };
    if (before.at === "connecting") before.abandon("the proxy stops");
    else if (before.at === "waiting") before.timer.cancel();
    else if (before.at === "open") before.connection.close("the proxy stops");
  }

  /** Opens a call on the present connection; undefined when there is none. */
  call(path: string, events: GrpcEvents): GrpcCall | undefined {
    if (this.#state.at !== "open") return undefined;
    if (!this.#state.connection.usable) {
      // It has said GOAWAY: whoever wants a stream now finds another control plane.
      this.#state.connection.close("the control plane takes no more streams on this connection");
      return undefined;
    }
    const { target, cluster, credentials } = this.#options;
    const metadata: HeaderField[] = target.metadata.map((m) => ({ ...m, sensitive: true }));
    // One proof is enough, and a token may be stale long before a certificate is.
    const token = this.#state.shown !== undefined ? undefined : credentials.token();
    if (token !== undefined) metadata.push({ name: "authorization", value: `Bearer ${token}`, sensitive: true });
    return new GrpcCall(
      this.#state.connection,
      { path, authority: target.authority || cluster.name, scheme: cluster.tls === null ? "http" : "https", metadata },
      events,
    );
  }

  /**
   * The server refused what this connection came with. Where that was not the certificate held now (the connection is older, or came by a token, which may be used up),
   * the next one shows it; else the next one goes by token.
   */
  refused(): void {
    if (this.#state.at !== "open") return;
    const present = this.#options.credentials.certificate()?.certificatePem;
    if (present === undefined || present === this.#state.shown) this.distrustCertificate();
    else this.#state.connection.close(refusedOther);
  }

  /** The present certificate is worth nothing: the next connection goes without it, by token. */
  distrustCertificate(): void {
    if (this.#state.at !== "open" || this.#state.shown === undefined) return;
    this.#distrustCertificate = true;
    this.#state.connection.close(refusedCertificate);
  }

  /** This control plane sends us away: another one is tried, when there is another. */
  moveOn(): void {
    if (this.#state.at === "open" && this.#endpoints > 1) this.#state.connection.close("the control plane sent us away");
  }

  #connect(): void {
    const { clock, cluster } = this.#options;
    const endpoint = this.#pickEndpoint();
    if (endpoint === undefined) return this.#retry("the control plane's cluster has no endpoint");
    const certificate = this.#distrustCertificate ? undefined : this.#options.credentials.certificate();
    let tls: Http2TlsOptions | null = null;
    try {
      tls = cluster.tls === null ? null : serverTls(cluster.tls, certificate, this.#options.credentials.roots?.());
    } catch (error) {
      return this.#retry(error instanceof Error ? error.message : String(error));
    }
    let settled = false;
    const abandon = connectHttp2({
      clock,
      address: endpoint.address,
      tls,
      timeoutMs: cluster.connectTimeoutMs,
      keepaliveMs,
      keepaliveTimeoutMs,
      opened: (connection) => {
        settled = true;
        if (this.#state.at === "closed") return connection.close("the proxy stops");
        this.#state = { at: "open", connection, sinceMs: clock.mono(), shown: tls?.certificate?.certificatePem };
        this.#distrustCertificate = false;
        this.#options.log.debug({ address: endpoint.address }, "Connected to the control plane.");
        for (const user of this.#users) user.opened();
      },
      closed: (reason) => {
        settled = true;
        this.#lost(endpoint, reason);
      },
    });
    if (!settled && this.#state.at !== "closed") this.#state = { at: "connecting", abandon };
  }

  #lost(endpoint: EndpointConfig, reason: string): void {
    if (this.#state.at === "closed") return;
    const { clock, log } = this.#options;
    if (this.#state.at === "open") {
      if (clock.mono() - this.#state.sinceMs >= provenAfterMs) {
        this.#backoff.reset();
        this.#failures = 0;
        this.#told.clear();
      }
      // What was refused has its line from whoever's call it was.
      const worth = !refusals.has(reason) && this.#told.isNews(reason, clock.mono());
      log[worth ? "warn" : "debug"]({ reason }, "Lost the control plane; what is configured serves on.");
      this.#state = { at: "idle" };
      for (const user of this.#users) user.closed(reason);
    } else if (this.#told.isNews(reason, clock.mono())) {
      // Once for each kind of failure, not once a try.
      log.warn({ reason, address: endpoint.address }, "Cannot reach the control plane; trying again.");
    }
    this.#retry(reason);
  }

  #retry(reason: string): void {
    this.#lastProblem = reason;
    this.#failures++;
    const another = this.#failures % Math.max(1, this.#endpoints) !== 0;
    const waitMs = another ? this.#options.random() * firstRetryMs : this.#backoff.nextMs();
    const timer = this.#options.clock.after(waitMs, () => this.#connect());
    this.#state = { at: "waiting", timer };
  }

  get #endpoints(): number {
    const { source } = this.#options.cluster;
    return source.kind === "eds" ? 0 : source.endpoints.length;
  }

  #pickEndpoint(): EndpointConfig | undefined {
    const source = this.#options.cluster.source;
    if (source.kind === "eds" || source.endpoints.length === 0) return undefined;
    return source.endpoints[this.#nextEndpoint++ % source.endpoints.length];
  }
}

function serverTls(
  tls: UpstreamTlsConfig,
  own: { readonly certificatePem: string; readonly privateKeyPem: string } | undefined,
  moreRoots: string | undefined,
): Http2TlsOptions {
  // The bootstrap decoder lets only PEM roots or our own secret in; before there is an identity, the secret holds nothing to verify with.
  if (tls.roots?.kind === "secret") throw new Error("the control plane's cluster must name its trusted_ca in the bootstrap, not by SDS");
  const fixed = tls.certificate?.kind === "pem" ? tls.certificate : null;
  return {
    roots:
      tls.roots === null
        ? null
        : tls.roots.pem + (moreRoots === undefined || tls.roots.pem.includes(moreRoots.trim()) ? "" : `\n${moreRoots}`),
    certificate: own ?? fixed,
    serverName: tls.sni,
    verify(peer) {
      if (tls.roots === null) return null;
      if (peer.chainProblem !== null) return peer.chainProblem;
      return nameProblem(parseCertificate(peer.certificate), tls.peerNames);
    },
  };
}

function nameProblem(certificate: Certificate, wanted: readonly SanMatcher[]): string | null {
  if (wanted.length === 0) return null;
  for (const matcher of wanted) {
    for (const name of matcher.type === "uri" ? certificate.uris : certificate.dnsNames) if (matches(matcher, name)) return null;
  }
  const names = [...certificate.uris, ...certificate.dnsNames];
  return `it is for ${names.join(", ") || "nobody"}, not for ${wanted.map((w) => `${w.type}:${w.match.value}`).join(" or ")}`;
}

function matches(matcher: SanMatcher, name: string): boolean {
  const { match } = matcher;
  const fold = (text: string): string => (match.ignoreCase || matcher.type === "dns" ? text.toLowerCase() : text);
  switch (match.kind) {
    case "exact":
      return fold(name) === fold(match.value);
    case "prefix":
      return fold(name).startsWith(fold(match.value));
    case "suffix":
      return fold(name).endsWith(fold(match.value));
    case "contains":
      return fold(name).includes(fold(match.value));
    case "regex": {
      const { RE2JS } = require("re2js") as typeof import("re2js");
      return RE2JS.matches(match.value, name);
    }
  }
}
