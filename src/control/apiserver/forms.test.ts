import { describe, expect, test } from "bun:test";
import { decodeProtobuf } from "./protobuf.ts";
import { ApiError } from "./status.ts";
import { humanDuration } from "./table.ts";

describe("ages are written as kubectl writes them", () => {
  const s = 1000;
  const m = 60 * s;
  const h = 60 * m;
  const d = 24 * h;
  // The cases of k8s.io/apimachinery/pkg/util/duration.
  test.each<[number, string]>([
    [-5 * s, "0s"],
    [0, "0s"],
    [70 * s, "70s"],
    [119 * s, "119s"],
    [2 * m, "2m"],
    [2 * m + 5 * s, "2m5s"],
    [9 * m + 59 * s, "9m59s"],
    [10 * m + 59 * s, "10m"],
    [179 * m, "179m"],
    [3 * h, "3h"],
    [3 * h + 5 * m, "3h5m"],
    [8 * h + 5 * m, "8h"],
    [47 * h, "47h"],
    [2 * d, "2d"],
    [2 * d + 5 * h, "2d5h"],
    [8 * d + 5 * h, "8d"],
    [700 * d, "700d"],
    [730 * d, "2y"],
    [800 * d, "2y70d"],
    [365 * 9 * d, "9y"],
  ])("%d ms is %s", (ms, text) => {
    expect(humanDuration(ms)).toBe(text);
  });
});

describe("protobuf bodies", () => {
  const field = (number: number, content: Buffer | string) => {
    const bytes = Buffer.from(content as string);
    return Buffer.concat([Buffer.from([(number << 3) | 2, bytes.length]), bytes]);
  };
  const varint = (number: number, value: number) => Buffer.from([number << 3, value]);
  const envelope = (apiVersion: string, kind: string, raw: Buffer) =>
    Buffer.concat([
      Buffer.from("k8s\0"),
      field(1, Buffer.concat([field(1, apiVersion), field(2, kind)])),
      field(2, raw),
      field(3, ""),
      field(4, ""),
    ]);

  test("a Service comes out as its JSON; fields that Go writes though they are empty are left out", () => {
    const metadata = Buffer.concat([
      field(1, "web"),
      field(2, ""),
      varint(7, 0),
      field(8, ""),
      field(11, Buffer.concat([field(1, "app"), field(2, "web")])),
    ]);
    const port = (name: string, number: number, target: Buffer) =>
      Buffer.concat([field(1, name), field(2, "TCP"), varint(3, number), field(4, target), varint(5, 0)]);
    const spec = Buffer.concat([
      field(1, port("a", 80, Buffer.concat([varint(1, 0), varint(2, 88), field(3, "")]))),
      field(1, port("b", 81, Buffer.concat([varint(1, 1), varint(2, 0), field(3, "http")]))),
      field(2, Buffer.concat([field(1, "app"), field(2, "web")])),
      field(3, ""),
      field(4, "ClusterIP"),
      varint(13, 0),
    ]);
    const bytes = envelope("v1", "Service", Buffer.concat([field(1, metadata), field(2, spec), field(3, field(1, ""))]));
    expect(decodeProtobuf(bytes)).toEqual({
      apiVersion: "v1",
      kind: "Service",
      metadata: { name: "web", labels: { app: "web" } },
      spec: {
        ports: [
          { name: "a", protocol: "TCP", port: 80, targetPort: 88 },
          { name: "b", protocol: "TCP", port: 81, targetPort: "http" },
        ],
        selector: { app: "web" },
        type: "ClusterIP",
      },
    });
  });

  const code = (bytes: Buffer) => {
    try {
      decodeProtobuf(bytes);
    } catch (error) {
      if (error instanceof ApiError) return `${error.status.code} ${error.message}`;
      throw error;
    }
    throw new Error("was accepted");
  };

  test("what is not in the tables is refused, never dropped", () => {
    expect(code(envelope("v1", "Pod", Buffer.alloc(0)))).toBe("415 Pod is not read as protobuf here; send application/json");
    expect(code(envelope("v1", "Service", field(2, field(14, "x"))))).toBe(
      "415 protobuf field 14 of spec is not read here; send application/json",
    );
  });

  test("ConfigMaps and Secrets: bytes are base64, as in JSON", () => {
    const entry = (key: string, value: Buffer | string) => Buffer.concat([field(1, key), field(2, value)]);
    const name = field(1, field(1, "x"));
    const config = Buffer.concat([name, field(2, entry("a", "b")), field(2, entry("c", "")), field(3, entry("d", Buffer.from([0, 255])))]);
    expect(decodeProtobuf(envelope("v1", "ConfigMap", config))).toEqual({
      apiVersion: "v1",
      kind: "ConfigMap",
      metadata: { name: "x" },
      data: { a: "b", c: "" },
      binaryData: { d: "AP8=" },
    });
    const secret = Buffer.concat([name, field(2, entry("tls.key", "key")), field(3, "kubernetes.io/tls")]);
    expect(decodeProtobuf(envelope("v1", "Secret", secret))).toEqual({
      apiVersion: "v1",
      kind: "Secret",
      metadata: { name: "x" },
      data: { "tls.key": "a2V5" },
      type: "kubernetes.io/tls",
    });
    expect(code(envelope("v1", "ConfigMap", field(2, entry("__proto__", "x"))))).toBe('400 "__proto__" is no field name');
  });

  test("EndpointSlices keep what is false; Events keep millionths of a second", () => {
    const slice = Buffer.concat([field(2, Buffer.concat([field(1, "10.0.0.1"), field(2, varint(1, 0))])), field(4, "IPv4")]);
    expect(decodeProtobuf(envelope("discovery.k8s.io/v1", "EndpointSlice", slice))).toEqual({
      apiVersion: "discovery.k8s.io/v1",
      kind: "EndpointSlice",
      endpoints: [{ addresses: ["10.0.0.1"], conditions: { ready: false } }],
      addressType: "IPv4",
    });
    const event = Buffer.concat([
      field(3, "Seen"),
      field(6, varint(1, 60)),
      field(10, Buffer.concat([varint(1, 60), Buffer.from([16, 0xe8, 0x07])])),
    ]);
    expect(decodeProtobuf(envelope("v1", "Event", event))).toEqual({
      apiVersion: "v1",
      kind: "Event",
      reason: "Seen",
      firstTimestamp: "1970-01-01T00:01:00Z",
      eventTime: "1970-01-01T00:01:00.000001Z",
    });
  });

  test("garbage and every truncation are 400 or end early, never a crash", () => {
    expect(code(Buffer.from("nonsense"))).toStartWith("400");
    const whole = envelope("v1", "Namespace", field(1, field(1, "a-name")));
    expect(decodeProtobuf(whole)).toMatchObject({ metadata: { name: "a-name" } });
    for (let length = 1; length < whole.length; length++) {
      try {
        decodeProtobuf(whole.subarray(0, length));
      } catch (error) {
        expect(error).toBeInstanceOf(ApiError);
      }
    }
    expect(code(envelope("v1", "Namespace", field(1, varint(1, 3))))).toContain("metadata.name has wire type 0");
  });
});
