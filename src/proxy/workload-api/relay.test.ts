// The relay between a local program (grpc-js over a real socket) and a control plane that is a record.

import { afterEach, expect, test } from "bun:test";
import {
  Client,
  type ClientDuplexStream,
  credentials,
  Server,
  ServerCredentials,
  type ServiceError,
  status,
  type UntypedServiceImplementation,
} from "@grpc/grpc-js";
import type { GrpcCall, GrpcEvents } from "../xds/grpc.ts";
import { mostRelayed, mostUnread, relayService } from "./relay.ts";

const cleanups: (() => unknown)[] = [];
afterEach(() => {
  for (const run of cleanups.splice(0).reverse()) run();
});

async function until(what: string, holds: () => boolean): Promise<void> {
  const end = performance.now() + 5_000;
  while (!holds()) {
    if (performance.now() > end) throw new Error(`not within 5 s: ${what}`);
    await Bun.sleep(2);
  }
}

interface Upstream {
  readonly path: string;
  readonly events: GrpcEvents;
  readonly said: string[];
}

async function relay(connected = true) {
  const calls: Upstream[] = [];
  const { methods, handlers } = relayService((path, events) => {
    if (!connected) return undefined;
    const said: string[] = [];
    calls.push({ path, events, said });
    const call = {
      send: (bytes: Uint8Array) => said.push(Buffer.from(bytes).toString()) > 0,
      finish: () => said.push("(end)"),
      cancel: () => said.push("(cancel)"),
    };
    return call as unknown as GrpcCall;
  });
  const server = new Server();
  server.addService(methods, handlers as UntypedServiceImplementation);
  const port = await new Promise<number>((resolve, reject) =>
    server.bindAsync("127.0.0.1:0", ServerCredentials.createInsecure(), (error, bound) => (error ? reject(error) : resolve(bound))),
  );
  const client = new Client(`127.0.0.1:${port}`, credentials.createInsecure(), { "grpc.max_receive_message_length": -1 });
  cleanups.push(
    () => server.forceShutdown(),
    () => client.close(),
  );
  const asIs = (bytes: Buffer): Buffer => bytes;
  const open = (path = "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources") => {
    const call: ClientDuplexStream<Buffer, Buffer> = client.makeBidiStreamRequest(path, asIs, asIs);
    const stream = { call, got: [] as string[], error: undefined as ServiceError | undefined, ended: false };
    call.on("error", (error: ServiceError) => {
      stream.error = error;
    });
    call.on("end", () => {
      stream.ended = true;
    });
    cleanups.push(() => call.cancel());
    return stream;
  };
  return { calls, open };
}

test("messages and the end pass both ways, as they are", async () => {
  const { calls, open } = await relay();
  const stream = open();
  stream.call.on("data", (bytes: Buffer) => stream.got.push(String(bytes)));
  stream.call.write(Buffer.from("first"));
  stream.call.write(Buffer.from("second"));
  await until("both are there", () => calls[0]?.said.length === 2);
  expect(calls[0]?.path).toBe("/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources");
  expect(calls[0]?.said).toEqual(["first", "second"]);
  calls[0]?.events.message(Buffer.from("answer"));
  await until("the answer", () => stream.got.length === 1);
  stream.call.end();
  await until("the end", () => calls[0]?.said.at(-1) === "(end)");
  calls[0]?.events.ended({ code: 0, message: "" });
  await until("the other end", () => stream.ended);
  expect(stream.error).toBeUndefined();
});

test("the control plane's refusal reaches the program in its words", async () => {
  const { calls, open } = await relay();
  const stream = open();
  stream.call.resume();
  stream.call.write(Buffer.from("who am I"));
  await until("it is there", () => calls.length === 1);
  calls[0]?.events.ended({ code: status.PERMISSION_DENIED, message: "you are not" });
  await until("told", () => stream.error !== undefined);
  expect(stream.error).toMatchObject({ code: status.PERMISSION_DENIED, details: "you are not" });
});

test("without a connection it is said at once", async () => {
  const { open } = await relay(false);
  const stream = open();
  stream.call.resume();
  await until("told", () => stream.error !== undefined);
  expect(stream.error?.code).toBe(status.UNAVAILABLE);
});

test("a program that goes takes its stream along", async () => {
  const { calls, open } = await relay();
  const stream = open();
  stream.call.write(Buffer.from("x"));
  await until("it is there", () => calls[0]?.said.length === 1);
  stream.call.cancel();
  await until("cancelled", () => calls[0]?.said.at(-1) === "(cancel)");
});

test("a program that does not read is ended", async () => {
  const { calls, open } = await relay();
  const stream = open();
  stream.call.write(Buffer.from("x"));
  await until("it is there", () => calls.length === 1);
  const bytes = new Uint8Array(16 * 1024 * 1024);
  for (let sent = 0; sent <= mostUnread + 2 * bytes.length; sent += bytes.length) calls[0]?.events.message(bytes);
  expect(calls[0]?.said.at(-1)).toBe("(cancel)");
  stream.call.resume();
  await until("told", () => stream.error !== undefined);
  expect(stream.error?.code).toBe(status.RESOURCE_EXHAUSTED);
});

test("so many streams and no more, and one that ends makes room", async () => {
  const { calls, open } = await relay();
  const streams = Array.from({ length: mostRelayed }, () => open());
  for (const { call } of streams) call.write(Buffer.from("x"));
  await until("all are there", () => calls.length === mostRelayed);
  const beyond = open();
  beyond.call.resume();
  await until("told", () => beyond.error !== undefined);
  expect(beyond.error?.code).toBe(status.RESOURCE_EXHAUSTED);
  streams[0]?.call.cancel();
  await until("room", () => calls[0]?.said.at(-1) === "(cancel)");
  const next = open();
  next.call.write(Buffer.from("y"));
  await until("the next is there", () => calls.length === mostRelayed + 1);
});
