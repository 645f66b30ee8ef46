// Owns: a tiny HTTP/1.1 server for the admin address: one request a connection, no bodies. Why not Bun.serve: it costs private memory that an idle
// sidecar should not pay for a page that is read now and then. Never serves traffic.

import type { HostPort } from "../config.ts";

export interface AdminRequest {
  readonly method: string;
  /** Without the query. */
  readonly path: string;
  readonly query: ReadonlyMap<string, string>;
}

export interface AdminAnswer {
  readonly status: number;
  readonly contentType: string;
  readonly body: string;
  readonly headers?: Readonly<Record<string, string>>;
}

export interface AdminListener {
  readonly address: HostPort;
  /** Of the listening socket; it stays the listener's. */
  readonly fd: number;
  /** Listens no more; answers under way are finished. */
  release(): void;
  close(): void;
}

/** Now, or once others have been asked. */
export type AdminReply = AdminAnswer | Promise<AdminAnswer>;

const maxHeadBytes = 8192;
const maxConnections = 64;
/** A client that says nothing is closed after this many seconds. */
const idleSeconds = 10;

interface Conversation {
  head: string;
  out: Uint8Array | null;
  sent: number;
  answered: boolean;
}

/** Listens at once; throws if the address is taken. `adopted`: a socket that listens there already, which is then the listener's. */
export function serveAdmin(
  address: HostPort,
  answer: (request: AdminRequest) => AdminReply,
  adopted?: { readonly fd: number; readonly port: number },
): AdminListener {
  let open = 0;
  const where = adopted === undefined ? { hostname: address.host, port: address.port } : { fd: adopted.fd };
  const server = Bun.listen<Conversation>({
    ...(where as { hostname: string; port: number }),
    socket: {
      open(socket) {
        socket.data = { head: "", out: null, sent: 0, answered: false };
        socket.timeout(idleSeconds);
        if (++open > maxConnections) socket.end();
      },
      data(socket, bytes) {
        const talk = socket.data;
        if (talk.answered) return;
        talk.head += Buffer.from(bytes).toString("latin1");
        const end = talk.head.indexOf("\r\n\r\n");
        if (end < 0 && talk.head.length <= maxHeadBytes) return;
        talk.answered = true;
        const out = end < 0 ? encode(plain(431, "The request head is too large."), false) : respond(talk.head.slice(0, end), answer);
        const give = (bytes: Uint8Array): void => {
          talk.out = bytes;
          send(socket);
        };
        if (out instanceof Promise) out.then(give, () => socket.terminate());
        else give(out);
      },
      drain: send,
      timeout(socket) {
        socket.terminate();
      },
      close() {
        open--;
      },
      error() {},
    },
  });
  const fd = (server as unknown as { readonly fd: number }).fd;
  const port = adopted?.port ?? server.port;
  return { address: { host: address.host, port }, fd, release: () => server.stop(false), close: () => server.stop(true) };
}

export function plain(status: number, text: string): AdminAnswer {
  return { status, contentType: "text/plain; charset=utf-8", body: text.endsWith("\n") ? text : `${text}\n` };
}

export function json(status: number, value: unknown): AdminAnswer {
  return { status, contentType: "application/json", body: `${JSON.stringify(value, null, 1)}\n` };
}

function send(socket: Bun.Socket<Conversation>): void {
  const talk = socket.data;
  if (talk.out === null) return;
  talk.sent += Math.max(0, socket.write(talk.out.subarray(talk.sent)));
  if (talk.sent < talk.out.length) return;
  talk.out = null;
  socket.end();
}

function respond(head: string, answer: (request: AdminRequest) => AdminReply): Uint8Array | Promise<Uint8Array> {
  const lines = head.split("\r\n");
  const [method = "", target = "", version = ""] = (lines[0] as string).split(" ");
  if (!version.startsWith("HTTP/1.") || !target.startsWith("/")) return encode(plain(400, "This is not an HTTP/1.1 request."), false);
  const hosts = lines.slice(1).filter((line) => /^host:/i.test(line));
  if (hosts.length > 1) return encode(plain(400, "More than one Host header."), false);
  // Browsers attach these to requests made by pages of other origins: such a page must not be able to stop a proxy.
  const fetchSite = lines.find((line) => /^sec-fetch-site:/i.test(line));
  if (method !== "GET" && fetchSite !== undefined && !/:\s*(same-origin|none)\s*$/i.test(fetchSite)) {
    return encode(plain(403, "Requests from other sites are refused."), false);
  }
  const mark = target.indexOf("?");
  const path = mark < 0 ? target : target.slice(0, mark);
  const query = new Map<string, string>();
  for (const pair of mark < 0 ? [] : target.slice(mark + 1).split("&")) {
    const equals = pair.indexOf("=");
    query.set(equals < 0 ? pair : pair.slice(0, equals), equals < 0 ? "" : pair.slice(equals + 1));
  }
  const headOnly = method === "HEAD";
  const made = answer({ method: headOnly ? "GET" : method, path, query });
  return made instanceof Promise ? made.then((later) => encode(later, headOnly)) : encode(made, headOnly);
}

const reasons: Readonly<Record<number, string>> = {
  200: "OK",
  400: "Bad Request",
  403: "Forbidden",
  404: "Not Found",
  405: "Method Not Allowed",
  431: "Request Header Fields Too Large",
  500: "Internal Server Error",
  503: "Service Unavailable",
};

function encode(answer: AdminAnswer, headOnly: boolean): Uint8Array {
  const body = Buffer.from(answer.body);
  let head = `HTTP/1.1 ${answer.status} ${reasons[answer.status] ?? "Unknown"}\r\ncontent-type: ${answer.contentType}\r\ncontent-length: ${body.length}\r\n`;
  head += "cache-control: no-cache\r\nx-content-type-options: nosniff\r\nconnection: close\r\n";
  for (const [name, value] of Object.entries(answer.headers ?? {})) head += `${name}: ${value}\r\n`;
  const start = Buffer.from(`${head}\r\n`, "latin1");
  return headOnly ? start : Buffer.concat([start, body]);
}
