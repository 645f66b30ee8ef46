// Owns: the gRPC server: TLS with optional client certificates, who is calling, and the services on it: aggregated discovery (both variants),
// certificates, metrics and access logs, load reports, client status. Never decides what a proxy gets: sessions do.
// rule 1: longer than 400 lines, as it is the one place where the services of a port are put together; what they do is in files of their own.

import { createHash, X509Certificate } from "node:crypto";
import {
  type handleClientStreamingCall,
  Metadata,
  Server,
  ServerCredentials,
  type ServerDuplexStream,
  type ServerReadableStream,
  type ServerUnaryCall,
  type sendUnaryData,
  setLogger,
  status,
  type UntypedServiceImplementation,
} from "@grpc/grpc-js";
import type { Clock } from "../../base/clock.ts";
import type { Logger } from "../../base/log.ts";
import type { Node } from "../../wire/gen/envoy/config/core/v3/base_pb.ts";
import type { StreamAccessLogsMessage } from "../../wire/gen/envoy/service/accesslog/v3/als_pb.ts";
import type { StreamMetricsMessage } from "../../wire/gen/envoy/service/metrics/v3/metrics_service_pb.ts";
import type { IstioCertificateRequest, IstioCertificateResponse } from "../../wire/gen/security/v1/istioca_pb.ts";
import type { Identity } from "../../wire/spiffe.ts";
import { emptyDenyList, writeDenyList } from "../../wire/trust.ts";
import type { Authority } from "../identity/authority.ts";
import { CsrRefused } from "../identity/failure.ts";
import type { Revocations } from "../identity/revocations.ts";
import type { Secret } from "../identity/secret.ts";
import type { TokenAuthority } from "../identity/token.ts";
import { type LimitDeps, limitCall } from "../ratelimit/service.ts";
import { type Admitted, admitNode, type FindEntry } from "./admission.ts";
import { type AnyCall, codeOf, failureOf, type Life, OpenCalls, whoIs } from "./caller.ts";
import { encodeDelta, encodeState } from "./encode.ts";
import { maxUnadmitted, StreamGate } from "./gate.ts";
import type { LoadReports } from "./load.ts";
import { Quarantine } from "./quarantine.ts";
import { loadStream, statusCalls } from "./reports.ts";
import {
  accessLogService,
  certificateService,
  clientStatusService,
  discoveryService,
  loadService,
  metricsService,
  rateLimitService,
} from "./services.ts";
import { type EndCode, Session, type SessionObserver, type SnapshotSource, type StreamRequest } from "./session.ts";
import { secretService, type TrustNews, TrustStreams } from "./trust.ts";
import type { Mode, Offer } from "./type-ledger.ts";

/** One telemetry stream: `message` is called in order, `end` once. */
export interface TelemetryReceiver<M> {
  message(message: M): void;
  end(): void;
}

export interface XdsServerDeps {
  readonly clock: Clock;
  readonly log: Logger;
  readonly authority: Authority;
  readonly tokens: TokenAuthority;
  readonly snapshots: SnapshotSource;
  readonly observer: SessionObserver;
  readonly findEntry: FindEntry;
  /** Opens the ear for one proxy's metrics or access log stream. */
  readonly metrics: (node: Admitted) => TelemetryReceiver<StreamMetricsMessage>;
  readonly accessLogs: (node: Admitted) => TelemetryReceiver<StreamAccessLogsMessage>;
  /** Where load reports go; absent: the service is not there. */
  readonly loads?: LoadReports;
  /** Counts of global rate limits; absent: the service is not there. */
  readonly limits?: LimitDeps;
  /** Whether an `Authorization` header may list every proxy; absent: nobody, and each client may ask for itself. */
  readonly mayListProxies?: (authorization: string) => Promise<boolean>;
  /** Who is refused; absent: nobody. */
  readonly revoked?: Pick<Revocations, "whyCertificate" | "whyIdentity">;
  /** What is told of trust over SDS; absent: the roots, and that nobody is denied. */
  readonly trust?: () => TrustNews;
  readonly onCertificate: (identity: Identity, serialNumber: string, notAfterMs: number) => void;
  /** `weft/0.1.0`: the control plane's name in responses. */
  readonly identifier: string;
}

export interface XdsServer {
  readonly port: number;
  /** New connections get this certificate from now on. */
  updateCertificate(certificatePem: string, key: Secret): void;
  /** Roots or deny list are others now: every holder of an identity is told, and who is refused loses its streams. */
  trustChanged(): void;
  /** Somebody may have been refused since: whoever was loses its streams (UNAUTHENTICATED, with the reason). */
  recheck(): void;
  /** What the holders of identities have accepted, and whose certificate each of them has. */
  holders(): readonly HolderFacts[];
  /** With a reason: sends every stream away (UNAVAILABLE, so that clients try another control plane) and takes none until it is called without. */
  shed(reason: string | undefined): void;
  /** Ends every stream with UNAVAILABLE (clients reconnect) and closes the port. */
  stop(): Promise<void>;
}

/** One proxy or agent that is connected. */
export interface HolderFacts {
  /** `NAMESPACE/NAME`, or its identity. */
  readonly key: string;
  /** The roots that it has accepted; undefined: none, or it takes none. */
  readonly rootsPem: string | undefined;
  readonly problem: string | undefined;
  /** Fingerprint of the authority that signed its certificate; undefined: it has none yet, or nobody knows. */
  readonly issuer: string | undefined;
}

/** Connections whose last certificate is remembered; one beyond costs a proxy a second look. */
const mostRemembered = 65_536;

/** Bytes of responses that one stream has not taken yet: room for one response of each type of a large mesh. A client beyond it does not read. */
export const maxPendingBytes = 64 * 1024 * 1024;

/** Dead peers (a machine that lost power sends no FIN) are found within this and the timeout. */
const keepaliveMs = 5_000;
const keepaliveTimeoutMs = 4_000;

export async function startXdsServer(
  at: { readonly host: string; readonly port: number; readonly certificatePem: string; readonly key: Secret },
  deps: XdsServerDeps,
): Promise<XdsServer> {
  // The library's own words go into our log, where nobody need read them, and not to standard error.
  const quiet = (...words: unknown[]) => deps.log.debug({ words: words.map(String).join(" ") }, "gRPC says");
  setLogger({ error: quiet, info: quiet, debug: quiet });
  const credentials = optionalClientCertificates(deps.authority.rootPem, at.certificatePem, at.key);
  const server = new Server({
    "grpc.keepalive_time_ms": keepaliveMs,
    "grpc.keepalive_timeout_ms": keepaliveTimeoutMs,
    // Proxies ping at their own pace; being strict here would cut them off (GOAWAY too_many_pings).
    "grpc.max_ping_strikes": 0,
    // A subscription to 65 536 names fits; anything larger is not a request of ours.
    "grpc.max_receive_message_length": 8 * 1024 * 1024,
    "grpc-node.max_session_memory": 64,
  });
  const sessions = new Set<Session>();
  const standing = new OpenCalls(deps.log);
  const holders = new TrustStreams({
    log: deps.log,
    news: deps.trust ?? (() => ({ rootsPem: deps.authority.rootPem, crlPem: "", denyList: writeDenyList(emptyDenyList) })),
    whoIs: (call) => whoIs(call, deps),
    standing,
    fail,
  });
  /** By connection: the certificate that was issued over it last, which its TLS handshake cannot know. */
  const issuedOver = new Map<string, Life & { readonly issuer: string }>();
  const noteIssued = (peer: string, notAfterMs: number) => {
    issuedOver.delete(peer);
    issuedOver.set(peer, { issuer: deps.authority.issuing.certificate.fingerprint, notBeforeMs: deps.clock.now(), notAfterMs });
    if (issuedOver.size > mostRemembered) issuedOver.delete(issuedOver.keys().next().value as string);
  };
  const issuerOver = (call: Pick<AnyCall, "getAuthContext">, peer: string): string | undefined => {
    const raw = call.getAuthContext().sslPeerCertificate?.raw;
    return issuedOver.get(peer)?.issuer ?? (raw === undefined ? undefined : deps.authority.issuerOf(raw)?.certificate.fingerprint);
  };
  const gate = new StreamGate(() => deps.clock.mono());
  const quarantine = new Quarantine();

  const shared: Shared = { sessions, gate, quarantine, standing, issuedOver };
  server.addService(discoveryService, {
    streamAggregatedResources: (call: Duplex) => openStream("sotw", call, deps, shared),
    deltaAggregatedResources: (call: Duplex) => openStream("delta", call, deps, shared),
  } as UntypedServiceImplementation);
  server.addService(certificateService, {
    createCertificate: (
      call: ServerUnaryCall<IstioCertificateRequest, IstioCertificateResponse>,
      reply: sendUnaryData<IstioCertificateResponse>,
    ) => {
      void createCertificate(call, reply, deps, noteIssued);
    },
  } as UntypedServiceImplementation);
  server.addService(secretService, { streamSecrets: holders.stream } as unknown as UntypedServiceImplementation);
  server.addService(metricsService, { streamMetrics: telemetry(deps, standing, deps.metrics) } as UntypedServiceImplementation);
  const asked = {
    log: deps.log,
    findEntry: deps.findEntry,
    mayListProxies: deps.mayListProxies,
    whoIs: (call: AnyCall) => whoIs(call, deps),
    standing,
    fail,
  };
  if (deps.loads !== undefined)
    server.addService(loadService, { streamLoadStats: loadStream(asked, deps.loads) } as UntypedServiceImplementation);
  if (deps.limits !== undefined)
    server.addService(rateLimitService, {
      shouldRateLimit: limitCall(deps.limits, asked.whoIs),
    } as unknown as UntypedServiceImplementation);
  const statuses = statusCalls(asked, sessions);
  server.addService(clientStatusService, statuses as unknown as UntypedServiceImplementation);
  server.addService(accessLogService, { streamAccessLogs: telemetry(deps, standing, deps.accessLogs) } as UntypedServiceImplementation);

  const port = await new Promise<number>((resolve, reject) => {
    const host = at.host.includes(":") ? `[${at.host}]` : at.host;
    server.bindAsync(`${host}:${at.port}`, credentials, (error, bound) => (error ? reject(error) : resolve(bound)));
  });

  return {
    port,
    updateCertificate(certificatePem, key) {
      credentials.updateSecureContextOptions(secureContext(deps.authority.rootPem, certificatePem, key));
    },
    trustChanged() {
      holders.publish();
      standing.recheck();
    },
    recheck() {
      standing.recheck();
    },
    holders() {
      const found = new Map<string, HolderFacts>();
      const peers = new Set<string>();
      for (const { key, peer, rootsPem, problem, call } of holders.holders()) {
        peers.add(peer);
        found.set(key, { key, rootsPem, problem, issuer: issuerOver(call, peer) });
      }
      // Programs behind an agent come over its connection; whoever has a stream of configuration and takes no roots is told of as that.
      for (const session of sessions)
        if (session.node !== undefined && !peers.has(session.peer) && !found.has(session.node.key))
          found.set(session.node.key, {
            key: session.node.key,
            rootsPem: undefined,
            problem: `${session.agent} takes no roots by SDS`,
            issuer: issuedOver.get(session.peer)?.issuer,
          });
      return [...found.values()];
    },
    shed(reason) {
      gate.closed = reason;
      if (reason !== undefined) for (const session of [...sessions]) session.end("unavailable", reason);
    },
    async stop() {
      for (const session of sessions) session.end("unavailable", "the control plane is stopping; connect again");
      await new Promise<void>((resolve) => {
        const force = deps.clock.after(500, () => {
          server.forceShutdown();
          resolve();
        });
        server.tryShutdown(() => {
          force.cancel();
          resolve();
        });
      });
    },
  };
}

// ---- who is calling ------------------------------------------------------------------------------------------------------

type Credentials = ServerCredentials & {
  _getConstructorOptions(): Record<string, unknown>;
  updateSecureContextOptions(options: unknown): void;
};

/** A certificate is asked for and not insisted on: a proxy that has none yet comes with a join token. */
function optionalClientCertificates(rootPem: string, certificatePem: string, key: Secret): Credentials {
  const { cert, key: keys } = secureContext(rootPem, certificatePem, key);
  const credentials = ServerCredentials.createSsl(
    Buffer.from(rootPem),
    [{ cert_chain: cert[0] as Buffer, private_key: keys[0] as Buffer }],
    false,
  ) as Credentials;
  // grpc-js knows "none" and "required"; the option between them is Node's own.
  const options = credentials._getConstructorOptions();
  credentials._getConstructorOptions = () => ({ ...options, requestCert: true, rejectUnauthorized: false });
  return credentials;
}

function secureContext(rootPem: string, certificatePem: string, key: Secret): { ca: Buffer; cert: Buffer[]; key: Buffer[] } {
  return { ca: Buffer.from(rootPem), cert: [Buffer.from(certificatePem)], key: [Buffer.from(key.reveal())] };
}

// ---- aggregated discovery ------------------------------------------------------------------------------------------------

type Duplex = ServerDuplexStream<StreamRequest, Uint8Array>;

const endCodes: Readonly<Record<EndCode, status>> = {
  "deadline-exceeded": status.DEADLINE_EXCEEDED,
  "permission-denied": status.PERMISSION_DENIED,
  unauthenticated: status.UNAUTHENTICATED,
  "invalid-argument": status.INVALID_ARGUMENT,
  "resource-exhausted": status.RESOURCE_EXHAUSTED,
  unavailable: status.UNAVAILABLE,
  internal: status.INTERNAL,
};

/** What the streams of one server share. */
interface Shared {
  readonly sessions: Set<Session>;
  readonly gate: StreamGate;
  readonly quarantine: Quarantine;
  readonly standing: OpenCalls;
  readonly issuedOver: ReadonlyMap<string, Life>;
}

function openStream(mode: Mode, call: Duplex, deps: XdsServerDeps, { sessions, gate, quarantine, standing, issuedOver }: Shared): void {
  const encode = mode === "sotw" ? encodeState : encodeDelta;
  let over = false;
  let pending = 0;
  let life: Life | undefined;
  const full = gate.refuses(sessions.size);
  if (full !== undefined) {
    fail(call, status.UNAVAILABLE, full);
    return;
  }
  const place = gate.streams.enter();
  if (place === undefined) {
    fail(call, status.RESOURCE_EXHAUSTED, `${maxUnadmitted} streams wait to be let in already; try again later`);
    return;
  }
  const caller = whoIs(call, deps);
  const session: Session = new Session(
    mode,
    {
      send: (offer: Offer) => {
        if (over) return;
        const bytes = encode(offer, deps.identifier);
        // A single response may be of any size; it is the second one on top that a client must not leave lying.
        if (pending > maxPendingBytes) {
          session.end("resource-exhausted", `${pending} bytes of responses wait to be read by this client; it does not read`);
          return;
        }
        pending += bytes.length;
        call.write(bytes, () => {
          pending -= bytes.length;
        });
      },
      end: (code, message) => fail(call, endCodes[code], message),
    },
    {
      clock: deps.clock,
      log: deps.log,
      snapshots: deps.snapshots,
      observer: deps.observer,
      quarantine,
      peer: call.getPeer(),
      certificate: () => issuedOver.get(call.getPeer()) ?? life,
      admit: async (nodeId) => {
        const who = await caller;
        if (!who.ok) return who;
        const verdict = await admitNode(nodeId, who.identity, deps.findEntry);
        if (!verdict.ok) return verdict;
        const same = place.admit(verdict.node.snapshotKey);
        return same === undefined ? verdict : { ok: false, reason: `node ${nodeId} has ${same} streams open already` };
      },
    },
  );
  sessions.add(session);
  let leave = () => {};
  const finish = () => {
    over = true;
    leave();
    sessions.delete(session);
    place.leave();
    session.close();
  };
  caller.then(
    (who) => {
      if (over) return;
      if (who.ok) {
        life = who.life;
        leave = standing.add(who, (why) => session.end("unauthenticated", why));
      } else {
        fail(call, codeOf(who), who.reason);
        finish();
      }
    },
    // Told where the node is judged.
    () => {},
  );
  call.on("data", (request: StreamRequest) => session.receive(request));
  call.on("end", () => {
    if (!over) call.end();
    finish();
  });
  call.on("cancelled", finish);
  call.on("close", finish);
  call.on("error", finish);
}

/** Ends a streaming call with a status. */
function fail(call: { emit(event: "error", error: unknown): boolean }, code: status, details: string): void {
  call.emit("error", { code, details, metadata: new Metadata() });
}

// ---- certificates --------------------------------------------------------------------------------------------------------

async function createCertificate(
  call: ServerUnaryCall<IstioCertificateRequest, IstioCertificateResponse>,
  reply: sendUnaryData<IstioCertificateResponse>,
  deps: XdsServerDeps,
  noteIssued: (peer: string, notAfterMs: number) => void,
): Promise<void> {
  try {
    const who = await whoIs(call, deps);
    if (!who.ok) {
      reply({ code: codeOf(who), details: who.reason });
      return;
    }
    const issued = await deps.authority.signWorkload(call.request.csr, who.identity, Number(call.request.validityDuration));
    // The use of a one-time token is noted when there is something to give for it: a request that is refused does not use it up. With it the key is, whose
    // holder comes again where this answer is lost.
    const used = call.metadata.get("authorization").length === 0 ? who : await whoIs(call, deps, keyHash(issued.certificatePem));
    if (!used.ok) {
      reply({ code: codeOf(used), details: used.reason });
      return;
    }
    noteIssued(call.getPeer(), issued.notAfterMs);
    deps.onCertificate(who.identity, issued.serialNumber, issued.notAfterMs);
    reply(null, { $typeName: "istio.v1.auth.IstioCertificateResponse", certChain: [...issued.chainPem] });
  } catch (cause) {
    if (cause instanceof CsrRefused) {
      deps.log.warn({ peer: call.getPeer(), reason: cause.message }, "A certificate request was refused");
      reply({ code: cause.kind === "forbidden" ? status.PERMISSION_DENIED : status.INVALID_ARGUMENT, details: cause.message });
      return;
    }
    deps.log.error({ cause }, "A certificate could not be issued");
    reply(failureOf(cause, "the certificate could not be issued; the control plane's log says why"));
  }
}

function keyHash(certificatePem: string): string {
  const key = new X509Certificate(certificatePem).publicKey.export({ format: "der", type: "spki" });
  return createHash("sha256").update(key).digest("hex");
}

type Empty = Record<string, never>;

// ---- telemetry -----------------------------------------------------------------------------------------------------------

interface WithIdentifier {
  readonly identifier?: { readonly node?: Node | undefined } | undefined;
}

/** A client-streaming call whose first message names the node; the node must be the caller's. */
function telemetry<M extends WithIdentifier>(
  deps: XdsServerDeps,
  standing: OpenCalls,
  open: (node: Admitted) => TelemetryReceiver<M>,
): handleClientStreamingCall<M, Empty> {
  return (call: ServerReadableStream<M, Empty>, reply: sendUnaryData<Empty>) => {
    let receiver: TelemetryReceiver<M> | undefined;
    let over = false;
    let leave = () => {};
    const end = () => {
      if (over) return;
      over = true;
      leave();
      receiver?.end();
    };
    const refuse = (code: status, details: string) => {
      if (over) return;
      end();
      reply({ code, details });
    };
    const begin = async (first: M) => {
      const who = await whoIs(call, deps);
      if (!who.ok) {
        refuse(codeOf(who), who.reason);
        return;
      }
      const verdict = await admitNode(first.identifier?.node?.id ?? "", who.identity, deps.findEntry);
      if (!verdict.ok) {
        refuse(status.PERMISSION_DENIED, verdict.reason);
        return;
      }
      if (over) return;
      leave = standing.add(who, (why) => refuse(status.UNAUTHENTICATED, why));
      if (over) return;
      receiver = open(verdict.node);
      receiver.message(first);
      call.resume();
    };
    call.on("data", (message: M) => {
      if (over) return;
      if (receiver !== undefined) {
        receiver.message(message);
        return;
      }
      call.pause();
      begin(message).catch((cause: unknown) => {
        deps.log.error({ cause, node: formatNode(message) }, "A telemetry stream could not be opened");
        const { code, details } = failureOf(cause, "the stream could not be opened; the control plane's log says why");
        refuse(code, details);
      });
    });
    call.on("end", () => {
      const answer = !over;
      end();
      if (answer) reply(null, {});
    });
    call.on("cancelled", end);
    call.on("error", end);
  };
}

function formatNode(message: WithIdentifier): string {
  return message.identifier?.node?.id ?? "";
}
