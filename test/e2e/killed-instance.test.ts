// Real instances that die or stop answering under an open-loop load of reads: the client must not see it.
import { afterEach, expect, test } from "bun:test";
import { catchAll, cluster, endpoint, hop, type Running, start } from "../../src/proxy/testing/fixture.ts";

const program = `const server = Bun.serve({ port: 0, hostname: "127.0.0.1", fetch: () => new Response("ok") }); console.log(server.port);`;
const children: Bun.Subprocess[] = [];
const engines: Running[] = [];
afterEach(() => {
  for (const running of engines.splice(0)) running.engine.close();
  for (const child of children.splice(0)) child.kill("SIGKILL");
});

async function instance(): Promise<{ child: Bun.Subprocess; port: number }> {
  const child = Bun.spawn([process.execPath, "-e", program], { stdout: "pipe", stderr: "ignore" });
  children.push(child);
  const reader = (child.stdout as ReadableStream<Uint8Array>).getReader();
  const { value } = await reader.read();
  reader.releaseLock();
  return { child, port: Number(new TextDecoder().decode(value).trim()) };
}

/** 500 reads a second for two seconds, whatever becomes of them; `fault` after half a second. */
async function drive(port: number, fault: () => void): Promise<Map<number, number>> {
  const seen = new Map<number, number>();
  const count = (status: number) => void seen.set(status, (seen.get(status) ?? 0) + 1);
  const asked: Promise<void>[] = [];
  const began = performance.now();
  let faulty = false;
  while (asked.length < 1_000) {
    const due = Math.min(1_000, Math.floor((performance.now() - began) * 0.5));
    while (asked.length < due)
      asked.push(
        fetch(`http://127.0.0.1:${port}/`).then(
          async (answer) => {
            await answer.text();
            count(answer.status);
          },
          () => count(0),
        ),
      );
    if (!faulty && asked.length >= 250) {
      faulty = true;
      fault();
    }
    await Bun.sleep(3);
  }
  await Promise.all(asked);
  return seen;
}

test("SIGKILL of one of three: no read fails", async () => {
  const instances = await Promise.all([instance(), instance(), instance()]);
  const running = start(
    hop(
      [
        cluster(
          "c",
          instances.map(({ port }) => endpoint(port)),
        ),
      ],
      catchAll("c", { retry: { attempts: 2, on: ["connect-failure", "reset", "refused-stream"], statusCodes: [], perTryTimeoutMs: 0 } }),
    ),
  );
  engines.push(running);
  const seen = await drive(running.port(), () => instances[0]?.child.kill("SIGKILL"));
  expect([...seen]).toEqual([[200, 1_000]]);
}, 20_000);

test("SIGSTOP of one of three: a try ends and the next goes elsewhere", async () => {
  const instances = await Promise.all([instance(), instance(), instance()]);
  const running = start(
    hop(
      [
        cluster(
          "c",
          instances.map(({ port }) => endpoint(port)),
        ),
      ],
      catchAll("c", {
        timeoutMs: 5_000,
        retry: { attempts: 2, on: ["connect-failure", "reset", "refused-stream"], statusCodes: [], perTryTimeoutMs: 100 },
      }),
    ),
  );
  engines.push(running);
  const stopped = instances[0]?.child;
  const seen = await drive(running.port(), () => stopped?.kill("SIGSTOP"));
  stopped?.kill("SIGCONT");
  // Each try ends after 0.1 s and the next goes elsewhere; the budget (a fifth, ten a second) covers what least-request still sends there.
  expect(seen.get(200) ?? 0).toBeGreaterThanOrEqual(990);
}, 20_000);
