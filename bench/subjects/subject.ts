// Owns: the word "subject": one way to run one or two proxies that do the work of a case. The configuration makers beside it fill it in.

/** One proxy process of a subject. */
export interface ProxyCommand {
  /** `proxy`, or `a` and `b` of a pair. */
  readonly side: string;
  readonly command: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
}

export interface Subject {
  readonly name: string;
  readonly version: string;
  /** In starting order: the one nearer to the origin first. */
  readonly proxies: readonly ProxyCommand[];
  /** Where plain HTTP/1.1 requests go in. */
  readonly port: number;
  /** Of a front: its other listeners. */
  readonly front?: FrontListeners;
  /** Of a pair: a second A, listening on `port`, whose way to B leads to `relayPort`, where records are counted. */
  readonly tap?: { readonly port: number; readonly relayPort: number; readonly command: readonly string[] };
  /** It may be unable to start without failing the run: a second way of a subject that is there in another way as well. */
  readonly optional?: boolean;
  /** Of a pair: the port of the middle hop, where B listens for mutual TLS. */
  readonly middlePort?: number;
  /** The subject checks names (SPIFFE IDs) of the peer's certificate in A, not only its chain. */
  readonly checksServerName?: boolean;
  /** Most connections it is configured for, where that is fewer than a case holds. */
  readonly mostConnections?: number;
  /** What it does differently from the others, printed under the table. */
  readonly note?: string;
}

/** The listeners of a front, each with the same routes and policies behind it (the opaque one with an address policy). */
export interface FrontListeners {
  /** Plain text HTTP/2 with prior knowledge: the plain port, but for nginx. */
  readonly http2: number;
  /** TLS 1.3 without client certificates, ALPN. */
  readonly tls: number;
  /** TLS 1.3 with client certificates, ALPN. */
  readonly mutual: number;
  /** Opaque TCP to the HTTP/1.1 origin; null where the subject has none. */
  readonly tcp: number | null;
}

/** What every configuration is told. */
export const HOST = "shop.example";
/** Measured. */
export const LOAD_PATH = "/api/items/42";
/** The origin answers with the head it was sent. */
export const ECHO_PATH = "/api/echo";
/** Forbidden by policy to everybody. */
export const FORBIDDEN_PATH = "/api/admin/keys";
/** Fronts: the same answers from the origin over HTTP/2. */
export const OVER_HTTP2 = "/api/two";
/** Fronts: a body of this name ("64k", "1m", "1g"). */
export const bodyPath = (size: string): string => `/api/body/${size}`;
/** Fronts: a unary gRPC method at an origin of its own. nghttpd knows the type of an answer by the end of its name. */
export const GRPC_PATH = "/bench.Echo/Say.grpc";
