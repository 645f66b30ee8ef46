// Owns: the HTTPS socket of the API server, with a front that shows client certificates where those are credentials, and the change of its certificate under
// way. Never answers anything itself, but for connections that came past the front.

import type { Clock, Timer } from "../../base/clock.ts";
import type { ApiServer, Holder } from "./deps.ts";
import type { Front } from "./front.ts";

export interface ApiListener {
  /** The port bound (the one asked for, or the free one found for 0). */
  readonly port: number;
  /**
   * New connections get this certificate from now on (PEM texts). Those that are open go on: each ends with its next answer, watches when they end. Rejects
   * where the system has no way to do so (it takes Linux); the old one is shown then.
   */
  replaceCertificate(cert: string, key: string): Promise<void>;
  /** Stops accepting, ends watches and open connections. */
  stop(): Promise<void>;
}

export interface ListenAt {
  readonly hostname: string;
  readonly port: number;
  /** PEM texts. */
  readonly cert: string;
  readonly key: string;
  readonly after: Clock["after"];
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

/** A listener whose place was taken: connections that ask nothing more have been closed as idle by then. */
const retiredMs = (idleSeconds + 5) * 1000;

type Server = Bun.Server<undefined>;

/** Serves `api` over TLS. Throws what Bun throws (EADDRINUSE) when the port cannot be bound. */
export function listenApi(api: ApiServer, at: ListenAt): ApiListener {
  let current: Server;
  const open = (port: number, cert: string, key: string, reusePort: boolean): Server =>
    Bun.serve({
      hostname: at.hostname,
      port,
      reusePort,
      tls: { cert, key },
      maxRequestBodySize: bunBodyLimitBytes,
      idleTimeout: idleSeconds,
      fetch: (request, bun) => (bun === current ? api.handle(request, bun) : lastAnswer(api.handle(request, bun))),
    });
  current = open(at.port, at.cert, at.key, false);
  const port = current.port ?? at.port;
  const places = new Places(port, at.after, (old: Server) => old.stop(false));
  return {
    port,
    replaceCertificate: (cert, key) =>
      places.take(
        () => current,
        () => {
          current = open(port, cert, key, true);
        },
      ),
    async stop() {
      api.close();
      await Promise.all([...places.end(), current].map((each) => each.stop(true)));
    },
  };
}

/** The client comes back over a new connection, to the listener that has taken the place. */
async function lastAnswer(answer: Promise<Response>): Promise<Response> {
  const response = await answer;
  response.headers.set("connection", "close");
  return response;
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
      const known = from === null ? undefined : (front.find(from.port) ?? places.find((old) => old.find(from.port)));
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
  const behind = server.port ?? 0;
  let front: Front;
  try {
    front = openFront({ ...at, ...frontLimits, behind });
  } catch (cause) {
    await server.stop(true);
    throw cause;
  }
  const { port } = front;
  const places = new Places(port, at.after, (old: Front) => old.refuse());
  return {
    port,
    replaceCertificate: (cert, key) =>
      places.take(
        () => front,
        () => {
          front = openFront({ ...at, ...frontLimits, behind, port, cert, key, reusePort: true });
        },
      ),
    async stop() {
      api.close();
      for (const each of [...places.end(), front]) each.stop();
      await server.stop(true);
    },
  };
}

/** Listeners that others have taken the place of, until the last of their connections is over. */
class Places<L> {
  readonly #port: number;
  readonly #after: Clock["after"];
  readonly #close: (old: L) => Promise<void>;
  readonly #open = new Set<L>();
  #listening: { readonly old: L; readonly timer: Timer } | undefined;
  #turn: Promise<void> = Promise.resolve();

  /** `close`: accepts no more; resolves when the last connection is over. */
  constructor(port: number, after: Clock["after"], close: (old: L) => Promise<void>) {
    this.#port = port;
    this.#after = after;
    this.#close = close;
  }

  /** One after the other. */
  take(current: () => L, open: () => void): Promise<void> {
    const turn = this.#turn.then(async () => {
      const { openBeside } = await import("./relisten.ts");
      // Two at a time: the kernel is told of them by number.
      this.#retire();
      const old = current();
      await openBeside(this.#port, open);
      this.#open.add(old);
      this.#listening = { old, timer: this.#after(retiredMs, () => this.#retire()) };
    });
    this.#turn = turn.catch(() => undefined);
    return turn;
  }

  find<V>(look: (old: L) => V | undefined): V | undefined {
    for (const each of this.#open) {
      const found = look(each);
      if (found !== undefined) return found;
    }
    return undefined;
  }

  /** Those that still have connections, for the caller to end. */
  end(): L[] {
    this.#listening?.timer.cancel();
    return [...this.#open];
  }

  #retire(): void {
    if (this.#listening === undefined) return;
    const { old, timer } = this.#listening;
    this.#listening = undefined;
    timer.cancel();
    void this.#close(old).finally(() => this.#open.delete(old));
  }
}
