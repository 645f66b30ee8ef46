// Owns: one request and its answer over a fresh connection, plain or TLS, and waiting until a server answers. For checks, never for figures.
import { readFileSync } from "node:fs";
import { connect as connectPlain } from "node:net";
import { connect as connectTls, type TLSSocket } from "node:tls";
import type { Identity } from "./certs.ts";
import type { Started } from "./proc.ts";

export interface Answer {
  readonly status: number;
  readonly body: string;
  /** `TLSv1.3` and so on; null over plain text. */
  readonly tlsVersion: string | null;
}

export interface ProbeOptions {
  readonly port: number;
  readonly host: string;
  readonly path: string;
  readonly method?: string;
  readonly headers?: Readonly<Record<string, string>>;
  /** Speak TLS, presenting this certificate (null: none). */
  readonly tls?: { readonly identity: Identity | null; readonly maxVersion?: "TLSv1.2" };
  readonly timeoutMs?: number;
}

/** Resolves to null when the peer ends or refuses the connection without an answer. */
export function probe(options: ProbeOptions): Promise<Answer | null> {
  return new Promise((resolve) => {
    const headers = Object.entries(options.headers ?? {}).map(([name, value]) => `${name}: ${value}\r\n`);
    const request = `${options.method ?? "GET"} ${options.path} HTTP/1.1\r\nHost: ${options.host}\r\n${headers.join("")}Connection: close\r\n\r\n`;
    const identity = options.tls?.identity ?? null;
    const socket =
      options.tls === undefined
        ? connectPlain(options.port, "127.0.0.1")
        : connectTls({
            host: "127.0.0.1",
            port: options.port,
            rejectUnauthorized: false,
            ALPNProtocols: ["http/1.1"],
            servername: "server",
            ...(identity === null ? {} : { cert: readFileSync(identity.certFile), key: readFileSync(identity.keyFile) }),
            ...(options.tls.maxVersion === undefined ? {} : { maxVersion: options.tls.maxVersion }),
          });
    let text = "";
    let tlsVersion: string | null = null;
    const done = (): void => {
      clearTimeout(timer);
      socket.destroy();
      const head = /^HTTP\/1\.1 (\d{3})/.exec(text);
      const split = text.indexOf("\r\n\r\n");
      resolve(head === null || split === -1 ? null : { status: Number(head[1]), body: text.slice(split + 4), tlsVersion });
    };
    const timer = setTimeout(done, options.timeoutMs ?? 3000);
    socket.on(options.tls === undefined ? "connect" : "secureConnect", () => {
      if (options.tls !== undefined) tlsVersion = (socket as TLSSocket).getProtocol();
      socket.write(request);
    });
    socket.on("data", (bytes: Buffer) => {
      text += bytes.toString("latin1");
      if (complete(text)) done();
    });
    socket.on("end", done);
    socket.on("close", done);
    socket.on("error", done);
  });
}

/** The whole body is there, going by Content-Length; anything else ends with its connection. */
function complete(text: string): boolean {
  const split = text.indexOf("\r\n\r\n");
  if (split === -1) return false;
  const length = /\r\ncontent-length: *(\d+)/i.exec(text.slice(0, split))?.[1];
  return length !== undefined && text.length - split - 4 >= Number(length);
}

/** Polls until `options` is answered with 200; returns the milliseconds since `sinceMs` (performance.now()). Throws if the server ends or stays silent. */
export async function untilAnswering(started: Started, options: ProbeOptions, sinceMs: number, limitMs = 15_000): Promise<number> {
  for (;;) {
    const answer = await probe({ ...options, timeoutMs: 1000 });
    const waitedMs = performance.now() - sinceMs;
    if (answer?.status === 200) return waitedMs;
    if (!started.alive()) throw new Error(`${started.name} ended before it answered:\n${started.output()}`);
    if (waitedMs > limitMs) {
      const last = answer === null ? "no answer" : `status ${answer.status}: ${answer.body.slice(0, 300)}`;
      throw new Error(`${started.name} did not answer 200 within ${limitMs} ms (last: ${last}):\n${started.output()}`);
    }
    await Bun.sleep(2); // each question costs the subject some 0.3 ms of the very time that is measured
  }
}
