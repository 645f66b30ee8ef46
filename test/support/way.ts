// Owns: the ways a request takes in the judges' tests: through one sidecar, or through a pair with mutual TLS between them. Ends what it started.

import { authority, leaf } from "../../src/proxy/testing/pki.ts";
import { bootstrapText, type ClusterSpec, type JsonObject, type KeyPair, type ListenerTls } from "./bootstrap.ts";
import { judged, ProxyProcess, type StartOptions, type Subject } from "./proxy.ts";

export type Shape = "one" | "pair";
export const shapes: readonly Shape[] = ["one", "pair"];

const clientId = "spiffe://cluster.local/ns/shop/sa/client";
const serverId = "spiffe://cluster.local/ns/shop/sa/server";

export interface WayOptions extends StartOptions {
  readonly shape: Shape;
  /** The application's port. */
  readonly origin: number;
  /** What the application speaks. Default HTTP/1.1. */
  readonly originHttp2?: boolean;
  /** What goes between the two of a pair. Default HTTP/2. */
  readonly middle?: "http1" | "http2";
  /** TLS at the entry. Default plain. */
  readonly entryTls?: ListenerTls;
  /** Fields of every connection manager on the way. */
  readonly manager?: JsonObject;
  /** HTTP filters of the last proxy. */
  readonly filters?: readonly JsonObject[];
  /** Routes of the last proxy. */
  readonly routes?: readonly JsonObject[];
  /** Clusters of the last proxy beside `origin`. */
  readonly clusters?: readonly ClusterSpec[];
  /** Fields of cluster `origin`. */
  readonly cluster?: JsonObject;
  /** Default: whoever is judged, on both sides. */
  readonly outbound?: Subject;
  readonly inbound?: Subject;
}

export interface Way {
  /** Where to call. */
  readonly port: number;
  /** The one that takes the call first. */
  readonly entry: ProxyProcess;
  /** The one before the application; the same in a way of one. */
  readonly exit: ProxyProcess;
  readonly proxies: readonly ProxyProcess[];
  stop(): Promise<void>;
}

let mesh: Promise<{ roots: string; client: KeyPair; server: KeyPair }> | undefined;

/** The certificates of the two sidecars, made once a process. */
export function meshIdentities(): NonNullable<typeof mesh> {
  mesh ??= (async () => {
    const ca = await authority("mesh");
    return { roots: ca.pem, client: await leaf(ca, [clientId]), server: await leaf(ca, [serverId]) };
  })();
  return mesh;
}

/** What Envoy leaves off unless asked and Weft always does: trailers of HTTP/1.1, extended CONNECT. */
const usual: Readonly<Record<Subject, JsonObject>> = {
  weft: {},
  envoy: { http_protocol_options: { enable_trailers: true }, http2_protocol_options: { allow_connect: true } },
};

/** A cluster's protocol, with what `usual` says for listeners. */
function spoken(subject: Subject | undefined, http2: boolean): Pick<ClusterSpec, "http2" | "protocol"> {
  if ((subject ?? judged) === "weft") return { http2 };
  return { http2, protocol: http2 ? { allow_connect: true } : { enable_trailers: true } };
}

/** Starts the proxies of a way, the one before the application first. */
export async function openWay(options: WayOptions): Promise<Way> {
  const { shape, origin, originHttp2 = false, middle = "http2", entryTls, manager = {}, filters = [], cluster = {} } = options;
  const { roots, client, server } = await meshIdentities();
  const last = {
    name: "entry",
    direction: "INBOUND" as const,
    manager: { ...usual[options.inbound ?? judged], ...manager },
    filters,
    ...(options.routes === undefined ? {} : { routes: options.routes }),
  };
  const clusters = [{ name: "origin", port: origin, ...spoken(options.inbound, originHttp2), more: cluster }, ...(options.clusters ?? [])];
  const start = (subject: Subject | undefined, text: string): Promise<ProxyProcess> =>
    ProxyProcess.start(subject ?? judged, text, options.drainSeconds === undefined ? {} : { drainSeconds: options.drainSeconds });
  const entry = (tls: ListenerTls | undefined) => (tls === undefined ? {} : { tls });
  if (shape === "one") {
    const proxy = await start(options.inbound, bootstrapText("one", [{ ...last, ...entry(entryTls) }], clusters));
    return { port: proxy.port("entry"), entry: proxy, exit: proxy, proxies: [proxy], stop: async () => void (await proxy.stop()) };
  }
  const mutual: ListenerTls = { kind: "mutual", own: server, alpn: middle === "http2" ? ["h2", "http/1.1"] : ["http/1.1"], roots };
  const inbound = await start(options.inbound, bootstrapText("inbound", [{ ...last, name: "inbound", tls: mutual }], clusters));
  const toInbound: ClusterSpec = {
    name: "origin",
    port: inbound.port("inbound"),
    ...spoken(options.outbound, middle === "http2"),
    tls: { own: client, roots, serverId },
  };
  const first = {
    name: "entry",
    direction: "OUTBOUND" as const,
    manager: { ...usual[options.outbound ?? judged], ...manager },
    ...entry(entryTls),
  };
  const stopInbound = async (): Promise<void> => void (await inbound.stop());
  const outbound = await start(options.outbound, bootstrapText("outbound", [first], [toInbound])).catch(async (error: unknown) => {
    await stopInbound();
    throw error;
  });
  const stop = async (): Promise<void> => {
    await outbound.stop();
    await stopInbound();
  };
  return { port: outbound.port("entry"), entry: outbound, exit: inbound, proxies: [outbound, inbound], stop };
}
