// Owns: a small control plane for tests: real gRPC (grpc-js), scripted answers, everything it hears kept. Never loaded by the proxy.

import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { create, type DescMessage, fromBinary, type MessageShape, toBinary } from "@bufbuild/protobuf";
import * as grpc from "@grpc/grpc-js";
import {
  type StreamAccessLogsMessage,
  StreamAccessLogsMessageSchema,
  StreamAccessLogsResponseSchema,
} from "../../wire/gen/envoy/service/accesslog/v3/als_pb.ts";
import {
  type DeltaDiscoveryRequest,
  DeltaDiscoveryRequestSchema,
  type DeltaDiscoveryResponse,
  DeltaDiscoveryResponseSchema,
  type DiscoveryRequest,
  DiscoveryRequestSchema,
  type DiscoveryResponse,
  DiscoveryResponseSchema,
} from "../../wire/gen/envoy/service/discovery/v3/discovery_pb.ts";
import {
  type StreamMetricsMessage,
  StreamMetricsMessageSchema,
  StreamMetricsResponseSchema,
} from "../../wire/gen/envoy/service/metrics/v3/metrics_service_pb.ts";
import {
  type IstioCertificateRequest,
  IstioCertificateRequestSchema,
  IstioCertificateResponseSchema,
} from "../../wire/gen/security/v1/istioca_pb.ts";

export interface FakeStream<Request, Response> {
  readonly requests: Request[];
  readonly metadata: grpc.Metadata;
  send(response: Response): void;
  end(status?: grpc.StatusObject): void;
  ended: boolean;
}

export interface FakeControlPlane {
  readonly port: number;
  readonly delta: FakeStream<DeltaDiscoveryRequest, DeltaDiscoveryResponse>[];
  readonly sotw: FakeStream<DiscoveryRequest, DiscoveryResponse>[];
  readonly metrics: FakeStream<StreamMetricsMessage, never>[];
  readonly logs: FakeStream<StreamAccessLogsMessage, never>[];
  readonly certificateRequests: { readonly request: IstioCertificateRequest; readonly metadata: grpc.Metadata }[];
  /** Signs; replace to answer otherwise. Throws a grpc.ServiceError-like to refuse. */
  sign: (request: IstioCertificateRequest) => readonly string[];
  stop(): void;
}

export interface FakeOptions {
  readonly tls?: { readonly ca: string; readonly cert: string; readonly key: string };
  readonly port?: number;
}

function codec<D extends DescMessage>(desc: D) {
  return {
    serialize: (message: MessageShape<D>) => Buffer.from(toBinary(desc, message)),
    deserialize: (bytes: Buffer) => fromBinary(desc, bytes),
  };
}

function stream<Request, Response>(
  path: string,
  request: { deserialize: (bytes: Buffer) => Request },
  response: { serialize: (message: Response) => Buffer },
): grpc.MethodDefinition<Request, Response> {
  return {
    path,
    requestStream: true,
    responseStream: true,
    requestSerialize: () => Buffer.alloc(0),
    requestDeserialize: request.deserialize,
    responseSerialize: response.serialize,
    responseDeserialize: () => undefined as Response,
  };
}

/** Listens on 127.0.0.1, port 0 unless told. */
export async function startFakeControlPlane(options: FakeOptions = {}): Promise<FakeControlPlane> {
  const server = new grpc.Server();
  const fake: FakeControlPlane = {
    port: 0,
    delta: [],
    sotw: [],
    metrics: [],
    logs: [],
    certificateRequests: [],
    sign: () => {
      throw Object.assign(new Error("no authority here"), { code: grpc.status.UNIMPLEMENTED });
    },
    stop: () => server.forceShutdown(),
  };
  const collect =
    <Request, Response>(into: FakeStream<Request, Response>[]) =>
    (call: grpc.ServerDuplexStream<Request, Response>): void => {
      const one: FakeStream<Request, Response> = {
        requests: [],
        metadata: call.metadata,
        ended: false,
        send: (response) => void call.write(response),
        end: (status) => (status === undefined ? call.end() : call.emit("error", status)),
      };
      into.push(one);
      call.on("data", (request: Request) => one.requests.push(request));
      call.on("end", () => {
        one.ended = true;
        call.end();
      });
      call.on("cancelled", () => {
        one.ended = true;
      });
      call.on("error", () => {
        one.ended = true;
      });
    };
  server.addService(
    {
      delta: stream(
        "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources",
        codec(DeltaDiscoveryRequestSchema),
        codec(DeltaDiscoveryResponseSchema),
      ),
      sotw: stream(
        "/envoy.service.discovery.v3.AggregatedDiscoveryService/StreamAggregatedResources",
        codec(DiscoveryRequestSchema),
        codec(DiscoveryResponseSchema),
      ),
      metrics: stream(
        "/envoy.service.metrics.v3.MetricsService/StreamMetrics",
        codec(StreamMetricsMessageSchema),
        codec(StreamMetricsResponseSchema),
      ),
      logs: stream(
        "/envoy.service.accesslog.v3.AccessLogService/StreamAccessLogs",
        codec(StreamAccessLogsMessageSchema),
        codec(StreamAccessLogsResponseSchema),
      ),
      sign: {
        path: "/istio.v1.auth.IstioCertificateService/CreateCertificate",
        requestStream: false,
        responseStream: false,
        requestSerialize: () => Buffer.alloc(0),
        requestDeserialize: codec(IstioCertificateRequestSchema).deserialize,
        responseSerialize: codec(IstioCertificateResponseSchema).serialize,
        responseDeserialize: () => undefined,
      },
    },
    {
      delta: collect(fake.delta),
      sotw: collect(fake.sotw),
      metrics: collect(fake.metrics as FakeStream<StreamMetricsMessage, unknown>[]),
      logs: collect(fake.logs as FakeStream<StreamAccessLogsMessage, unknown>[]),
      sign(call: grpc.ServerUnaryCall<IstioCertificateRequest, unknown>, callback: grpc.sendUnaryData<unknown>) {
        fake.certificateRequests.push({ request: call.request, metadata: call.metadata });
        try {
          callback(null, create(IstioCertificateResponseSchema, { certChain: [...fake.sign(call.request)] }));
        } catch (error) {
          callback(error as grpc.ServiceError);
        }
      },
    },
  );
  const credentials =
    options.tls === undefined
      ? grpc.ServerCredentials.createInsecure()
      : grpc.ServerCredentials.createSsl(Buffer.from(options.tls.ca), [
          { private_key: Buffer.from(options.tls.key), cert_chain: Buffer.from(options.tls.cert) },
        ]);
  const port = await new Promise<number>((resolve, reject) => {
    server.bindAsync(`127.0.0.1:${options.port ?? 0}`, credentials, (error, bound) => (error === null ? resolve(bound) : reject(error)));
  });
  return Object.assign(fake, { port });
}

/** Polls until `check` answers something true; fails after four seconds. */
export async function until<T>(check: () => T | undefined | false | null, what = "the condition"): Promise<T> {
  const deadline = performance.now() + 4_000;
  for (;;) {
    const found = check();
    if (found) return found;
    if (performance.now() > deadline) throw new Error(`${what} did not come about`);
    await Bun.sleep(2);
  }
}

/** An authority made with openssl, which is no code of ours. */
export interface TestAuthority {
  readonly caPem: string;
  /** A server certificate; `san` as openssl writes it, for example `DNS:localhost,URI:spiffe://…`. */
  issue(san: string): { readonly cert: string; readonly key: string };
  /** Signs a request (PEM) with the names it asks for. */
  signRequest(csrPem: string, days?: number): string;
  /** An authority below this one. */
  intermediate(name: string): TestAuthority;
  /** Text of openssl's view of a request. */
  readRequest(csrPem: string): string;
  close(): void;
}

export function createTestAuthority(name = "test root", above?: { readonly folder: string }): TestAuthority {
  const folder = mkdtempSync(join(tmpdir(), "weft-authority-"));
  const run = (...args: string[]): string => {
    const done = Bun.spawnSync(["openssl", ...args], { cwd: folder, stderr: "pipe" });
    if (done.exitCode !== 0) throw new Error(`openssl ${args[0]}: ${done.stderr.toString()}`);
    return done.stdout.toString();
  };
  const newKey = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];
  const parent = above === undefined ? [] : ["-CA", join(above.folder, "ca.crt"), "-CAkey", join(above.folder, "ca.key")];
  run("req", "-x509", ...newKey, "-keyout", "ca.key", "-out", "ca.crt", "-days", "2", "-subj", `/CN=${name}`, ...parent);
  let count = 0;
  return {
    caPem: readFileSync(join(folder, "ca.crt"), "utf8"),
    issue(san) {
      const id = `s${count++}`;
      run(
        "req",
        "-x509",
        ...newKey,
        "-keyout",
        `${id}.key`,
        "-out",
        `${id}.crt`,
        "-days",
        "1",
        "-subj",
        `/CN=${id}`,
        "-addext",
        `subjectAltName=${san}`,
        "-addext",
        "basicConstraints=critical,CA:FALSE",
        "-CA",
        "ca.crt",
        "-CAkey",
        "ca.key",
      );
      return { cert: readFileSync(join(folder, `${id}.crt`), "utf8"), key: readFileSync(join(folder, `${id}.key`), "utf8") };
    },
    signRequest(csrPem, days = 1) {
      const id = `r${count++}`;
      writeFileSync(join(folder, `${id}.csr`), csrPem);
      run(
        "x509",
        "-req",
        "-in",
        `${id}.csr`,
        "-CA",
        "ca.crt",
        "-CAkey",
        "ca.key",
        "-CAcreateserial",
        "-out",
        `${id}.crt`,
        "-days",
        String(days),
        "-copy_extensions",
        "copyall",
      );
      return readFileSync(join(folder, `${id}.crt`), "utf8");
    },
    intermediate: (below) => createTestAuthority(below, { folder }),
    readRequest(csrPem) {
      const id = `r${count++}`;
      writeFileSync(join(folder, `${id}.csr`), csrPem);
      return run("req", "-in", `${id}.csr`, "-noout", "-verify", "-text");
    },
    close: () => rmSync(folder, { recursive: true, force: true }),
  };
}
