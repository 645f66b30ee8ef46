// Owns: the HTTPS socket of the API server. Never answers anything itself.

import type { ApiServer } from "./deps.ts";

export interface ApiListener {
  /** The port bound (the one asked for, or the free one found for 0). */
  readonly port: number;
  /** Stops accepting, ends watches and open connections. */
  stop(): Promise<void>;
}

/** The body limit is enforced with a Status in `body.ts`; Bun's own, which answers without a body, sits above it. */
const bunBodyLimitBytes = 64 * 1024 * 1024;

/** Serves `api` over TLS. Throws what Bun throws (EADDRINUSE) when the port cannot be bound. PEM texts. */
export function listenApi(
  api: ApiServer,
  at: { readonly hostname: string; readonly port: number; readonly cert: string; readonly key: string },
): ApiListener {
  const server = Bun.serve({
    hostname: at.hostname,
    port: at.port,
    tls: { cert: at.cert, key: at.key },
    maxRequestBodySize: bunBodyLimitBytes,
    // Long enough for a slow client to send a body, short enough that a dead one does not stay; watches switch it off for themselves.
    idleTimeout: 60,
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
