// The seat of a connectrpc conformance run with proxies in it; connectconformance starts this program as "the implementation under test".
//   server SHAPE SERVER: starts the reference server, puts a way before it, and gives out the way's port as the server's.
//   client SHAPE CLIENT: passes calls to the reference client, each aimed at a way that leads to the server it was meant for.
//   translate SHAPE SERVER: as server, but gRPC-Web calls meet a server of gRPC: the way has to translate.
// Messages are length-prefixed protobuf; only the few fields that matter are read, and later ones win over earlier ones, so changes are appended.

import { openWay, type Shape, type Way } from "../support/way.ts";

const [mode, shape, program] = process.argv.slice(2) as ["server" | "client" | "translate", Shape, string];

// Field numbers of connectrpc.conformance.v1.
const requestHttpVersion = 2;
const requestProtocol = 1;
const answerHost = 1;
const answerPort = 2;
const callHttpVersion = 2;
const callHost = 6;
const callPort = 7;
const [httpVersion2, protocolGrpc] = [2, 2];

const ways: Way[] = [];
const grpcWeb = {
  name: "envoy.filters.http.grpc_web",
  typed_config: { "@type": "type.googleapis.com/envoy.extensions.filters.http.grpc_web.v3.GrpcWeb" },
};

async function wayTo(port: number, http2: boolean): Promise<Way> {
  const filters = mode === "translate" ? [grpcWeb] : [];
  const way = await openWay({ shape, origin: port, originHttp2: http2, filters });
  ways.push(way);
  return way;
}

function varint(bytes: Uint8Array, at: number): [value: number, next: number] {
  let value = 0;
  for (let shift = 0; ; shift += 7) {
    const byte = bytes[at++] as number;
    value += (byte & 0x7f) * 2 ** shift;
    if (byte < 0x80) return [value, at];
  }
}

/** The last value of a number field. */
function numberField(message: Uint8Array, wanted: number): number {
  let found = 0;
  for (let at = 0; at < message.length; ) {
    const [key, next] = varint(message, at);
    const kind = key & 7;
    const [value, after] = kind === 0 || kind === 2 ? varint(message, next) : [0, next + (kind === 1 ? 8 : 4)];
    if (key >> 3 === wanted) found = value;
    at = kind === 2 ? after + value : after;
  }
  return found;
}

function numberBytes(value: number): number[] {
  const out: number[] = [];
  for (let rest = value; ; rest >>>= 7) {
    if (rest < 0x80) return [...out, rest];
    out.push((rest & 0x7f) | 0x80);
  }
}

const withNumber = (message: Uint8Array, field: number, value: number): Uint8Array =>
  Buffer.concat([message, Uint8Array.from([...numberBytes(field << 3), ...numberBytes(value)])]);

function withText(message: Uint8Array, field: number, value: string): Uint8Array {
  const text = Buffer.from(value);
  return Buffer.concat([message, Uint8Array.from([...numberBytes((field << 3) | 2), ...numberBytes(text.length)]), text]);
}

function framed(message: Uint8Array): Uint8Array {
  const head = Buffer.alloc(4);
  head.writeUInt32BE(message.length);
  return Buffer.concat([head, message]);
}

async function* messages(stream: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  let held = Buffer.alloc(0);
  for await (const part of stream) {
    held = Buffer.concat([held, part]);
    while (held.length >= 4 && held.length >= 4 + held.readUInt32BE(0)) {
      const size = held.readUInt32BE(0);
      yield held.subarray(4, 4 + size);
      held = held.subarray(4 + size);
    }
  }
}

async function first(stream: AsyncIterable<Uint8Array>): Promise<Uint8Array> {
  for await (const message of messages(stream)) return message;
  throw new Error("the stream ended before a message came");
}

async function serve(): Promise<void> {
  const request = await first(Bun.stdin.stream());
  const http2 = mode === "translate" || numberField(request, requestHttpVersion) === httpVersion2;
  const asked =
    mode === "translate" ? withNumber(withNumber(request, requestHttpVersion, httpVersion2), requestProtocol, protocolGrpc) : request;
  const child = Bun.spawn([program], { stdin: "pipe", stdout: "pipe", stderr: "inherit" });
  const end = async (): Promise<void> => {
    for (const way of ways) await way.stop();
    child.kill("SIGTERM");
    await child.exited;
    process.exit(0);
  };
  process.on("SIGTERM", () => void end());
  child.stdin.write(framed(asked));
  await child.stdin.flush();
  const answer = await first(child.stdout);
  const way = await wayTo(numberField(answer, answerPort), http2);
  await Bun.write(Bun.stdout, framed(withNumber(withText(answer, answerHost, "127.0.0.1"), answerPort, way.port)));
  await child.exited;
}

async function call(): Promise<void> {
  const child = Bun.spawn([program], { stdin: "pipe", stdout: "inherit", stderr: "inherit" });
  const known = new Map<string, Promise<Way>>();
  for await (const request of messages(Bun.stdin.stream())) {
    const port = numberField(request, callPort);
    const http2 = numberField(request, callHttpVersion) === httpVersion2;
    const key = `${port} ${http2}`;
    const way = known.get(key) ?? wayTo(port, http2);
    known.set(key, way);
    child.stdin.write(framed(withNumber(withText(request, callHost, "127.0.0.1"), callPort, (await way).port)));
    await child.stdin.flush();
  }
  await child.stdin.end();
  const status = await child.exited;
  for (const way of ways) await way.stop();
  process.exit(status);
}

await (mode === "client" ? call() : serve());
