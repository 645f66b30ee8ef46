// Owns: a TCP relay that stands between two processes and can be cut: `cut` breaks what is open and refuses what comes, `silent` leaves all open and lets
// nothing through, as a network that drops packets.

import { type AddressInfo, connect, createServer, type Server, type Socket } from "node:net";

export class Relay {
  readonly #server: Server;
  readonly #pairs = new Set<readonly [Socket, Socket]>();
  #state: "open" | "cut" | "silent" = "open";
  port = 0;

  private constructor(targetPort: () => number) {
    this.#server = createServer((incoming) => {
      if (this.#state === "cut") {
        incoming.destroy();
        return;
      }
      const outgoing = connect(targetPort(), "127.0.0.1");
      const pair = [incoming, outgoing] as const;
      this.#pairs.add(pair);
      for (const [from, to] of [pair, [outgoing, incoming] as const]) {
        if (this.#state === "silent") from.pause();
        from.on("data", (bytes) => {
          if (!to.write(bytes)) from.pause();
        });
        to.on("drain", () => {
          if (this.#state === "open") from.resume();
        });
        from.on("error", () => to.destroy());
        from.on("close", () => {
          to.destroy();
          this.#pairs.delete(pair);
        });
      }
    });
  }

  /** `targetPort` is asked for each connection. */
  static async start(targetPort: () => number): Promise<Relay> {
    const relay = new Relay(targetPort);
    await new Promise<void>((resolve) => relay.#server.listen(0, "127.0.0.1", resolve));
    relay.port = (relay.#server.address() as AddressInfo).port;
    return relay;
  }

  cut(): void {
    this.#state = "cut";
    this.breakAll();
  }

  /** Ends what is open; new connections pass. */
  breakAll(): void {
    for (const pair of [...this.#pairs]) for (const socket of pair) socket.destroy();
  }

  silent(): void {
    this.#state = "silent";
    for (const pair of this.#pairs) for (const socket of pair) socket.pause();
  }

  open(): void {
    this.#state = "open";
    for (const pair of this.#pairs) for (const socket of pair) socket.resume();
  }

  stop(): void {
    this.cut();
    this.#server.close();
  }
}
