import { afterAll, expect, test } from "bun:test";
import { freePorts } from "../machine.ts";
import { probe } from "../probe.ts";

const [port] = await freePorts(1);
const origin = Bun.spawn([process.execPath, new URL("./origin.ts", import.meta.url).pathname, String(port)], {
  stdout: "ignore",
  stderr: "inherit",
});
afterAll(async () => {
  origin.kill();
  await origin.exited;
});
while ((await probe({ port: port!, host: "h", path: "/" }))?.status !== 200) await Bun.sleep(5);

async function openLoop(toPort: number, path: string): Promise<Record<string, number>> {
  const script = new URL("./openloop.ts", import.meta.url).pathname;
  const child = Bun.spawn([process.execPath, script, String(toPort), "h", path, "300", "1", "4"], { stdout: "pipe", stderr: "pipe" });
  return JSON.parse(await new Response(child.stdout).text());
}

test("the origin answers 100 bytes, and echoes the head it was sent", async () => {
  expect((await probe({ port: port!, host: "h", path: "/api/items/1" }))?.body).toHaveLength(100);
  const echo = await probe({ port: port!, host: "h", path: "/api/echo", headers: { "x-request-id": "abc" } });
  expect(echo?.body).toContain("x-request-id: abc\r\n");
});

test("the origin takes heads that arrive in pieces and several at once", async () => {
  let received = "";
  const socket = await Bun.connect({
    hostname: "127.0.0.1",
    port: port!,
    socket: {
      data(_, bytes) {
        received += bytes.toString("latin1");
      },
    },
  });
  socket.write("GET /a HTTP/1.1\r\nHost: h\r\n\r\nGET /b HTTP/1.1\r\nHo");
  while (received.split("HTTP/1.1 200").length < 2) await Bun.sleep(2);
  socket.write("st: h\r\n\r\nGET /c HTTP/1.1\r\n\r\n");
  while (received.split("HTTP/1.1 200").length < 4) await Bun.sleep(2);
  expect(received.split("HTTP/1.1 200").length - 1).toBe(3);
  socket.end();
});

test("a fixed rate is kept, and every request is accounted for", async () => {
  const result = await openLoop(port!, "/api/items/1");
  expect(result).toMatchObject({ sent: 300, answered: 300, errors: 0 });
  expect(result.p99Us).toBeGreaterThanOrEqual(result.p50Us!);
  expect(result.p50Us).toBeGreaterThan(0);
});

test("answers that are not 200 count as errors", async () => {
  const refusing = Bun.serve({ port: 0, hostname: "127.0.0.1", fetch: () => new Response("no", { status: 403 }) });
  const result = await openLoop(refusing.port!, "/");
  await refusing.stop(true);
  expect(result.errors).toBe(300);
});
