// Owns: one accepted connection from its first moment until a protocol takes it. It is raw until its chain is known; the stages stand in `#advance`, in
// order, and each runs only where the listener asks for it. TLS then starts on the accepted socket with the certificates of that moment, so that a
// rotated certificate serves the next connection. Nothing here outlives the handing over: an established connection keeps none of it.
// States: looking -> upgrading -> handshake -> first bytes -> over; any of them -> over.

import type { ChainSlot } from "../chain/chain.ts";
import type { Chains, ConnectionFacts } from "../chain/select.ts";
import type { HostPort } from "../config.ts";
import type { Timed } from "../resilience/ticker.ts";
import type { Core, Downstream } from "../runtime/core.ts";
import { isTransportError, judgePeer, type Peer, type TlsFacts } from "../tls/peer.ts";
import { refuse, refuseBroken } from "../tls/refusal.ts";
import { readdress } from "./address.ts";
import { ClientHello, helloFault, parseClientHello, startsTls } from "./client-hello.ts";
import { type Established, establish, firstBytesDeadline, isHttp2, needsFirstBytes } from "./establish.ts";
import { firstBytes, http2Preface, inspectHttp, matchPreface } from "./http-preface.ts";
import { netLimits } from "./limits.ts";
import { originalDestination } from "./original-dst.ts";
import { closeGently, type Wire } from "./outbox.ts";
import { explainProxyFault, ProxyHeader, parseProxyHeader, proxyFault } from "./proxy-protocol.ts";

/** Where a connection came in. Its chains may be replaced at any time. */
export interface AcceptedBy {
  readonly core: Core;
  readonly name: string;
  readonly chains: Chains;
}

export type AcceptedSocket = Wire &
  TlsFacts & { data: unknown; readonly fd: number; upgradeTLS(options: unknown): [{ data: unknown }, AcceptedSocket] };

const state = { looking: 0, upgrading: 1, handshake: 2, firstBytes: 3, over: 4 } as const;

const none: readonly string[] = [];

/** Reused: looking and choosing never wait. */
const facts: ConnectionFacts = { destinationPort: 0, destination: "", source: "", sourcePort: 0, serverName: "", tls: false, alpn: none };
const hello = new ClientHello();
const header = new ProxyHeader();

/** What the raw socket of an upgraded connection points at: it goes on hearing of ciphertext and of its end, which are the secure socket's business. */
export const spent = { received() {}, drained() {}, ended() {}, lost() {}, destroy() {} };

export class Accepted implements Timed, Downstream {
  readonly #listener: AcceptedBy;
  deadlineMs: number;
  slot = -1;
  #state: number = state.looking;
  #wire: AcceptedSocket | null;
  #chain: ChainSlot | null = null;
  #peer: Peer | null = null;
  #alpn = "";
  /** For the log: a socket whose handshake failed does not know it any more. */
  #from = "";
  /** Bytes that were read and are nobody's yet. */
  #held: Uint8Array | null = null;
  /** The PROXY header is off. */
  #headed = false;
  /** Ends that a PROXY header or a redirection told of; null: the socket's own. */
  #remote: HostPort | null = null;
  #local: HostPort | null = null;

  constructor(listener: AcceptedBy, wire: AcceptedSocket, nowMs: number) {
    this.#listener = listener;
    this.#wire = wire;
    this.deadlineMs = nowMs + netLimits.handshakeMs;
  }

  /** The socket is open. A listener without questions chooses at once and pays nothing more. */
  open(socket: AcceptedSocket): void {
    const chains = this.#listener.chains;
    if (!chains.sniff && !chains.before.originalDestination && chains.only !== null) {
      this.#take(socket, chains.only);
      return;
    }
    const { timeoutMs } = chains.before;
    if (chains.sniff) this.#register(timeoutMs === 0 ? Number.POSITIVE_INFINITY : this.core.ticker.nowMs + timeoutMs);
    if (chains.before.originalDestination) this.#askDestination(socket);
    this.#advance(false);
  }

  #register(deadlineMs: number): void {
    this.deadlineMs = deadlineMs;
    if (this.slot >= 0) return;
    this.core.ticker.add(this);
    this.core.open.add(this);
  }

  // ---- looking: the stages before the chain -----------------------------------------------------------------------------

  /** Goes as far as the bytes that have come allow. `final`: no more will, decide on what is known. */
  #advance(final: boolean): void {
    const socket = this.#wire;
    const chains = this.#listener.chains;
    if (socket === null) return;
    if (chains.before.proxyProtocol !== null && !this.#headed && !this.#readProxyHeader(socket, chains, final)) return;
    facts.serverName = "";
    facts.tls = false;
    facts.alpn = none;
    if (chains.needs.transport && !this.#lookForTls(chains, final)) return;
    if (chains.needs.http && !facts.tls && !this.#lookForHttp(final)) return;
    facts.destination = socket.localAddress;
    facts.destinationPort = socket.localPort;
    facts.source = socket.remoteAddress;
    facts.sourcePort = socket.remotePort;
    const chain = chains.select(facts);
    if (chain === null)
      this.#drop(facts.serverName === "" ? "no filter chain matches it" : `no filter chain matches the server name ${facts.serverName}`);
    else this.#take(socket, chain);
  }

  /** False: it waits, or has ended. */
  #readProxyHeader(socket: AcceptedSocket, chains: Chains, final: boolean): boolean {
    const rules = chains.before.proxyProtocol as NonNullable<Chains["before"]["proxyProtocol"]>;
    const held = this.#held;
    const used = held === null ? 0 : parseProxyHeader(held, 0, held.length, header);
    // A version that is not read counts as none: with `allowAbsent` its bytes are the application's.
    const absent = used === proxyFault.absent || (used !== 0 && !rules.versions.includes(header.version as 1 | 2));
    if (used === 0 || absent) {
      if (!final && used === 0) return false;
      if (!rules.allowAbsent) {
        this.#drop(used === 0 ? "its PROXY protocol header did not come" : explainProxyFault(proxyFault.absent));
        return false;
      }
      this.#headed = true;
      return true;
    }
    if (used < 0) {
      this.#drop(explainProxyFault(used));
      return false;
    }
    this.#headed = true;
    const rest = held as Uint8Array;
    this.#held = used === rest.length ? null : rest.subarray(used);
    if (!header.local) {
      this.#remote = { host: header.sourceHost, port: header.sourcePort };
      this.#local = { host: header.destinationHost, port: header.destinationPort };
      readdress(socket, this.#remote, this.#local);
    }
    return true;
  }

  #askDestination(socket: AcceptedSocket): void {
    const found = originalDestination(socket.fd);
    if (found === null) return;
    this.#local = found;
    readdress(socket, null, found);
  }

  /** Fills the facts from the ClientHello, if it is one. False: it waits, or has ended. */
  #lookForTls(chains: Chains, final: boolean): boolean {
    const held = this.#held;
    if (held === null) return final;
    const used = chains.needs.hello ? parseClientHello(held, 0, held.length, hello) : startsTls(held, 0, held.length);
    if (used === 0) {
      if (!final) return false;
      // It began as TLS and did not go on: not even an opaque chain wants that.
      if (held.length < 6) return true;
      this.#drop("its ClientHello did not come to an end");
      return false;
    }
    if (used > 0) {
      facts.tls = true;
      if (chains.needs.hello) {
        facts.serverName = hello.serverName;
        facts.alpn = hello.alpn;
      }
      return true;
    }
    if (used === helloFault.notTls) return true;
    this.#refused(
      refuse("bad_client_hello", used === helloFault.tooLarge ? "its ClientHello is too long" : "its ClientHello is malformed"),
    );
    return false;
  }

  #lookForHttp(final: boolean): boolean {
    const held = this.#held;
    const found = held === null ? 0 : inspectHttp(held, 0, held.length);
    if (found === 0) return final;
    if (found === firstBytes.http2) facts.alpn = http2Names;
    else if (found === firstBytes.http11) facts.alpn = http11Names;
    else if (found === firstBytes.http10) facts.alpn = http10Names;
    return true;
  }

  // ---- the chain is known -----------------------------------------------------------------------------------------------

  #take(socket: AcceptedSocket, chain: ChainSlot): void {
    this.#chain = chain;
    const material = chain.current.tls;
    if (material === null) {
      this.#begin(socket);
      return;
    }
    const options = material.options();
    if (typeof options === "string") {
      this.#refused(refuse("no_secret", options));
      return;
    }
    this.#state = state.upgrading;
    this.#register(this.core.ticker.now() + netLimits.handshakeMs);
    const held = this.#held;
    this.#held = null;
    this.#from = socket.remoteAddress;
    const [raw, secure] = socket.upgradeTLS({
      isServer: true,
      tls: options,
      socket: secureHandlers,
      data: this,
      ...(held === null ? {} : { initialData: held }),
    });
    // A wrapper of its own, with the `data` it was given.
    raw.data = spent;
    socket.data = spent;
    this.#state = state.handshake;
    this.#wire = secure;
    if (this.#remote !== null || this.#local !== null) readdress(secure, this.#remote, this.#local);
    const early = this.#early;
    this.#early = undefined;
    if (early !== undefined) this.handshaken(secure, early);
  }

  /** A handshake that came to its end within `upgradeTLS`: it is judged when the secure socket is known. */
  #early: Error | null | undefined;

  handshaken(socket: AcceptedSocket, failed: Error | null): void {
    const chain = this.#chain;
    if (this.#state === state.upgrading) {
      this.#early = failed;
      return;
    }
    if (this.#state !== state.handshake || chain === null) return;
    const material = chain.current.tls;
    if (material === null) {
      this.destroy();
      return;
    }
    if (failed !== null && isTransportError(failed)) {
      this.#refused(refuseBroken(failed.message));
      return;
    }
    const peer = judgePeer(socket, material.rules, null, false, this.core.wallMs());
    if (typeof peer === "string") {
      this.#refused(peer);
      return;
    }
    this.#wire = socket;
    this.#peer = peer;
    this.#alpn = typeof socket.alpnProtocol === "string" ? socket.alpnProtocol : "";
    this.#begin(socket);
  }

  /** Plain, or decrypted from now on. */
  #begin(socket: AcceptedSocket): void {
    const chain = this.#chain as ChainSlot;
    if (!needsFirstBytes(chain.current, this.#alpn)) {
      this.#establish(socket, false);
      return;
    }
    this.#state = state.firstBytes;
    this.#register(firstBytesDeadline(chain.current, this.core.ticker.now()));
    if (this.#held !== null) this.#lookForPreface(socket);
  }

  /** One comparison for HTTP/1, whose methods differ from the preface in their first three bytes. */
  #lookForPreface(socket: AcceptedSocket): void {
    const held = this.#held as Uint8Array;
    const matched = matchPreface(held, 0, held.length);
    if (matched < 0) this.#establish(socket, false);
    else if (matched === http2Preface.length) this.#establish(socket, true);
  }

  /** Hands the connection on and ends. */
  #establish(socket: AcceptedSocket, preface: boolean): Established | null {
    const chain = this.#chain as ChainSlot;
    // It went away while we looked or shook hands: what it allowed is allowed no more.
    if (!this.#listener.chains.slots.includes(chain)) {
      this.destroy();
      return null;
    }
    const { core } = this;
    this.#state = state.over;
    core.ticker.remove(this);
    core.open.delete(this);
    const held = this.#held;
    this.#held = null;
    this.#wire = null;
    const connection = establish(core, chain, socket, this.#peer, isHttp2(chain.current, this.#alpn, preface));
    if (held !== null) connection.received(held);
    return connection;
  }

  // ---- events of the socket ---------------------------------------------------------------------------------------------

  received(bytes: Uint8Array): void {
    const socket = this.#wire;
    if (socket === null || bytes.length === 0) return;
    if (this.#state === state.looking) {
      this.#hold(bytes);
      this.#advance(false);
    } else if (this.#state === state.firstBytes) {
      this.#hold(bytes);
      this.#lookForPreface(socket);
    }
  }

  #hold(bytes: Uint8Array): void {
    this.#held = this.#held === null ? bytes : Buffer.concat([this.#held, bytes]);
  }

  drained(): void {}

  /** The client's FIN: what it sent is still worth an answer. */
  ended(): void {
    if (this.#state === state.looking) {
      const socket = this.#wire;
      if (this.#held === null || socket === null) {
        this.destroy();
        return;
      }
      this.#advance(true);
      // Whoever took the connection has to hear of its end too.
      (socket.data as Established).ended?.();
      return;
    }
    if (this.#state === state.firstBytes) this.#giveUpLooking()?.ended();
    else if (this.#state === state.handshake) this.destroy();
  }

  lost(): void {
    if (this.#state === state.over) return;
    this.#forget();
  }

  get core(): Core {
    return this.#listener.core;
  }

  onDeadline(): void {
    switch (this.#state) {
      case state.looking:
        if (this.#listener.chains.before.continueOnTimeout) this.#advance(true);
        else this.#drop("it did not say in time what it is");
        break;
      case state.handshake:
        this.#refused(refuse("timeout", "the handshake took too long"));
        break;
      case state.firstBytes:
        this.#giveUpLooking();
        break;
      default:
    }
  }

  /** Nothing came, and the connection ends quietly; or part of the preface and no more, which HTTP/1 refuses. */
  #giveUpLooking(): Established | null {
    const wire = this.#wire;
    if (wire === null) return null;
    if (this.#held !== null) return this.#establish(wire, false);
    this.#forget();
    closeGently(wire);
    return null;
  }

  /** The handshake may end; what comes of it says goodbye. */
  goodbye(): void {}

  retire(): void {
    if (this.#state === state.firstBytes) this.#giveUpLooking();
    else this.destroy();
  }

  // ---- ends -------------------------------------------------------------------------------------------------------------

  /** A TLS peer that is not let in. */
  #refused(reason: string): void {
    this.core.tlsRefusedDownstream.count();
    if (this.core.mayLog()) {
      this.core.log.warn(
        { listener: this.#listener.name, reason, remote: this.#from || (this.#wire?.remoteAddress ?? "") },
        "A downstream handshake was refused.",
      );
    }
    this.destroy();
  }

  /** A connection that no chain takes. */
  #drop(reason: string): void {
    this.core.unmatched.value++;
    if (this.core.mayLog())
      this.core.log.info({ listener: this.#listener.name, reason, remote: this.#wire?.remoteAddress ?? "" }, "A connection was refused.");
    this.destroy();
  }

  destroy(): void {
    const wire = this.#wire;
    if (this.#state === state.over) return;
    this.#forget();
    wire?.terminate();
  }

  #forget(): void {
    this.#state = state.over;
    this.#wire = null;
    this.#held = null;
    this.core.ticker.remove(this);
    this.core.closed(this);
  }
}

/** What the inspector calls plain HTTP, as Envoy does. */
const http10Names: readonly string[] = ["http/1.0"];
const http11Names: readonly string[] = ["http/1.1"];
const http2Names: readonly string[] = ["h2c"];

/** Whatever a socket of a listener points at. */
export type Member = Pick<Established, "received" | "drained" | "ended" | "lost" | "destroy">;

/** A handler threw, or an established TLS session failed: that connection ends, never the process. */
export function closeForBug(core: Core | null, member: Member, error: Error): void {
  if (!isTransportError(error) && core !== null) {
    core.bugs.value++;
    core.log.error({ error, stack: error.stack }, "A bug closed a downstream connection.");
  }
  member.destroy();
}

type SecureSocket = AcceptedSocket & { data: Member };

/** After TLS: one handler object for every connection. */
const secureHandlers = {
  data(socket: SecureSocket, bytes: Uint8Array) {
    socket.data.received(bytes);
  },
  drain(socket: SecureSocket) {
    socket.data.drained();
  },
  handshake(socket: SecureSocket, _success: boolean, error: Error | null) {
    const accepted = socket.data;
    if (accepted instanceof Accepted) accepted.handshaken(socket, error);
  },
  end(socket: SecureSocket) {
    socket.data.ended();
  },
  close(socket: SecureSocket, error?: Error) {
    socket.data.lost(error);
  },
  error(socket: SecureSocket, error: Error) {
    closeForBug((socket.data as Partial<Established>).core ?? null, socket.data, error);
  },
};
