// Owns: the comparison of our proxy and Envoy under one configuration that our own compiler made: objects to a bootstrap, both processes, instances that
// tell what reached them and fail as they are told to, and each request sent to both. What is asked stands in alike*.test.ts, what may differ in `differences`.

import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import { parseAllDocuments } from "yaml";
import { kindOf } from "../../src/api/kinds.ts";
import type { KubeObject } from "../../src/api/meta.ts";
import { buildWorld, compileAll } from "../../src/compile/compile.ts";
import { snapshotToJson } from "../../src/compile/decode.ts";
import { ProxyProcess } from "../support/proxy.ts";

type Json = Record<string, unknown>;

export interface Ask {
  readonly method: string;
  readonly host: string;
  readonly path: string;
  readonly headers: Readonly<Record<string, string>>;
  /** What the instances do with one attempt after the other: a status, `reset`, `close`, `slow`; the last holds on. Nothing = they answer 200. */
  readonly does?: readonly (number | "reset" | "close" | "slow")[];
  /** The body of the answer is compared as it is: the proxy makes it by its configuration. */
  readonly text?: true;
  /** The answer comes this late, and not two seconds later. */
  readonly leastMs?: number;
  readonly sends?: string;
}

/** What the client saw, and in its body what the instance saw. */
export interface Seen {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: unknown;
  /** How often an instance was asked; 0 = never. */
  readonly attempts: number;
  readonly late: boolean;
}

/** What differs, and why that is right: it leaves out of both answers what it speaks of, and nothing else. */
export interface Difference {
  readonly why: string;
  readonly without: (seen: Seen, ask: Ask) => Seen;
}

/** What is different of every request. */
export const everywhere: readonly Difference[] = [
  {
    why: "Envoy tells instances x-forwarded-proto and, where there is a retry policy, how long they may take (x-envoy-expected-rq-timeout-ms); we tell a deadline to gRPC services only",
    without: (seen) => withoutSeen(seen, (name) => name === "x-forwarded-proto" || name === "x-envoy-expected-rq-timeout-ms"),
  },
  {
    why: "Envoy tells instances the host or path before a rewrite in headers of its own; neither Gateway API nor Istio asks for it",
    without: (seen) => withoutSeen(seen, (name) => name === "x-envoy-original-host" || name === "x-envoy-original-path"),
  },
  {
    why: "at a gateway Envoy tells whether a client's address is of a private network, once more beside x-forwarded-for, in headers of its own; we do not",
    without: (seen) => withoutSeen(seen, (name) => name === "x-envoy-external-address" || name === "x-envoy-internal"),
  },
  {
    why: "of another attempt we tell the instance by x-envoy-attempt-count, so that it does not multiply it; Envoy only where a route asks for it",
    without: (seen) => withoutSeen(seen, (name) => name === "x-envoy-attempt-count"),
  },
];

/** What is different of CORS. */
export const ofCors: readonly Difference[] = [
  {
    why: "we say vary: origin where the answer depends on it, as the Fetch standard asks of servers for the sake of caches; Envoy does not",
    without: (seen) => ({ ...seen, headers: omit(seen.headers, ["vary"]) }),
  },
  {
    why: "Envoy says access-control-expose-headers in preflights too; the Fetch standard reads it in the answer proper only",
    without: (seen, ask) => (ask.method === "OPTIONS" ? { ...seen, headers: omit(seen.headers, ["access-control-expose-headers"]) } : seen),
  },
  {
    why: "to a preflight of an origin that may not, Envoy says methods and headers without the origin, which allows nothing; we say nothing",
    without: (seen, ask) => {
      if (ask.method !== "OPTIONS" || seen.headers["access-control-allow-origin"] !== undefined) return seen;
      const names = Object.keys(seen.headers).filter((name) => name.startsWith("access-control-"));
      return { ...seen, headers: omit(seen.headers, names) };
    },
  },
];

/** Headers of answers that routes are about. */
const compared =
  /^(location|x-answer|x-instance|x-more|access-control-.*|allow|vary|set-cookie|retry-after|www-authenticate|grpc-status|grpc-message)$/;
/** What tells instances of the way, compared by presence alone. */
const marks =
  /^(x-request-id|x-forwarded-for|x-forwarded-proto|x-envoy-attempt-count|x-envoy-expected-rq-timeout-ms|x-envoy-original-path|traceparent|forwarded|via|te)$/;
/** Of the test itself. */
const own = /^x-(key|does)$/;

const slowMs = 4_000;

export class Alike {
  readonly #weft: ProxyProcess;
  readonly #envoy: ProxyProcess;
  readonly #instances: Instances;
  #next = 0;

  private constructor(weft: ProxyProcess, envoy: ProxyProcess, instances: Instances) {
    this.#weft = weft;
    this.#envoy = envoy;
    this.#instances = instances;
  }

  /** `services`: names of instances to start; `objects` gets their ports, and a port where nobody listens as `dead`. `who`: whose snapshot, `NS/NAME`; of several each listener is called `NS/NAME LISTENER`. */
  static async start(
    services: readonly string[],
    objects: (ports: Readonly<Record<string, number>>) => string,
    who: string | readonly string[],
  ): Promise<Alike> {
    const instances = await Instances.start(services);
    const bootstrap = bootstrapOf(objects(instances.ports), who);
    const [weft, envoy] = await Promise.all([ProxyProcess.start("weft", bootstrap), ProxyProcess.start("envoy", bootstrap)]);
    return new Alike(weft, envoy, instances);
  }

  async stop(): Promise<void> {
    await Promise.all([this.#weft.stop(), this.#envoy.stop(), this.#instances.stop()]);
  }

  /** One request to both. */
  async both(listener: string, ask: Ask): Promise<readonly [ours: Seen, theirs: Seen]> {
    const one = (proxy: ProxyProcess): Promise<Seen> => this.#one(proxy.port(listener), ask);
    return await Promise.all([one(this.#weft), one(this.#envoy)]);
  }

  /** All of them, several at a time. */
  async all(listener: string, asks: readonly Ask[], atOnce = 12): Promise<(readonly [ours: Seen, theirs: Seen])[]> {
    const found: (readonly [Seen, Seen])[] = [];
    let next = 0;
    const lane = async (): Promise<void> => {
      for (let at = next++; at < asks.length; at = next++) found[at] = await this.both(listener, asks[at] as Ask);
    };
    await Promise.all(Array.from({ length: atOnce }, lane));
    return found;
  }

  async #one(port: number, ask: Ask): Promise<Seen> {
    const key = `k${this.#next++}`;
    const began = performance.now();
    const answer = await send(port, ask, key);
    const late = ask.leastMs !== undefined && performance.now() - began >= ask.leastMs && performance.now() - began < ask.leastMs + 2_000;
    return { ...answer, attempts: this.#instances.attempts(key), late };
  }
}

export function told(seen: Seen, ask: Ask, differences: readonly Difference[]): Seen {
  return [...everywhere, ...differences].reduce((left, { without }) => without(left, ask), seen);
}

export function words(ask: Ask): string {
  const does = ask.does === undefined ? "" : ` ${ask.does.join(",")}`;
  return `${ask.method} ${ask.host}${ask.path} ${JSON.stringify(ask.headers)}${does}`;
}

export function omit(headers: Seen["headers"], names: readonly string[]): Seen["headers"] {
  return Object.fromEntries(Object.entries(headers).filter(([name]) => !names.includes(name)));
}

/** Leaves headers that the instance saw out of the comparison. */
export function withoutSeen(seen: Seen, leaves: (name: string) => boolean): Seen {
  const body = seen.body as { headers?: [string, string][] } | null;
  if (body?.headers === undefined) return seen;
  return { ...seen, body: { ...body, headers: body.headers.filter(([name]) => !leaves(name)) } };
}

/** Sends exactly this request line and Host; `fetch` would rewrite both. Ends with the answer: Envoy holds a closed connection open for a second more. */
async function send(port: number, ask: Ask, key: string): Promise<Omit<Seen, "attempts" | "late">> {
  const body = ask.sends ?? "";
  const lines = [
    `${ask.method} ${ask.path} HTTP/1.1`,
    `Host: ${ask.host}`,
    `x-key: ${key}`,
    ...(ask.does === undefined ? [] : [`x-does: ${ask.does.join(",")}`]),
    ...Object.entries(ask.headers).map(([name, value]) => `${name}: ${value}`),
  ];
  if (body !== "" || ask.method === "POST" || ask.method === "PUT") lines.push(`Content-Length: ${body.length}`);
  const { promise, resolve } = Promise.withResolvers<string>();
  let text = "";
  const socket = await Bun.connect({
    hostname: "127.0.0.1",
    port,
    socket: {
      open: (opened) => void opened.write(`${lines.join("\r\n")}\r\n\r\n${body}`),
      data: (_socket, bytes) => {
        text += bytes.toString("latin1");
        if (complete(text, ask.method)) resolve(text);
      },
      close: () => resolve(text),
      error: () => resolve(text),
    },
  });
  const late = setTimeout(() => resolve(text), 15_000);
  const answer = await promise;
  clearTimeout(late);
  socket.terminate();
  const end = answer.indexOf("\r\n\r\n");
  const [first = "", ...fields] = answer.slice(0, end).split("\r\n");
  const status = Number(first.split(" ")[1] ?? 0);
  const headers = fields.map((line) => [line.slice(0, line.indexOf(":")).toLowerCase(), line.slice(line.indexOf(":") + 1).trim()] as const);
  const rest = answer.slice(end + 4);
  const json = /^\{.*\}$/s.exec(rest)?.[0];
  return {
    status,
    headers: Object.fromEntries(headers.filter(([name]) => compared.test(name)).sort()),
    body: json !== undefined ? JSON.parse(json) : ask.text === true && status !== 204 ? rest : null,
  };
}

function complete(text: string, method: string): boolean {
  const end = text.indexOf("\r\n\r\n");
  if (end < 0) return false;
  const status = Number(text.slice(9, 12));
  if (method === "HEAD" || status === 204 || status === 304) return true;
  const length = /\r\ncontent-length: *(\d+)/i.exec(text.slice(0, end + 2))?.[1];
  if (length !== undefined) return text.length - end - 4 >= Number(length);
  return /\r\ntransfer-encoding: *chunked/i.test(text.slice(0, end + 2)) && text.endsWith("\r\n0\r\n\r\n");
}

/** HTTP servers that say what reached them, and do as they are told. */
class Instances {
  readonly ports: Readonly<Record<string, number>>;
  readonly #servers: readonly Server[];
  readonly #counts: Map<string, number>;

  private constructor(ports: Readonly<Record<string, number>>, servers: readonly Server[], counts: Map<string, number>) {
    this.ports = ports;
    this.#servers = servers;
    this.#counts = counts;
  }

  static async start(names: readonly string[]): Promise<Instances> {
    const counts = new Map<string, number>();
    const ports: Record<string, number> = {};
    const servers = await Promise.all(
      [...names, "dead"].map(async (name) => {
        const server = createServer((request, response) => serve(name, counts, request, response));
        await new Promise<void>((ready) => server.listen(0, "127.0.0.1", ready));
        ports[name] = (server.address() as { port: number }).port;
        return server;
      }),
    );
    // Its port stays known and nobody listens there.
    const dead = servers.pop() as Server;
    await new Promise((done) => dead.close(done));
    return new Instances(ports, servers, counts);
  }

  attempts(key: string): number {
    return this.#counts.get(key) ?? 0;
  }

  async stop(): Promise<void> {
    await Promise.all(
      this.#servers.map((server) => {
        server.closeAllConnections();
        return new Promise((done) => server.close(done));
      }),
    );
  }
}

function serve(instance: string, counts: Map<string, number>, request: IncomingMessage, response: ServerResponse): void {
  const key = String(request.headers["x-key"] ?? "");
  const count = counts.get(key) ?? 0;
  counts.set(key, count + 1);
  const does = String(request.headers["x-does"] ?? "200").split(",");
  const act = does[Math.min(count, does.length - 1)] ?? "200";
  if (act === "reset") {
    request.socket.resetAndDestroy();
    return;
  }
  if (act === "close") {
    request.socket.destroy();
    return;
  }
  let body = "";
  request.on("data", (bytes: Buffer) => {
    body += bytes.toString("latin1");
  });
  request.on("end", () => {
    const headers = Object.entries(request.headers)
      .filter(
        ([name]) =>
          name === "host" ||
          name === "authorization" ||
          name === "cookie" ||
          (name.startsWith("x-") && !own.test(name)) ||
          marks.test(name),
      )
      .map(([name, value]) => [name, marks.test(name) ? "there" : String(value)])
      .sort();
    // A sick one fails whatever it is asked.
    const status = instance.startsWith("sick") ? 500 : act === "slow" ? 200 : Number(act);
    const text = JSON.stringify({ instance, method: request.method, path: request.url, headers, ...(body === "" ? {} : { body }) });
    const answer = (): void => {
      response.writeHead(status, {
        "x-instance": instance,
        "x-more": "1",
        "content-type": "application/json",
        "content-length": text.length,
      });
      response.end(request.method === "HEAD" ? undefined : text);
    };
    if (act === "slow") setTimeout(answer, slowMs);
    else answer();
  });
}

function bootstrapOf(objects: string, who: string | readonly string[]): string {
  const list = parseAllDocuments(objects).flatMap((document) => (document.toJS() as KubeObject | null) ?? []);
  for (const object of list) {
    const kind = kindOf(object);
    if (kind === undefined) throw new Error(`there is no kind ${object.kind}`);
    kind.applyDefaults(object);
    const wrong = kind.validate(object);
    if (wrong.length > 0) throw new Error(`${object.kind} ${object.metadata.name}: ${JSON.stringify(wrong)}`);
  }
  const { snapshots } = compileAll(buildWorld(list, "cluster.local"));
  const listeners: Json[] = [];
  const clusters = new Map<string, Json>();
  for (const key of typeof who === "string" ? [who] : who) {
    const snapshot = snapshots.get(key);
    if (snapshot === undefined) throw new Error(`${key} has no snapshot`);
    const json = snapshotToJson(snapshot);
    for (const cluster of Object.values(json.cluster) as Json[]) {
      const { eds_cluster_config: eds, transport_socket_matches: _sockets, ...rest } = cluster;
      const name = String(rest.name);
      clusters.set(name, eds === undefined ? rest : { ...rest, type: "STATIC", load_assignment: json.endpoint[name] });
    }
    for (const listener of Object.values(json.listener) as Json[]) {
      const whole = inlined(listener, json.route) as Json;
      listeners.push(typeof who === "string" ? whole : { ...whole, name: `${key} ${String(whole.name)}` });
    }
  }
  return JSON.stringify({
    node: { id: "alike", cluster: "alike" },
    admin: { address: { socket_address: { address: "127.0.0.1", port_value: 0 } } },
    static_resources: { listeners, clusters: [...clusters.values()] },
  });
}

/** Routes within their listeners, any free port, and no access logs. */
function inlined(value: unknown, routes: Readonly<Record<string, unknown>>): unknown {
  if (Array.isArray(value)) return value.map((each) => inlined(each, routes));
  if (typeof value !== "object" || value === null) return value;
  const out: Json = {};
  for (const [key, child] of Object.entries(value)) {
    if (key === "access_log") continue;
    if (key === "rds")
      out.route_config = { ...(routes[(child as { route_config_name: string }).route_config_name] as Json), validate_clusters: false };
    else if (key === "port_value") out[key] = 0;
    else out[key] = inlined(child, routes);
  }
  return out;
}
