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
  /** Of a pair: the port of the middle hop, where B listens for mutual TLS. */
  readonly middlePort?: number;
  /** The subject checks names (SPIFFE IDs) of the peer's certificate in A, not only its chain. */
  readonly checksServerName?: boolean;
  /** What it does differently from the others, printed under the table. */
  readonly note?: string;
}

/** What every configuration is told. */
export const HOST = "shop.example";
/** Measured. */
export const LOAD_PATH = "/api/items/42";
/** The origin answers with the head it was sent. */
export const ECHO_PATH = "/api/echo";
/** Forbidden by policy to everybody. */
export const FORBIDDEN_PATH = "/api/admin/keys";
