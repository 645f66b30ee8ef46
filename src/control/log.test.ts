// The two faces of the log, and the metrics text. Both are read by others: people, log collectors, Prometheus.

import { expect, test } from "bun:test";
import { MetricRegistry, observe } from "../base/metric.ts";
import { exposition } from "./exposition.ts";
import { Secret } from "./identity/secret.ts";
import { adminKubeconfig } from "./kubeconfig.ts";
import { textLogger } from "./log.ts";

test("text: time, level, sentence, then the fields; below the level nothing", () => {
  const lines: string[] = [];
  const log = textLogger(
    "info",
    () => Date.parse("2030-01-02T03:04:05.678Z"),
    (line) => lines.push(line),
  );
  log.debug({}, "Not said");
  log.info({}, "Stopping");
  log.warn(
    { proxy: "shop/web-1", reason: 'port "x" is in use', count: 2, cause: new Error("boom"), token: new Secret("hush") },
    "A proxy rejected an update",
  );
  expect(lines).toEqual([
    "03:04:05.678 INFO  Stopping\n",
    '03:04:05.678 WARN  A proxy rejected an update  proxy=shop/web-1 reason="port \\"x\\" is in use" count=2 cause="Error: boom" token="[redacted]"\n',
  ]);
});

test("json: pino's lines, those from before it was loaded included, and no secret in them", async () => {
  const script = `
    import { pinoLogger } from ${JSON.stringify(new URL("./log.ts", import.meta.url).pathname)};
    import { Secret } from ${JSON.stringify(new URL("./identity/secret.ts", import.meta.url).pathname)};
    const { log, ready } = pinoLogger("info");
    log.info({ early: true, key: new Secret("hush") }, "Before");
    await ready();
    log.error({ cause: new Error("boom") }, "After");
  `;
  const child = Bun.spawn([process.execPath, "-e", script], { stderr: "pipe", cwd: import.meta.dir });
  const text = await new Response(child.stderr).text();
  expect(await child.exited).toBe(0);
  const [before, after] = text
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line) as Record<string, unknown>);
  expect(before).toMatchObject({ level: "info", msg: "Before", early: true, key: "[redacted]" });
  expect(after).toMatchObject({ level: "error", msg: "After", cause: { type: "Error", message: "boom" } });
  expect(text).not.toContain("hush");
});

test("metrics: help, type, escaped labels, cumulative buckets", () => {
  const registry = new MetricRegistry();
  registry.counter("a_total", "A\nb.", ["x"]).with(['q"\\\n']).value = 3;
  const h = registry.histogram("h_seconds", "H.", [], [0.1, 1]);
  for (const value of [0.05, 0.5, 0.5, 5]) observe(h.with([]), h.bounds, value);
  expect(exposition(registry)).toBe(
    [
      "# HELP a_total A\\nb.",
      "# TYPE a_total counter",
      'a_total{x="q\\"\\\\\\n"} 3',
      "# HELP h_seconds H.",
      "# TYPE h_seconds histogram",
      'h_seconds_bucket{le="0.1"} 1',
      'h_seconds_bucket{le="1"} 3',
      'h_seconds_bucket{le="+Inf"} 4',
      "h_seconds_sum 6.05",
      "h_seconds_count 4",
      "",
    ].join("\n"),
  );
});

test("the kubeconfig is YAML that says where, whom to trust and who", () => {
  const parsed = Bun.YAML.parse(adminKubeconfig("https://127.0.0.1:7443", "PEM", new Secret("t: #x"))) as {
    clusters: { cluster: Record<string, string> }[];
    users: { user: { token: string } }[];
  };
  expect(parsed.clusters[0]?.cluster).toEqual({
    server: "https://127.0.0.1:7443",
    "certificate-authority-data": Buffer.from("PEM").toString("base64"),
  });
  expect(parsed.users[0]?.user.token).toBe("t: #x");
});
