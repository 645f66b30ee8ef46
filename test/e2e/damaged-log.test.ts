// The log beside the store's file (weft.db-wal) is damaged after the control plane was killed: it does not start, says how much is lost, and goes on with what stands
// before the damage when it is told to. Killed without damage it starts without a word.

import { afterAll, expect, test } from "bun:test";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Processes } from "../../demo/processes.ts";

const root = mkdtempSync(join(tmpdir(), "weft-damaged-log-"));
const dir = join(root, "mesh");
const processes = new Processes(dir);
afterAll(async () => {
  await processes.stopAll();
  rmSync(root, { recursive: true, force: true });
});

const ports = ["--api-port", "0", "--xds-port", "0", "--dashboard-port", "0"];
const start = () =>
  processes.startControlPlane(ports).then(
    () => "started",
    (error: Error) => error.message,
  );
const kill = async () => {
  processes.controlPlane?.kill("SIGKILL");
  await processes.controlPlane?.exited;
};
const service = (name: string) =>
  `apiVersion: v1\nkind: Service\nmetadata: {name: ${name}, namespace: shop}\nspec: {selector: {app: ${name}}, ports: [{port: 8080, name: http}]}\n`;
const add = async (name: string) => expect((await processes.weft(["apply", "-f", "-"], service(name))).code).toBe(0);
const names = async () =>
  (await processes.weftJson<{ items: { metadata: { name: string } }[] }>(["get", "services", "-n", "shop"])).items.map(
    ({ metadata }) => metadata.name,
  );

test("a log that is damaged after a crash", async () => {
  expect(await start()).toBe("started");
  await add("early");
  await kill();
  expect(await start()).toBe("started");
  expect(await names()).toEqual(["early"]);
  for (let n = 0; n < 6; n++) await add(`late-${n}`);
  await kill();
  const log = join(dir, "weft.db-wal");
  const bytes = readFileSync(log);
  const at = bytes.indexOf('"name":"late-2"');
  expect(at).toBeGreaterThan(0);
  bytes.write("LATE", at + 8);
  writeFileSync(log, bytes);

  const words = await start();
  expect(words).toContain("weft up ended with status 1");
  expect(words).toMatch(/weft\.db is damaged and was left as it is\./);
  expect(words).toMatch(
    /Frame \d+ of its log \(-wal\) is not the one that was written, and later changes stand behind it: \d+ or more changes/,
  );
  expect(words).toContain(`weft store cut-log --data ${dir}`);
  expect(readFileSync(log).equals(bytes)).toBe(true);

  const checked = await processes.weft(["store", "check", "--data", dir]);
  expect(checked.code).toBe(1);
  expect(checked.out).toMatch(/^ERROR +store .*weft\.db: frame \d+ of its log/);
  const whole = await processes.weft(["check", "--data", dir, "-o", "json"]);
  expect(whole.code).toBe(1);
  expect((JSON.parse(whole.out) as { findings: { about: string; fix: string }[] }).findings).toContainEqual(
    expect.objectContaining({ about: `store ${join(dir, "weft.db")}`, fix: expect.stringContaining("weft store cut-log") }),
  );

  const cut = await processes.weft(["store", "cut-log", "--data", dir]);
  expect(cut.err + cut.out).toMatch(
    /^\d+ changes of the log are kept, \d+ or more behind it are lost; the log as it was is in .*weft\.db-wal\.damaged-/,
  );
  const aside = readdirSync(dir).find((name) => name.startsWith("weft.db-wal.damaged-"));
  expect(readFileSync(join(dir, aside ?? "")).equals(bytes)).toBe(true);
  expect(await processes.weft(["store", "check", "--data", dir])).toMatchObject({
    code: 0,
    out: "every row is the one that was written\n",
  });
  const again = await processes.weft(["store", "cut-log", "--data", dir]);
  expect(again).toMatchObject({ code: 1, err: expect.stringContaining("is not damaged; nothing was done") });
  expect(await start()).toBe("started");
  const left = await names();
  expect(left).toContain("early");
  expect(left).toContain("late-1");
  expect(left).not.toContain("late-5");
  await add("late-5");
  const used = await processes.weft(["store", "check", "--data", dir]);
  expect(used).toMatchObject({ code: 1, err: expect.stringContaining("is in use by process") });
  expect(existsSync(join(dir, "weft.db"))).toBe(true);

  // A hole in the last change alone may be a power cut's: it starts, and says so.
  for (const name of ["last-1", "last-2"]) await add(name);
  await kill();
  const tail = readFileSync(log);
  const frame = 4096 + 24;
  const frames = Math.floor((tail.length - 32) / frame);
  const salts = tail.subarray(16, 24);
  const own = Array.from({ length: frames }, (_, n) => 32 + n * frame).filter((start) =>
    tail.subarray(start + 8, start + 16).equals(salts),
  );
  const ends = own.filter((start) => tail.readUInt32BE(start + 4) !== 0);
  const first = (ends.at(-2) as number) + frame;
  expect((ends.at(-1) as number) - first).toBeGreaterThanOrEqual(2 * frame);
  tail.fill(0, first, first + frame);
  writeFileSync(log, tail);
  expect(await start()).toBe("started");
  expect((await processes.weft(["logs"])).out).toMatch(/the last change in .*weft\.db-wal is not whole and is dropped/);
  expect(await names()).toContain("last-1");
}, 120_000);
