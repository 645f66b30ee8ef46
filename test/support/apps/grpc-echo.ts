// A gRPC service for tests, of @grpc/grpc-js: every kind of call on `test.Echo` and, the same under another name, on `test.Other`. Answers name the instance.

import * as grpc from "@grpc/grpc-js";

const instance = process.env.INSTANCE ?? "grpc";
const same = (bytes: Buffer): Buffer => bytes;

function methods(service: string): grpc.ServiceDefinition {
  const method = (name: string, requestStream: boolean, responseStream: boolean) => ({
    path: `/${service}/${name}`,
    requestStream,
    responseStream,
    requestSerialize: same,
    requestDeserialize: same,
    responseSerialize: same,
    responseDeserialize: same,
  });
  return {
    Unary: method("Unary", false, false),
    Gather: method("Gather", true, false),
    Pour: method("Pour", false, true),
    Talk: method("Talk", true, true),
    Fail: method("Fail", false, false),
  };
}

const handlers: grpc.UntypedServiceImplementation = {
  Unary: (call: grpc.ServerUnaryCall<Buffer, Buffer>, done: grpc.sendUnaryData<Buffer>) =>
    done(null, Buffer.from(`${instance} ${call.request}`)),
  Gather: (call: grpc.ServerReadableStream<Buffer, Buffer>, done: grpc.sendUnaryData<Buffer>) => {
    let all = "";
    call.on("data", (bytes: Buffer) => {
      all += bytes.toString();
    });
    call.on("end", () => done(null, Buffer.from(all)));
  },
  Pour: (call: grpc.ServerWritableStream<Buffer, Buffer>) => {
    for (let n = 0; n < Number(call.request.toString()); n++) call.write(Buffer.from(String(n)));
    call.end();
  },
  Talk: (call: grpc.ServerDuplexStream<Buffer, Buffer>) => {
    call.on("data", (bytes: Buffer) => call.write(Buffer.from(`re ${bytes}`)));
    call.on("end", () => call.end());
  },
  Fail: (_call: grpc.ServerUnaryCall<Buffer, Buffer>, done: grpc.sendUnaryData<Buffer>) =>
    done({ code: grpc.status.FAILED_PRECONDITION, details: "not ready" }),
};

const server = new grpc.Server();
for (const service of ["test.Echo", "test.Other"]) server.addService(methods(service), handlers);
server.bindAsync(`127.0.0.1:${process.env.PORT}`, grpc.ServerCredentials.createInsecure(), (error) => {
  if (error !== null) throw error;
});
