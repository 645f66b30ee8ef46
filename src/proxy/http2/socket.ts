// Owns: the Bun socket under an HTTP/2 client connection, plain or TLS with ALPN h2: connecting, the check of the peer, and the bytes the kernel did
// not take. Never knows frames.

import type { Clock } from "../../base/clock.ts";
import type { HostPort } from "../config.ts";
import { closeGently, Outbox, type Wire } from "../net/outbox.ts";
import { Http2Connection } from "./client.ts";

/** The state of a finished handshake, as the caller judges it. */
export interface PeerState {
  /** The leaf in DER. */
  readonly certificate: Uint8Array;
  /** OpenSSL's verdict on the chain; null: it leads to a root. A name mismatch is not a verdict on the chain and is left out. */
  readonly chainProblem: string | null;
}

export interface Http2TlsOptions {
  readonly roots: string | null;
  readonly certificate: { readonly certificatePem: string; readonly privateKeyPem: string } | null;
  readonly serverName: string;
  /** Why the peer must not be trusted, or null. Called before a byte is sent. */
  readonly verify: (peer: PeerState) => string | null;
}

export interface ConnectOptions {
  readonly clock: Clock;
  readonly address: HostPort;
  /** null: plain text with prior knowledge (RFC 9113 section 3.3). */
  readonly tls: Http2TlsOptions | null;
  readonly timeoutMs: number;
  readonly keepaliveMs?: number;
  readonly keepaliveTimeoutMs?: number;
  /** The connection was made and takes streams. */
  readonly opened: (connection: Http2Connection) => void;
  /** Called once, also when no connection came about. */
  readonly closed: (reason: string) => void;
}

/** ALPN wire format (RFC 7301 section 3.1). */
const alpnH2 = new Uint8Array([2, 0x68, 0x32]);

/** Starts connecting. Answers a function that gives up at once. */
export function connectHttp2(options: ConnectOptions): (reason: string) => void {
  let connection: Http2Connection | undefined;
  let socket: Bun.Socket<undefined> | undefined;
  let over = false;
  let reported = false;

  // The owner hears of the end once, whoever notices it first: closing the socket may call back before the connection has said so itself.
  const report = (reason: string): void => {
    if (reported) return;
    reported = true;
    over = true;
    timer.cancel();
    options.closed(reason);
  };
  const finish = (reason: string): void => {
    if (over) return;
    over = true;
    if (connection === undefined) report(reason);
    else if (!connection.closed) connection.transportClosed(reason);
    socket?.terminate();
  };
  const timer = options.clock.after(options.timeoutMs, () => finish(`no connection within ${options.timeoutMs} ms`));

  const out = new Outbox();
  const begin = (opened: Bun.Socket<undefined>): void => {
    timer.cancel();
    const wire = opened as unknown as Wire;
    out.wire = wire;
    connection = new Http2Connection({
      clock: options.clock,
      out,
      closed: (_code, reason) => {
        report(reason);
        // GOAWAY goes before the FIN.
        if (out.waiting > 0) {
          out.finish();
          wire.timeout(5);
        } else {
          out.wire = null;
          closeGently(wire);
        }
      },
      ...(options.keepaliveMs === undefined ? {} : { keepaliveMs: options.keepaliveMs }),
      ...(options.keepaliveTimeoutMs === undefined ? {} : { keepaliveTimeoutMs: options.keepaliveTimeoutMs }),
    });
    options.opened(connection);
  };

  const tls = options.tls;
  Bun.connect<undefined>({
    hostname: options.address.host,
    port: options.address.port,
    ...(tls === null ? {} : { tls: tlsOptions(tls) }),
    socket: {
      open(opened) {
        socket = opened;
        if (over) {
          opened.terminate();
          return;
        }
        if (tls === null) begin(opened);
      },
      handshake(shaken, success, problem) {
        if (tls === null || over || connection !== undefined) return;
        const refused = judge(shaken, success, problem, tls);
        if (refused !== null) finish(refused);
        else begin(shaken);
      },
      data(_socket, bytes) {
        connection?.received(bytes as Buffer);
      },
      drain() {
        connection?.drained();
      },
      close(_socket, error) {
        finish(error === undefined ? "the peer closed the connection" : `the connection broke: ${error.message}`);
      },
      end() {
        finish("the peer closed the connection");
      },
      error(_socket, error) {
        finish(`the connection broke: ${error.message}`);
      },
      connectError(_socket, error) {
        finish(error.message);
      },
    },
  }).catch((error: unknown) => finish(error instanceof Error ? error.message : String(error)));

  return (reason) => {
    if (connection !== undefined && !connection.closed) connection.close(reason);
    else finish(reason);
  };
}

function tlsOptions(tls: Http2TlsOptions): Bun.TLSOptions {
  return {
    ...(tls.roots === null ? {} : { ca: tls.roots }),
    ...(tls.certificate === null ? {} : { cert: tls.certificate.certificatePem, key: tls.certificate.privateKeyPem }),
    ...(tls.serverName === "" ? {} : { serverName: tls.serverName }),
    ALPNProtocols: alpnH2,
    // The handshake callback judges; the library would compare host names, which SPIFFE certificates need not have.
    rejectUnauthorized: false,
  };
}

/** Bun reports a certificate without the dialled host name as a failure with this code, and only when the chain itself is good. */
const nameMismatch = "ERR_TLS_CERT_ALTNAME_INVALID";

function judge(socket: Bun.Socket<undefined>, success: boolean, problem: Error | null, tls: Http2TlsOptions): string | null {
  const certificate = socket.getPeerX509Certificate() as ReturnType<typeof socket.getPeerX509Certificate> | undefined;
  if (certificate === undefined) return `the TLS handshake failed${problem === null ? "" : `: ${problem.message}`}`;
  const code = (problem as (Error & { code?: string }) | null)?.code;
  const chainGood = success || code === nameMismatch;
  const refused = tls.verify({ certificate: certificate.raw, chainProblem: chainGood ? null : (problem?.message ?? "not verified") });
  if (refused !== null) return `the server's certificate is refused: ${refused}`;
  return socket.alpnProtocol === "h2" ? null : "the server does not offer HTTP/2 (ALPN h2)";
}
