// @grpc/grpc-js on Node, as server (`server`: on $PORT, else any; prints {"port":N}, ends with its standard input) or as client (`client PORT`: makes one call of every
// kind and prints a line of JSON for each: [what, outcome]). Messages are bytes; no schema is needed to see what a proxy does to them.

import { createHash } from "node:crypto";
import { createRequire } from "node:module";

const grpc = createRequire(import.meta.url)("@grpc/grpc-js");
const same = (bytes) => bytes;
const method = (name, requestStream, responseStream) => ({
  path: `/judge.Judge/${name}`,
  requestStream,
  responseStream,
  requestSerialize: same,
  requestDeserialize: same,
  responseSerialize: same,
  responseDeserialize: same,
});
const service = {
  unary: method("Unary", false, false),
  gather: method("Gather", true, false),
  pour: method("Pour", false, true),
  talk: method("Talk", true, true),
  fail: method("Fail", false, false),
  failLate: method("FailLate", false, true),
  sleep: method("Sleep", false, false),
  deadline: method("Deadline", false, false),
  metadata: method("Metadata", false, false),
  cancelled: method("Cancelled", false, false),
};
const roomy = {
  "grpc.max_receive_message_length": 16 * 1024 * 1024,
  "grpc.max_send_message_length": 16 * 1024 * 1024,
  "grpc-node.max_session_memory": 64,
  "grpc.max_metadata_size": 64 * 1024,
};
const hash = (bytes) => createHash("sha256").update(bytes).digest("hex").slice(0, 16);

function serve() {
  let cancelled = 0;
  const server = new grpc.Server(roomy);
  server.addService(service, {
    unary: (call, done) => done(null, call.request),
    gather(call, done) {
      const sum = createHash("sha256");
      let count = 0;
      call.on("data", (bytes) => {
        sum.update(bytes);
        count++;
      });
      call.on("end", () => done(null, Buffer.from(`${count} ${sum.digest("hex").slice(0, 16)}`)));
    },
    async pour(call) {
      const [count, size] = call.request.toString().split(" ").map(Number);
      for (let n = 0; n < count; n++) {
        if (!call.write(Buffer.alloc(size, n & 0xff))) await new Promise((resolve) => call.once("drain", resolve));
      }
      call.end();
    },
    talk(call) {
      call.on("data", (bytes) => call.write(Buffer.from(`re: ${bytes}`)));
      call.on("end", () => call.end());
      call.on("cancelled", () => cancelled++);
    },
    fail(_call, done) {
      const metadata = new grpc.Metadata();
      metadata.set("x-detail", "kept");
      metadata.set("x-blob-bin", Buffer.from([0, 1, 254, 255]));
      done({ code: grpc.status.FAILED_PRECONDITION, details: "not ready: 50 % ünder way\n", metadata });
    },
    failLate(call) {
      call.write(Buffer.from("first"));
      call.write(Buffer.from("second"));
      call.emit("error", { code: grpc.status.DATA_LOSS, details: "lost the third" });
    },
    sleep: () => {},
    deadline: (call, done) => done(null, Buffer.from(String(Number(call.getDeadline()) - Date.now()))),
    metadata(call, done) {
      const echoed = new grpc.Metadata();
      for (const [key, value] of Object.entries(call.metadata.getMap())) if (key.startsWith("x-")) echoed.set(key, value);
      for (const value of call.metadata.get("x-many")) echoed.add("x-many-back", value);
      call.sendMetadata(echoed);
      const trailers = new grpc.Metadata();
      trailers.set("x-trailing", "t".repeat(8_000));
      done(null, Buffer.alloc(0), trailers);
    },
    cancelled: (_call, done) => done(null, Buffer.from(String(cancelled))),
  });
  server.bindAsync(`127.0.0.1:${process.env.PORT ?? 0}`, grpc.ServerCredentials.createInsecure(), (error, port) => {
    if (error) throw error;
    console.log(JSON.stringify({ port }));
  });
  process.stdin.resume().on("end", () => process.exit(0));
}

async function call(port) {
  const client = new grpc.Client(`127.0.0.1:${port}`, grpc.credentials.createInsecure(), roomy);
  const say = (what, outcome) => console.log(JSON.stringify([what, outcome]));
  const failure = (error) => ({ code: error.code, details: error.details });
  const inSeconds = (seconds) => ({ deadline: new Date(Date.now() + seconds * 1000) });
  const unary = (path, bytes, metadata = new grpc.Metadata(), options = inSeconds(10)) =>
    new Promise((resolve) => {
      const out = {};
      const made = client.makeUnaryRequest(path, same, same, bytes, metadata, options, (error, answer) => {
        out.error = error;
        out.answer = answer;
      });
      made.on("metadata", (value) => {
        out.metadata = value;
      });
      made.on("status", (status) => resolve({ ...out, status }));
    });
  const readAll = (stream) =>
    new Promise((resolve) => {
      const got = [];
      let failed;
      stream.on("data", (bytes) => got.push(bytes));
      stream.on("error", (error) => {
        failed = failure(error);
      });
      stream.on("status", (status) => setImmediate(() => resolve({ got, failed, status })));
    });

  for (const size of [0, 1, 100_000, 8 * 1024 * 1024]) {
    const sent = Buffer.alloc(size, "weft");
    const { answer, error } = await unary("/judge.Judge/Unary", sent);
    say(`unary of ${size}`, error ? failure(error) : answer.equals(sent));
  }
  const gathered = await new Promise((resolve) => {
    const stream = client.makeClientStreamRequest("/judge.Judge/Gather", same, same, (error, answer) =>
      resolve(error ? failure(error) : answer.toString()),
    );
    for (let n = 0; n < 200; n++) stream.write(Buffer.alloc(n * 50, n & 0xff));
    stream.end();
  });
  const whole = Buffer.concat(Array.from({ length: 200 }, (_, n) => Buffer.alloc(n * 50, n & 0xff)));
  say("client streaming", gathered === `200 ${hash(whole)}` ? true : gathered);

  const poured = await readAll(client.makeServerStreamRequest("/judge.Judge/Pour", same, same, Buffer.from("300 20000")));
  say("server streaming", [
    poured.got.length,
    poured.got.every((bytes, n) => bytes.length === 20_000 && bytes[0] === (n & 0xff)),
    poured.status.code,
  ]);

  // Each message waits for the answer to the one before: a proxy that holds one back stops this.
  const talk = client.makeBidiStreamRequest("/judge.Judge/Talk", same, same, new grpc.Metadata(), inSeconds(10));
  const heard = [];
  await new Promise((resolve) => {
    talk.on("data", (bytes) => {
      heard.push(bytes.toString());
      if (heard.length < 20) talk.write(Buffer.from(`message ${heard.length}`));
      else talk.end();
    });
    talk.on("error", (error) => heard.push(failure(error)));
    talk.on("status", resolve);
    talk.write(Buffer.from("message 0"));
  });
  say("message by message", heard.length === 20 && heard[19] === "re: message 19" ? true : heard);

  const failed = await unary("/judge.Judge/Fail", Buffer.from("x"));
  say("a failure in trailers alone", [
    failure(failed.error),
    failed.status.metadata.get("x-detail"),
    failed.status.metadata.get("x-blob-bin")[0].toString("hex"),
  ]);
  const late = await readAll(client.makeServerStreamRequest("/judge.Judge/FailLate", same, same, Buffer.from("x")));
  say("a failure after messages", [late.got.map(String), late.failed]);

  const unknown = await unary("/judge.Judge/Nothing", Buffer.from("x"));
  say("a method that is not there", unknown.error.code);
  const asleep = await unary("/judge.Judge/Sleep", Buffer.from("x"), new grpc.Metadata(), inSeconds(0.3));
  say("the client's own deadline", asleep.error.code);
  const left = Number((await unary("/judge.Judge/Deadline", Buffer.from("x"), new grpc.Metadata(), inSeconds(5))).answer);
  say("the server is told the deadline", left > 3_000 && left <= 5_100 ? true : left);

  const metadata = new grpc.Metadata();
  metadata.set("x-large", "m".repeat(16_000));
  metadata.set("x-bytes-bin", Buffer.from([9, 0, 255]));
  metadata.add("x-many", "one");
  metadata.add("x-many", "two");
  const told = await unary("/judge.Judge/Metadata", Buffer.alloc(0), metadata);
  say(
    "metadata both ways",
    told.error
      ? failure(told.error)
      : [
          told.metadata.get("x-large")[0].length,
          told.metadata.get("x-bytes-bin")[0].toString("hex"),
          told.metadata.get("x-many-back").join(", "),
          told.status.metadata.get("x-trailing")[0].length,
        ],
  );

  const cancellations = async () => Number((await unary("/judge.Judge/Cancelled", Buffer.alloc(0))).answer);
  const before = await cancellations();
  const cut = client.makeBidiStreamRequest("/judge.Judge/Talk", same, same);
  cut.on("error", () => {});
  await new Promise((resolve) => {
    cut.on("data", resolve);
    cut.write(Buffer.from("hello"));
  });
  cut.cancel();
  let more = 0;
  for (let n = 0; n < 200 && more === 0; n++) more = (await cancellations()) - before;
  say("the server learns of a cancellation", more);

  // What the proxy refuses itself.
  for (const path of ["/denied.Service/Call", "/nobody.Service/Call", "/late.Service/Call", "/nowhere.Service/Call"]) {
    const { error } = await unary(path, Buffer.from("x"));
    say(path, error ? failure(error) : "an answer");
  }
  const refusedStream = client.makeBidiStreamRequest("/denied.Service/Talk", same, same, new grpc.Metadata(), inSeconds(10));
  const refusedCode = await new Promise((resolve) => {
    refusedStream.on("error", () => {});
    refusedStream.on("status", (status) => resolve(status.code));
    refusedStream.on("data", () => {});
    refusedStream.write(Buffer.alloc(100_000));
  });
  say("a stream that is denied", refusedCode);
  client.close();
}

await (process.argv[2] === "server" ? serve() : call(Number(process.argv[3])));
