// Owns: the last session ticket of one endpoint, so that its next TLS connection costs half (RFC 8446 2.2). A resumed handshake does not verify the
// chain again: a ticket counts only as long as the certificates and roots it was made with, and `judgePeer` judges names and times as ever.

export interface ResumableSocket {
  setSession(session: Uint8Array): void;
}

/** One an endpoint; some 2 KB once a ticket has come. */
export class TlsSession {
  #ticket: Uint8Array | null = null;
  #generation = -1;

  /** Call when the connection is open, before its handshake. */
  offer(socket: ResumableSocket, generation: number): void {
    if (this.#ticket === null) return;
    if (this.#generation === generation) socket.setSession(this.#ticket);
    else this.#ticket = null;
  }

  /** The peer sent a ticket on a connection of this secret generation whose peer was accepted. */
  keep(ticket: Uint8Array, generation: number): void {
    this.#ticket = ticket;
    this.#generation = generation;
  }

  /** After a refusal: the next handshake is a full one. */
  forget(): void {
    this.#ticket = null;
  }
}
