// Owns: the HTTPS socket of the API server, with a front that shows client certificates where those are credentials. Never answers anything itself, but for
// connections that came past the front.

import type { ApiServer, Holder } from "./deps.ts";
import type { Front } from "./front.ts";

export interface ApiListener {
  /** The port bound (the one asked for, or the free one found for 0). */
  readonly port: number;
  /** Stops accepting, ends watches and open connections. */
  stop(): Promise<void>;
}

export interface ListenAt {
  readonly hostname: string;
  readonly port: number;
  /** PEM texts. */
  readonly cert: string;
  readonly key: string;
}

export interface CertificateOptions {
  /** PEM: authorities whose client certificates are credentials. */
  readonly clientCa: string;
  /** For the lives of certificates. */
  readonly nowMs: () => number;
}

/** The body limit is enforced with a Status in `body.ts`; Bun's own, which answers without a body, sits above it. */
const bunBodyLimitBytes = 64 * 1024 * 1024;

/** Long enough for a slow client to send a body, short enough that a dead one does not stay; watches switch it off for themselves. */
const idleSeconds = 60;

/** Serves `api` over TLS. Throws what Bun throws (EADDRINUSE) when the port cannot be bound. */
export function listenApi(api: ApiServer, at: ListenAt): ApiListener {
  const server = Bun.serve({
    hostname: at.hostname,
    port: at.port,
    tls: { cert: at.cert, key: at.key },
    maxRequestBodySize: bunBodyLimitBytes,
    idleTimeout: idleSeconds,
    fetch: (request, bun) => api.handle(request, bun),
  });
  return {
    port: server.port ?? at.port,
    async stop() {
      api.close();
      await server.stop(true);
    },
  };
}

/** The same, and client certificates are credentials beside the others. */
export async function listenWithCertificates(api: ApiServer, at: ListenAt & CertificateOptions): Promise<ApiListener> {
  const { frontLimits, openFront } = await import("./front.ts");
  const server = Bun.serve({
    hostname: "127.0.0.1",
    port: 0,
    maxRequestBodySize: bunBodyLimitBytes,
    idleTimeout: idleSeconds,
    fetch(request, bun) {
      const from = bun.requestIP(request);
      const known = from === null ? undefined : front.find(from.port);
      // Another program of this machine has found the port behind the front.
      if (known === undefined) return new Response("this port is not the API's\n", { status: 403 });
      const holder: Holder = { timeout: (each, seconds) => bun.timeout(each, seconds), requestIP: () => known.remote };
      const { certificate } = known;
      if (certificate === null) return api.handle(request, holder);
      const answer =
        certificate.notAfterMs <= at.nowMs() ? { ok: false as const, reason: "the client certificate has expired" } : certificate.answer;
      return api.handle(request, { ...holder, certificate: answer });
    },
  });
  let front: Front;
  try {
    front = openFront({ ...at, ...frontLimits, behind: server.port ?? 0 });
  } catch (cause) {
    await server.stop(true);
    throw cause;
  }
  return {
    port: front.port,
    async stop() {
      api.close();
      front.stop();
      await server.stop(true);
    },
  };
}
