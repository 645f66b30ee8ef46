import { afterAll, afterEach, beforeAll, describe, expect, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { PausedClock, systemClock } from "../../base/clock.ts";
import { silentLogger } from "../../base/log.ts";
import { MetricRegistry, observe } from "../../base/metric.ts";
import { ControlChannel } from "../xds/channel.ts";
import { type FakeControlPlane, startFakeControlPlane, until } from "../xds/testing.ts";
import { compileLine, createFileLogs } from "./access-log.ts";
import { checkFormat } from "./access-log-format.ts";
import { AlsSink } from "./als.ts";
import { streamMetrics } from "./metrics-service.ts";
import { registerProcessMetrics } from "./process-metrics.ts";
import { prometheusText } from "./prometheus.ts";
import type { AccessRecord } from "./record.ts";
import { createLogSinks } from "./sinks.ts";

const record: AccessRecord = {
  kind: "http",
  startTimeMs: Date.UTC(2026, 0, 2, 3, 4, 5, 678),
  durationMs: 12.6,
  protocol: "HTTP/1.1",
  method: "GET",
  scheme: "http",
  authority: "cart.shop",
  path: '/a?b="c"',
  userAgent: "",
  requestId: "id-1",
  status: 503,
  flags: ["UF", "URX"],
  details: "upstream_reset_before_response_started",
  reason: "nobody answered",
  requestBytes: 3,
  responseBytes: 40,
  routeName: "",
  upstreamCluster: "outbound|80||cart",
  upstreamAddress: { host: "::1", port: 9000 },
  attempts: 2,
  downstreamRemote: { host: "127.0.0.1", port: 5555 },
  downstreamLocal: { host: "127.0.0.1", port: 8080 },
  downstreamPeer: "spiffe://a/ns/b/sa/c",
  upstreamPeer: null,
  tlsVersion: "TLSv1.3",
  reporter: "destination",
  source: "web",
  destination: "cart",
};

describe("access log lines", () => {
  const table: readonly (readonly [string, unknown])[] = [
    ["%START_TIME%", "2026-01-02T03:04:05.678Z"],
    ["%REQ(:METHOD)%", "GET"],
    ["%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%", '/a?b="c"'],
    ["%PROTOCOL%", "HTTP/1.1"],
    ["%RESPONSE_CODE%", 503],
    ["%RESPONSE_FLAGS%", "UF,URX"],
    ["%RESPONSE_CODE_DETAILS%", "upstream_reset_before_response_started"],
    ["%BYTES_RECEIVED%", 3],
    ["%BYTES_SENT%", 40],
    ["%DURATION%", 13],
    ["%UPSTREAM_HOST%", "[::1]:9000"],
    ["%UPSTREAM_CLUSTER%", "outbound|80||cart"],
    ["%ROUTE_NAME%", null],
    ["%REQ(X-REQUEST-ID)%", "id-1"],
    ["%REQ(:AUTHORITY)%", "cart.shop"],
    ["%REQ(USER-AGENT)%", null],
    ["%DOWNSTREAM_REMOTE_ADDRESS%", "127.0.0.1:5555"],
    ["%DOWNSTREAM_PEER_URI_SAN%", "spiffe://a/ns/b/sa/c"],
    ["%UPSTREAM_PEER_URI_SAN%", null],
    ["%DOWNSTREAM_TLS_VERSION%", "TLSv1.3"],
    ["%REQ(:METHOD)% %RESPONSE_CODE% %ROUTE_NAME%", "GET 503 -"],
    ["fixed", "fixed"],
    ["", ""],
    ["100%%", "100%"],
  ];
  for (const [format, wanted] of table) {
    test(format || "(empty)", () => {
      expect(checkFormat(format)).toEqual([]);
      const line = compileLine({ key: format })(record);
      expect(line.endsWith("}\n")).toBe(true);
      expect(JSON.parse(line)).toEqual({ key: wanted });
    });
  }

  test("keys keep their order, and a line is one line whatever the client sends", () => {
    const line = compileLine({ b: "%REQ(:PATH)%", a: "%REQ(USER-AGENT)%" })({ ...record, path: "/x\n\u2028y", userAgent: "\u0000\r" });
    expect(line.split("\n").length).toBe(2);
    expect(Object.keys(JSON.parse(line) as object)).toEqual(["b", "a"]);
  });

  test("what is not supported is named", () => {
    expect(checkFormat("%NOPE%")[0]).toStartWith("%NOPE% is not supported; supported: REQ(...), START_TIME");
    expect(checkFormat("%REQ(COOKIE)%")[0]).toContain("only these request headers are kept for logs: :METHOD");
    expect(checkFormat("%DURATION(5)%")[0]).toContain("takes no argument");
    expect(checkFormat("%RESP(X)%")[0]).toContain("not supported");
    expect(checkFormat("50%")[0]).toContain("has no closing %");
    expect(checkFormat("%lower%")[0]).toContain("is not an operator");
    expect(checkFormat("%constructor% %REQ(CONSTRUCTOR)%").length).toBe(2);
  });

  test("files are appended to, and one configuration has one sink", async () => {
    const folder = mkdtempSync(join(tmpdir(), "weft-log-"));
    const path = join(folder, "access.log");
    const sinks = createLogSinks({ clock: systemClock, metrics: new MetricRegistry() });
    const config = { sink: { kind: "file", path, format: { c: "%RESPONSE_CODE%" } }, filter: null } as const;
    expect(sinks.factory(config)).toBe(sinks.factory(config));
    sinks.factory(config).write(record);
    sinks.factory({ ...config }).write({ ...record, status: 200 });
    await sinks.flush();
    expect(readFileSync(path, "utf8")).toBe('{"c":503}\n{"c":200}\n');
    rmSync(folder, { recursive: true });
  });

  test("a slow output costs lines, not memory; a broken one costs nothing else", async () => {
    const clock = new PausedClock();
    const dropped = new MetricRegistry().counter("d", "d").with([]);
    const chunks: string[] = [];
    let release = (): void => {};
    const logs = createFileLogs({
      clock,
      dropped,
      open: () => ({
        write: (chunk) => {
          chunks.push(chunk);
          return new Promise((resolve) => {
            release = () => resolve(undefined);
          });
        },
      }),
    });
    const sink = logs.sink({ kind: "file", path: "x", format: { p: "%REQ(:PATH)%" } });
    const big = { ...record, path: "y".repeat(100_000) };
    for (let n = 0; n < 5; n++) sink.write(big);
    clock.advance(100);
    expect(chunks.length).toBe(1);
    for (let n = 0; n < 10; n++) sink.write(big);
    expect(dropped.value).toBe(5);
    release();
    await until(() => {
      clock.advance(100);
      return chunks.length === 2;
    });
    release();
    const broken = createFileLogs({
      clock,
      dropped,
      open: () => ({
        write: () => {
          throw new Error("EPIPE");
        },
      }),
    });
    broken.sink({ kind: "file", path: "x", format: {} }).write(record);
    clock.advance(100);
    expect(dropped.value).toBe(6);
  });
});

describe("Prometheus text", () => {
  const registry = (): MetricRegistry => {
    const metrics = new MetricRegistry();
    const requests = metrics.counter("weft_requests_total", 'Requests, "all"\nof them \\ here.', ["path", "code"]);
    requests.with(['/a"b\\c\nd', "200"]).value = 3;
    requests.with(["é", "500"]).value = 0.5;
    metrics.gauge("weft_open", "Open things.").with([]).value = -1;
    const latency = metrics.histogram("weft_latency_seconds", "Latency.", ["k"], [0.1, 1]);
    const series = latency.with(["x"]);
    for (const value of [0.05, 0.1, 0.5, 7]) observe(series, latency.bounds, value);
    metrics.histogram("weft_plain_seconds", "No labels.", [], [1]).with([]);
    metrics.counter("weft_unused_total", "No series.", ["a"]);
    registerProcessMetrics(metrics, 1_700_000_000_000);
    return metrics;
  };

  test("escapes, cumulates and leaves empty families out", () => {
    const text = prometheusText(registry());
    expect(text).toContain('# HELP weft_requests_total Requests, "all"\\nof them \\\\ here.\n# TYPE weft_requests_total counter\n');
    expect(text).toContain('weft_requests_total{path="/a\\"b\\\\c\\nd",code="200"} 3\n');
    expect(text).toContain("weft_open -1\n");
    expect(text).toContain(
      'weft_latency_seconds_bucket{k="x",le="0.1"} 2\nweft_latency_seconds_bucket{k="x",le="1"} 3\nweft_latency_seconds_bucket{k="x",le="+Inf"} 4\nweft_latency_seconds_sum{k="x"} 7.65\nweft_latency_seconds_count{k="x"} 4\n',
    );
    expect(text).toContain('weft_plain_seconds_bucket{le="+Inf"} 0\nweft_plain_seconds_sum 0\nweft_plain_seconds_count 0\n');
    expect(text).not.toContain("weft_unused_total");
    for (const name of ["cpu_seconds_total", "resident_memory_bytes", "start_time_seconds", "open_fds"]) {
      expect(Number(new RegExp(`^process_${name} (\\S+)$`, "m").exec(text)?.[1])).toBeGreaterThan(0);
    }
  });

  test.skipIf(Bun.which("promtool") === null)("promtool has nothing to say", () => {
    const done = Bun.spawnSync(["promtool", "check", "metrics"], { stdin: Buffer.from(prometheusText(registry())) });
    expect(done.stderr.toString() + done.stdout.toString()).toBe("");
    expect(done.exitCode).toBe(0);
  });
});

describe("streams to the control plane", () => {
  let server: FakeControlPlane;
  const stops: (() => void)[] = [];
  beforeAll(async () => {
    server = await startFakeControlPlane();
  });
  afterAll(() => server.stop());
  afterEach(() => {
    for (const stop of stops.splice(0)) stop();
  });

  function channelTo(port: number): ControlChannel {
    const channel = new ControlChannel({
      clock: systemClock,
      log: silentLogger,
      random: () => 0.05,
      cluster: {
        name: "xds-grpc",
        connectTimeoutMs: 1000,
        balance: { kind: "round_robin" },
        source: {
          kind: "static",
          endpoints: [
            {
              address: { host: "127.0.0.1", port },
              weight: 1,
              priority: 0,
              healthy: true,
              transportMatch: {},
              workload: null,
              identity: null,
            },
          ],
        },
        transports: [],
        tls: null,
        limits: { maxConnections: 1, maxPending: 1, maxRequests: 1, maxRetries: 1 },
        protocol: "http2",
        control: true,
        service: null,
      },
      target: { cluster: "xds-grpc", authority: "", metadata: [] },
      credentials: { certificate: () => undefined, token: () => undefined },
    });
    stops.push(() => channel.close());
    return channel;
  }
  const node = { id: "n1", cluster: "c" } as never;

  test("metrics: everything first, then what changed, and everything again on a new stream", async () => {
    const metrics = new MetricRegistry();
    const requests = metrics.counter("istio_requests_total", "Requests.", ["code"]);
    const latency = metrics.histogram("istio_request_duration_milliseconds", "Latency.", [], [1, 10]);
    metrics.counter("weft_other_total", "Not Istio's.").with([]).value = 9;
    requests.with(["200"]).value = 1;
    requests.with(["500"]).value = 2;
    const port = server.port;
    const channel = channelTo(port);
    const stream = streamMetrics({ clock: systemClock, random: () => 0.05, metrics, channel, node, periodMs: 20 });
    stops.push(() => stream.stop());
    channel.start();
    const first = await until(() => server.metrics.at(-1)?.requests[0]);
    expect(first.identifier?.node?.id).toBe("n1");
    expect(first.envoyMetrics.map((f) => [f.name, f.type, f.metric.length])).toEqual([["istio_requests_total", 0, 2]]);
    expect(first.envoyMetrics[0]?.metric[1]?.label).toMatchObject([{ name: "code", value: "500" }]);
    expect(first.envoyMetrics[0]?.metric[1]?.counter?.value).toBe(2);
    requests.with(["500"]).value = 5;
    const series = latency.with([]);
    for (const value of [0.5, 5, 50]) observe(series, latency.bounds, value);
    const second = await until(() => server.metrics.at(-1)?.requests[1]);
    expect(second.identifier).toBeUndefined();
    expect(second.envoyMetrics.map((f) => [f.name, f.metric.length])).toEqual([
      ["istio_requests_total", 1],
      ["istio_request_duration_milliseconds", 1],
    ]);
    const histogram = second.envoyMetrics[1]?.metric[0]?.histogram;
    expect([histogram?.sampleCount, histogram?.sampleSum, histogram?.bucket.map((b) => [b.upperBound, b.cumulativeCount])]).toEqual([
      3n,
      55.5,
      [
        [1, 1n],
        [10, 2n],
      ],
    ]);
    // Nothing changed: nothing is sent.
    await Bun.sleep(80);
    expect(server.metrics.at(-1)?.requests.length).toBe(2);
    const before = server.metrics.length;
    server.metrics.at(-1)?.end();
    const again = await until(() => server.metrics.length > before && server.metrics.at(-1)?.requests[0], "a new stream");
    expect(again.envoyMetrics.flatMap((f) => f.metric).length).toBe(3);
  });

  test("access log entries go in batches, with everything the analysis reads", async () => {
    const dropped = new MetricRegistry().counter("d", "d").with([]);
    const channel = channelTo(server.port);
    const sink = new AlsSink({ clock: systemClock, random: () => 0.05, channel, node, logName: "weft", dropped });
    stops.push(() => sink.stop());
    for (let n = 0; n < 3; n++) sink.write(record);
    sink.write({ ...record, kind: "tcp", protocol: "TCP", details: "upstream closed", upstreamAddress: null });
    channel.start();
    const stream = await until(() => (server.logs.at(-1)?.requests.length === 3 ? server.logs.at(-1) : undefined));
    expect(stream.requests[0]?.identifier).toMatchObject({ logName: "weft", node: { id: "n1" } });
    const logs = stream.requests[1]?.logEntries;
    expect(logs?.case).toBe("httpLogs");
    const entry = logs?.case === "httpLogs" ? logs.value.logEntry : [];
    expect(entry.length).toBe(3);
    expect(entry[0]).toMatchObject({
      protocolVersion: 2,
      request: { requestMethod: 1, authority: "cart.shop", path: '/a?b="c"', requestId: "id-1", requestBodyBytes: 3n },
      response: { responseCode: 503, responseBodyBytes: 40n, responseCodeDetails: "upstream_reset_before_response_started" },
      commonProperties: {
        upstreamCluster: "outbound|80||cart",
        upstreamRequestAttemptCount: 2,
        responseFlags: { upstreamConnectionFailure: true, upstreamRetryLimitExceeded: true, noRouteFound: false },
        customTags: { reporter: "destination", source: "web", destination: "cart", reason: "nobody answered" },
        startTime: { seconds: BigInt(Math.floor(record.startTimeMs / 1000)), nanos: 678_000_000 },
        duration: { seconds: 0n, nanos: 12_600_000 },
        tlsProperties: { tlsVersion: 4 },
      },
    });
    expect(entry[0]?.commonProperties?.tlsProperties?.peerCertificateProperties?.subjectAltName[0]?.san).toEqual({
      case: "uri",
      value: "spiffe://a/ns/b/sa/c",
    });
    const tcp = stream.requests[2]?.logEntries;
    expect(tcp?.case === "tcpLogs" ? tcp.value.logEntry[0]?.connectionProperties : undefined).toMatchObject({
      receivedBytes: 3n,
      sentBytes: 40n,
    });
  });

  test("without a log service the queue is bounded and drops are counted", () => {
    const dropped = new MetricRegistry().counter("d", "d").with([]);
    const sink = new AlsSink({ clock: new PausedClock(), random: () => 0.05, channel: channelTo(1), node, logName: "weft", dropped });
    for (let n = 0; n < 2_500; n++) sink.write(record);
    expect(dropped.value).toBe(500);
  });
});
