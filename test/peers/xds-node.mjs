// Owns: the Node program of `xds-proxyless.test.ts`, on @grpc/grpc-js-xds. `serve PORT NAME` answers each message of /test.Echo/Unary with `NAME MESSAGE`;
// `plain PORT NAME` does so without xDS; `call TARGET` makes a call for each line of standard input and prints [code, answer or reason] as a line of JSON. GRPC_XDS_BOOTSTRAP says where the mesh is.

import { createInterface } from "node:readline";
import { Client, credentials, Server, ServerCredentials, status } from "@grpc/grpc-js";
import { register, XdsChannelCredentials, XdsServer, XdsServerCredentials } from "@grpc/grpc-js-xds";

const asIs = (bytes) => bytes;
const path = "/test.Echo/Unary";
const [what, ...rest] = process.argv.slice(2);

register();
if (what === "serve" || what === "plain") {
  const [port, name] = rest;
  const server = what === "plain" ? new Server() : new XdsServer();
  const insecure = ServerCredentials.createInsecure();
  const definition = {
    unary: {
      path,
      requestStream: false,
      responseStream: false,
      requestSerialize: asIs,
      requestDeserialize: asIs,
      responseSerialize: asIs,
      responseDeserialize: asIs,
    },
  };
  server.addService(definition, { unary: (call, reply) => reply(null, Buffer.from(`${name} ${call.request}`)) });
  server.bindAsync(`127.0.0.1:${port}`, what === "plain" ? insecure : new XdsServerCredentials(insecure), (error) => {
    if (error) throw error;
    console.log(JSON.stringify({ ready: true }));
  });
} else {
  const [target] = rest;
  const client = new Client(
    target,
    target.startsWith("xds:") ? new XdsChannelCredentials(credentials.createInsecure()) : credentials.createInsecure(),
  );
  for await (const line of createInterface({ input: process.stdin })) {
    const deadline = new Date(Date.now() + 4000);
    const outcome = await new Promise((resolve) =>
      client.makeUnaryRequest(path, asIs, asIs, Buffer.from(line), { deadline }, (error, answer) =>
        resolve(error ? [status[error.code], error.details] : ["OK", String(answer)]),
      ),
    );
    console.log(JSON.stringify(outcome));
  }
  process.exit(0);
}
