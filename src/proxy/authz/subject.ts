// Owns: what a policy may look at. One object for the process, filled before each judgement; policies only read it.

import type { KnownClaims } from "../chain/jwt.ts";
import type { Head } from "../http1/head.ts";
import type { Wire } from "../net/outbox.ts";
import type { Peer } from "../tls/peer.ts";

export class Subject {
  /** null for a TCP connection: rules on HTTP fields then do not match. */
  head: Head | null = null;
  bytes: Uint8Array = new Uint8Array(0);
  /** The normalised path without its query, in `pathBytes`. */
  pathBytes: Uint8Array = this.bytes;
  pathFrom = 0;
  pathTo = 0;
  /** End of the path with its query, in the same bytes. */
  fullTo = 0;
  peer: Peer | null = null;
  /** The ends of the connection, or of the datagram. */
  wire: Pick<Wire, "remoteAddress" | "directAddress" | "remotePort" | "localAddress" | "localPort"> | null = null;
  /** Who the request's client is, where some rule asks; null: who is connected. */
  client: string | null = null;
  /** What good tokens of the request say; null: it has none, or nobody looked. */
  claims: KnownClaims | null = null;
  /** Of the listener. */
  port = 0;
}

export type Rule = (subject: Subject) => boolean;
