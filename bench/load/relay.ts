// Owns: a TCP relay between the two sides of a pair that counts TLS records by their headers, which are not encrypted. For counting alone: it
// costs, so no figure is taken through it. Prints its counts and ends on SIGTERM. Run: bun bench/load/relay.ts PORT TO_PORT
import type { Socket } from "bun";

/** Records of application data and of everything else, each way. */
export interface RecordCounts {
  readonly toServer: number;
  readonly toClient: number;
  readonly bytesToServer: number;
  readonly bytesToClient: number;
  readonly connections: number;
}

const HEADER = 5; // content type, version, length (RFC 8446, 5.1)
const APPLICATION_DATA = 23;

/** Walks over the records of one direction, however they are cut. */
export class RecordCounter {
  records = 0;
  bytes = 0;
  #header = Buffer.alloc(HEADER);
  #have = 0;
  #left = 0;

  take(bytes: Uint8Array): void {
    this.bytes += bytes.length;
    for (let at = 0; at < bytes.length; ) {
      if (this.#left > 0) {
        const skipped = Math.min(this.#left, bytes.length - at);
        this.#left -= skipped;
        at += skipped;
        continue;
      }
      this.#header[this.#have++] = bytes[at++]!;
      if (this.#have < HEADER) continue;
      this.#have = 0;
      this.#left = this.#header.readUInt16BE(3);
      if (this.#header[0] === APPLICATION_DATA) this.records++;
    }
  }
}

interface End {
  other: Socket<End> | null;
  /** What the other end could not take yet. */
  waiting: Buffer[];
  counter: RecordCounter;
}

function pass(from: Socket<End>, bytes: Buffer): void {
  from.data.counter.take(bytes);
  const { other } = from.data;
  if (other === null || other.data.waiting.length > 0) {
    (other?.data.waiting ?? from.data.waiting).push(Buffer.from(bytes));
    return;
  }
  const taken = other.write(bytes);
  if (taken < bytes.length) other.data.waiting.push(Buffer.from(bytes.subarray(Math.max(0, taken))));
}

function drain(socket: Socket<End>): void {
  const { waiting } = socket.data;
  for (let first = waiting[0]; first !== undefined; first = waiting[0]) {
    const taken = socket.write(first);
    if (taken < first.length) {
      waiting[0] = first.subarray(Math.max(0, taken));
      return;
    }
    waiting.shift();
  }
}

function main(port: number, to: number): void {
  const toServer = new RecordCounter();
  const toClient = new RecordCounter();
  let connections = 0;
  const handlers = {
    data: pass,
    drain,
    close: (socket: Socket<End>): void => void socket.data.other?.end(),
    error: (): void => {},
  };
  Bun.listen<End>({
    hostname: "127.0.0.1",
    port,
    socket: {
      ...handlers,
      open(client) {
        connections++;
        client.data = { other: null, waiting: [], counter: copyTo(toServer) };
        void Bun.connect<End>({
          hostname: "127.0.0.1",
          port: to,
          data: { other: client, waiting: [], counter: copyTo(toClient) },
          socket: {
            ...handlers,
            open(server) {
              // What the client sent before the server was there waits in the client's own list.
              server.data.waiting = client.data.waiting;
              client.data.waiting = [];
              client.data.other = server;
              drain(server);
            },
          },
        });
      },
    },
  });
  const counters: { counter: RecordCounter; sum: RecordCounter }[] = [];
  function copyTo(sum: RecordCounter): RecordCounter {
    const counter = new RecordCounter(); // one a connection: headers may be cut anywhere
    counters.push({ counter, sum });
    return counter;
  }
  process.on("SIGTERM", () => {
    for (const { counter, sum } of counters) {
      sum.records += counter.records;
      sum.bytes += counter.bytes;
    }
    const counts: RecordCounts = {
      toServer: toServer.records,
      toClient: toClient.records,
      bytesToServer: toServer.bytes,
      bytesToClient: toClient.bytes,
      connections,
    };
    process.stdout.write(`RECORDS ${JSON.stringify(counts)}\n`);
    process.exit(0);
  });
}

if (import.meta.main) {
  const [port, to] = process.argv.slice(2).map(Number);
  if (to === undefined) throw new Error("usage: bun bench/load/relay.ts PORT TO_PORT");
  main(port!, to);
}
