// Datagrams through a sidecar, by programs of others: dig as the client of a small name server, logger as the client of a syslog receiver, and
// datagrams of the size that QUIC begins with.

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { execute } from "../support/execute.ts";
import { type OpaqueWay, openDatagrams } from "../support/opaque.ts";
import { findPeer, needsPeers } from "../support/peers.ts";

type Receiver = { readonly port: number; readonly got: Buffer[]; readonly from: Set<number>; stop(): void };

/** `answer` may say nothing. */
async function receiver(answer: (bytes: Buffer) => Buffer | null): Promise<Receiver> {
  const got: Buffer[] = [];
  const from = new Set<number>();
  const socket = await Bun.udpSocket({
    hostname: "127.0.0.1",
    port: 0,
    socket: {
      data(to, bytes, port, host) {
        got.push(bytes);
        from.add(port);
        const out = answer(bytes);
        if (out !== null) to.send(out, port, host);
      },
    },
  });
  return { port: socket.port, got, from, stop: () => socket.close() };
}

/** An answer of A records, RFC 1035 section 4: as many as the name's first label says, so that answers of every size can be asked for. */
function nameServer(query: Buffer): Buffer {
  const labelSize = query[12] as number;
  const count = Number(/\d+/.exec(query.toString("latin1", 13, 13 + labelSize))?.[0] ?? 1);
  let end = 12;
  while (query[end] !== 0) end += (query[end] as number) + 1;
  const question = query.subarray(12, end + 5);
  const head = Buffer.from(query.subarray(0, 12));
  head.writeUInt16BE(0x8580, 2);
  head.writeUInt16BE(1, 4);
  head.writeUInt16BE(count, 6);
  head.writeUInt32BE(0, 8);
  const records = Array.from({ length: count }, (_none, n) =>
    Buffer.from([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 10, 0, n >> 8, n & 255]),
  );
  return Buffer.concat([head, question, ...records]);
}

async function until(probe: () => boolean, what: string): Promise<void> {
  const end = Date.now() + 5_000;
  while (!probe()) {
    if (Date.now() > end) throw new Error(`timed out waiting for ${what}`);
    await Bun.sleep(5);
  }
}

/** Sum of a family on the metrics page. */
function sum(page: string, family: string): number {
  let total = 0;
  for (const line of page.split("\n")) if (line.startsWith(`${family}{`)) total += Number(line.slice(line.lastIndexOf(" ") + 1));
  return total;
}

function stage(answer: (bytes: Buffer) => Buffer | null) {
  let server: Receiver | undefined;
  let way: OpaqueWay | undefined;
  beforeAll(async () => {
    server = await receiver(answer);
    way = await openDatagrams(server.port);
  }, 30_000);
  afterAll(async () => {
    await way?.stop();
    server?.stop();
  }, 30_000);
  return { server: () => server as Receiver, way: () => way as OpaqueWay };
}

describe.skipIf(!needsPeers("datagrams.test.ts: DNS", "dig"))("DNS", () => {
  const { way } = stage(nameServer);

  test("dig gets its answers, small ones and one of 4 000 bytes", async () => {
    const dig = (name: string) =>
      execute([
        findPeer("dig") as string,
        "@127.0.0.1",
        "-p",
        String(way().port),
        "+short",
        "+bufsize=8192",
        "+timeout=3",
        "+tries=1",
        name,
        "A",
      ]);
    expect((await dig("n1.example")).out).toBe("10.0.0.0\n");
    const many = (await dig("n240.example")).out.trim().split("\n");
    expect(many).toHaveLength(240);
    expect(many.sort().at(-1)).toBe("10.0.0.99");
    const names = Array.from({ length: 20 }, (_none, n) => `n${n + 1}.example`);
    const answers = await Promise.all(names.map(dig));
    expect(answers.map(({ out }) => out.trim().split("\n").length)).toEqual(names.map((_name, n) => n + 1));
    const page = await (way().proxies[0] as NonNullable<OpaqueWay["proxies"][0]>).metrics();
    expect(sum(page, "weft_udp_sessions_total")).toBe(22);
    expect(sum(page, "weft_udp_datagrams_received_total")).toBe(22);
    expect(sum(page, "weft_udp_datagrams_sent_total")).toBe(22);
    expect(sum(page, "weft_udp_datagrams_dropped_total")).toBe(0);
  }, 30_000);
});

describe.skipIf(!needsPeers("datagrams.test.ts: syslog", "logger"))("syslog", () => {
  const { server, way } = stage(() => null);

  // As many as the kernel's buffers hold while nobody reads: a sender that does not wait can always be faster than its network.
  test("every line arrives as one datagram", async () => {
    const lines = Array.from({ length: 100 }, (_none, n) => `line ${n} ${"x".repeat(n)}`);
    const program = [findPeer("logger") as string, "-n", "127.0.0.1", "-P", String(way().port), "-d", "--rfc5424=notq", "-t", "weft"];
    const { code } = await execute(program, { stdin: `${lines.join("\n")}\n` });
    expect(code).toBe(0);
    await until(() => server().got.length === 100, "all lines");
    server().got.forEach((bytes, n) => {
      expect(bytes.toString()).toEndWith(lines[n] as string);
    });
    expect(server().from.size).toBe(1);
  }, 30_000);
});

describe("datagrams as QUIC sends them", () => {
  const { server, way } = stage((bytes) => bytes);

  test("50 clients with 20 datagrams of 1 200 bytes each under way at once: nothing is cut, mixed up or lost", async () => {
    const clients = 50;
    const rounds = 20;
    const sockets = await Promise.all(
      Array.from({ length: clients }, async (_none, n) => {
        const mine = { n, got: 0, wrong: 0 };
        const socket = await Bun.udpSocket({
          connect: { hostname: "127.0.0.1", port: way().port },
          socket: {
            data(to, bytes) {
              if (bytes.length !== 1200 || bytes[0] !== n || bytes[1] !== mine.got) mine.wrong++;
              mine.got++;
              if (mine.got < rounds) (to as Bun.udp.ConnectedSocket<"buffer">).send(Buffer.alloc(1200, Buffer.from([n, mine.got])));
            },
          },
        });
        return { mine, socket };
      }),
    );
    for (const { mine, socket } of sockets) socket.send(Buffer.alloc(1200, Buffer.from([mine.n, 0])));
    await until(() => sockets.every(({ mine }) => mine.got === rounds), "all answers");
    expect(sockets.filter(({ mine }) => mine.wrong > 0)).toHaveLength(0);
    expect(server().from.size).toBe(clients);
    for (const { socket } of sockets) socket.close();
  }, 30_000);
});
