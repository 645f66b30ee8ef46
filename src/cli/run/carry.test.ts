import { afterEach, expect, test } from "bun:test";
import { connect, createServer, type Server, type Socket } from "node:net";
import { systemClock } from "../../base/clock.ts";
import { Carrier, type CarryCounts, mostConnections } from "./carry.ts";

const servers: Server[] = [];
let carrier = new Carrier(systemClock, Math.random);

afterEach(() => {
  for (const server of servers.splice(0)) server.close();
  carrier.stop();
  carrier = new Carrier(systemClock, Math.random);
});

async function listen(take: (socket: Socket) => void): Promise<number> {
  const server = createServer({ allowHalfOpen: true }, take);
  servers.push(server);
  await new Promise<void>((done) => server.listen(0, "127.0.0.1", done));
  return (server.address() as { port: number }).port;
}

const echo = (): Promise<number> => listen((socket) => void socket.on("error", () => {}).pipe(socket));
const to = (...ports: number[]) => [{ weight: 1, endpoints: ports.map((port) => ({ host: "127.0.0.1", port, weight: 1 })) }];

async function front(ports: readonly number[], counts: CarryCounts): Promise<number> {
  return await listen((socket) => carrier.take(socket, to(...ports), counts));
}

/** What comes back, until the other side ends. */
function exchange(port: number, bytes: string): Promise<string> {
  const done = Promise.withResolvers<string>();
  let answer = "";
  const socket = connect({ host: "127.0.0.1", port, allowHalfOpen: true }, () => socket.end(bytes));
  socket.on("data", (part) => {
    answer += part.toString();
  });
  socket.on("error", () => {});
  socket.on("close", () => done.resolve(answer));
  return done.promise;
}

async function until(holds: () => boolean): Promise<void> {
  for (const end = performance.now() + 10_000; !holds() && performance.now() < end; ) await Bun.sleep(10);
  expect(holds()).toBe(true);
}

/** A port on which nobody listens. */
async function dead(): Promise<number> {
  const port = await listen(() => {});
  servers.pop()?.close();
  return port;
}

test("bytes go both ways with half close, also more than any buffer holds", async () => {
  const counts = { led: 0, lost: 0 };
  const port = await front([await echo()], counts);
  const much = "0123456789abcdef".repeat(256 * 1024);
  expect(await exchange(port, "one line\n")).toBe("one line\n");
  expect((await exchange(port, much)) === much).toBe(true);
  expect(counts).toEqual({ led: 2, lost: 0 });
  await until(() => carrier.open === 0);
});

test("an instance that cannot be reached is passed over, and where none can be the connection is closed and counted", async () => {
  const counts = { led: 0, lost: 0 };
  const port = await front([await dead(), await echo()], counts);
  for (let n = 0; n < 8; n++) expect(await exchange(port, "x")).toBe("x");
  expect(counts).toEqual({ led: 8, lost: 0 });
  const nowhere = await front([await dead()], counts);
  expect(await exchange(nowhere, "x")).toBe("");
  expect(counts).toEqual({ led: 8, lost: 1 });
});

test("one more than the most is closed", async () => {
  const counts = { led: 0, lost: 0 };
  const instance = await listen((socket) => void socket.on("error", () => {}));
  const port = await front([instance], counts);
  const open: Socket[] = [];
  try {
    for (let n = 0; n < mostConnections; n++) {
      open.push(connect({ host: "127.0.0.1", port }).on("error", () => {}));
      if (n % 100 === 99) await until(() => counts.led === n + 1);
    }
    expect(await exchange(port, "x")).toBe("");
    expect(counts).toEqual({ led: mostConnections, lost: 1 });
  } finally {
    for (const socket of open) socket.destroy();
  }
}, 30_000);

test("when the sidecar is back the silent ones are closed, and those that talk go on", async () => {
  const counts = { led: 0, lost: 0 };
  const port = await front([await echo()], counts);
  const make = (): { socket: Socket; closed: () => boolean } => {
    let over = false;
    const socket = connect({ host: "127.0.0.1", port }).on("error", () => {});
    socket.on("close", () => {
      over = true;
    });
    socket.resume();
    return { socket, closed: () => over };
  };
  const silent = make();
  const talking = make();
  const timer = setInterval(() => talking.socket.write("."), 50);
  try {
    await until(() => counts.led === 2);
    carrier.leave();
    await until(silent.closed);
    expect(talking.closed()).toBe(false);
  } finally {
    clearInterval(timer);
    talking.socket.destroy();
  }
  await until(() => carrier.open === 0);
});
