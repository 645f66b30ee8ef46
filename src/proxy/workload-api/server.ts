// Owns: the socket at which programs of this host take the identity of this proxy: the SPIFFE Workload API for applications (go-spiffe, java-spiffe, ...),
// Envoy's secret discovery service for foreign proxies. A Unix socket of this user alone (mode 0600), in a folder of its own: who may open it is who may
// have the identity. Loaded only when a socket is asked for. Never asks for certificates: what the proxy holds is told, and told anew when it changes.

import { chmodSync, lstatSync, renameSync, unlinkSync } from "node:fs";
import {
  Server,
  ServerCredentials,
  type ServerDuplexStream,
  type ServerUnaryCall,
  type ServerWritableStream,
  setLogger,
  status,
  type UntypedServiceImplementation,
} from "@grpc/grpc-js";
import type { Logger } from "../../base/log.ts";
import { decodeBinary } from "../xds/proto/binary.ts";
import { encodeBinary } from "../xds/proto/encode.ts";
import { DiscoveryRequest, DiscoveryResponse } from "../xds/proto/types.ts";
import { bundlesResponse, type Svid, secretOf, svidResponse } from "./answers.ts";
import { mostRequestBytes, type OpenCall, relayService } from "./relay.ts";

export interface WorkloadApiOptions {
  /** Of the socket; what stands there must be a socket, and is replaced. At most `longestPath` bytes. */
  readonly path: string;
  readonly log: Logger;
  /** The identity as it is now; undefined: there is none yet, or it has lapsed. */
  readonly current: () => Svid | undefined;
  /** The way to the control plane for programs with an xDS of their own; absent: none. */
  readonly open?: OpenCall;
}

export interface WorkloadApi {
  /** The identity has changed: every open stream is told. */
  changed(): void;
  close(): void;
}

type Watch = ServerWritableStream<Uint8Array, Uint8Array>;
type Secrets = ServerDuplexStream<Uint8Array, Uint8Array>;

const secretType = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret";
/** SPIFFE_Workload_Endpoint.md 5.1: keeps a page in a browser, or a forged server-side request, from asking. */
const requiredHeader = "workload.spiffe.io";
/** Streams open at once: a program holds one or two. */
export const mostStreams = 1_000;

/** 107 of a Unix socket's address, less the four of the name it is made under. */
const longestPath = 103;

const asIs = (bytes: Uint8Array): Buffer => Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
const method = (path: string, requestStream: boolean, responseStream: boolean) => ({
  path,
  requestStream,
  responseStream,
  requestSerialize: asIs,
  requestDeserialize: (bytes: Buffer): Uint8Array => bytes,
  responseSerialize: asIs,
  responseDeserialize: (bytes: Buffer): Uint8Array => bytes,
});

const workloadService = {
  FetchX509SVID: method("/SpiffeWorkloadAPI/FetchX509SVID", false, true),
  FetchX509Bundles: method("/SpiffeWorkloadAPI/FetchX509Bundles", false, true),
  FetchJWTSVID: method("/SpiffeWorkloadAPI/FetchJWTSVID", false, false),
  FetchJWTBundles: method("/SpiffeWorkloadAPI/FetchJWTBundles", false, true),
  ValidateJWTSVID: method("/SpiffeWorkloadAPI/ValidateJWTSVID", false, false),
};
const secretService = {
  StreamSecrets: method("/envoy.service.secret.v3.SecretDiscoveryService/StreamSecrets", true, true),
  FetchSecrets: method("/envoy.service.secret.v3.SecretDiscoveryService/FetchSecrets", false, false),
};
const noJwt = { code: status.UNIMPLEMENTED, details: "this mesh issues X.509-SVIDs only; use FetchX509SVID" };

/** Listens; throws a sentence where it cannot. */
export async function serveWorkloadApi(options: WorkloadApiOptions): Promise<WorkloadApi> {
  const { path, log, current } = options;
  if (Buffer.byteLength(path) > longestPath)
    throw new Error(`--workload-api ${path}: the path may have ${longestPath} bytes, this one has ${Buffer.byteLength(path)}`);
  const watchers = new Map<Watch | Secrets, () => void>();

  const admit = (call: Watch | Secrets): boolean => {
    if (watchers.size < mostStreams) return true;
    call.emit("error", { code: status.RESOURCE_EXHAUSTED, details: `${mostStreams} streams are open at this socket already` });
    return false;
  };
  const watch = (call: Watch | Secrets, tell: () => void): void => {
    watchers.set(call, tell);
    for (const event of ["close", "cancelled", "error"]) call.on(event, () => watchers.delete(call));
    tell();
  };
  const spiffe = (answer: (svid: Svid) => Uint8Array) => (call: Watch) => {
    if (call.metadata.get(requiredHeader)[0] !== "true") {
      call.emit("error", {
        code: status.INVALID_ARGUMENT,
        details: `the metadata ${requiredHeader}: true is missing (SPIFFE Workload Endpoint, 5.1)`,
      });
      return;
    }
    if (!admit(call)) return;
    watch(call, () => {
      const svid = current();
      // Until there is one the caller waits, as the standard has it for identities that are being made.
      if (svid !== undefined) call.write(answer(svid));
    });
  };

  // The library's own words go into our log, and not to standard error.
  const quiet = (...words: unknown[]): void => log.debug({ words: words.map(String).join(" ") }, "gRPC says");
  setLogger({ error: quiet, info: quiet, debug: quiet });
  const server = new Server({ "grpc.max_receive_message_length": options.open === undefined ? 64 * 1024 : mostRequestBytes });
  server.addService(workloadService, {
    FetchX509SVID: spiffe(svidResponse),
    FetchX509Bundles: spiffe(bundlesResponse),
    FetchJWTSVID: (_call: unknown, reply: (error: object) => void) => reply(noJwt),
    FetchJWTBundles: (call: Watch) => void call.emit("error", noJwt),
    ValidateJWTSVID: (_call: unknown, reply: (error: object) => void) => reply(noJwt),
  });
  server.addService(secretService, {
    StreamSecrets: (call: Secrets) => {
      if (admit(call)) streamSecrets(call, current, log, watch);
    },
    FetchSecrets: (call: ServerUnaryCall<Uint8Array, Uint8Array>, reply: (error: object | null, answer?: Uint8Array) => void) => {
      const svid = current();
      const request = read(call.request);
      if (request === undefined) reply(notARequest);
      else if (svid === undefined) reply({ code: status.UNAVAILABLE, details: "there is no certificate yet" });
      else reply(null, secrets(svid, request.resourceNames, 1));
    },
  });
  if (options.open !== undefined) {
    const { methods, handlers } = relayService(options.open);
    server.addService(methods, handlers as UntypedServiceImplementation);
  }
  await listen(server, path);
  log.info({ path }, "Serving the SPIFFE Workload API.");
  return {
    changed() {
      for (const tell of watchers.values()) tell();
    },
    close() {
      server.forceShutdown();
      try {
        unlinkSync(path);
      } catch {
        // A successor has put its own there, or somebody has cleaned up.
      }
    },
  };
}

/** Bound under another name, closed to others, then put in its place: nobody meets it half made, and a predecessor's is replaced at once. */
async function listen(server: Server, path: string): Promise<void> {
  const there = lstatSync(path, { throwIfNoEntry: false });
  if (there !== undefined && !there.isSocket()) throw new Error(`--workload-api ${path}: something that is no socket stands there`);
  const making = `${path}.${process.pid % 1000}`;
  if (lstatSync(making, { throwIfNoEntry: false })?.isSocket() === true) unlinkSync(making);
  const mask = process.umask(0o177);
  try {
    await new Promise<void>((resolve, reject) => {
      server.bindAsync(`unix:${making}`, ServerCredentials.createInsecure(), (error) => (error === null ? resolve() : reject(error)));
    });
    chmodSync(making, 0o600);
    renameSync(making, path);
  } catch (error) {
    throw new Error(`--workload-api ${path}: cannot listen there: ${error instanceof Error ? error.message : String(error)}`);
  } finally {
    process.umask(mask);
  }
}

const notARequest = { code: status.INVALID_ARGUMENT, details: "this is no DiscoveryRequest" };

function read(bytes: Uint8Array) {
  try {
    return decodeBinary(DiscoveryRequest, bytes, () => {});
  } catch {
    return undefined;
  }
}

function secrets(svid: Svid, wanted: readonly string[], version: number): Uint8Array {
  const resources = wanted.flatMap((name) => {
    const value = secretOf(svid, name);
    return value === undefined ? [] : [{ typeUrl: secretType, value }];
  });
  return encodeBinary(DiscoveryResponse, { versionInfo: String(version), resources, typeUrl: secretType, nonce: String(version) });
}

/** State of the world: each request names what is wanted; an answer goes out when the names or the identity changed. */
function streamSecrets(
  call: Secrets,
  current: () => Svid | undefined,
  log: Logger,
  watch: (call: Secrets, tell: () => void) => void,
): void {
  let wanted: readonly string[] = [];
  let version = 0;
  const tell = (): void => {
    const svid = current();
    if (svid === undefined || wanted.length === 0) return;
    version++;
    call.write(secrets(svid, wanted, version));
  };
  watch(call, tell);
  call.on("data", (bytes: Uint8Array) => {
    const request = read(bytes);
    if (request === undefined) {
      call.emit("error", notARequest);
      return;
    }
    if (request.typeUrl !== "" && request.typeUrl !== secretType) {
      call.emit("error", { code: status.INVALID_ARGUMENT, details: `this socket has secrets only, not ${request.typeUrl}` });
      return;
    }
    if (request.errorDetail !== undefined)
      log.warn({ names: wanted, problem: request.errorDetail.message }, "A proxy at the Workload API refused its secrets.");
    const svid = current();
    const unknown = svid === undefined ? [] : request.resourceNames.filter((name) => secretOf(svid, name) === undefined);
    if (unknown.length > 0) {
      call.emit("error", {
        code: status.INVALID_ARGUMENT,
        details: `there is no secret ${unknown.join(", ")}; this socket has "default" (the identity) and "ROOTCA" (its roots)`,
      });
      return;
    }
    const same = request.resourceNames.length === wanted.length && request.resourceNames.every((name) => wanted.includes(name));
    wanted = request.resourceNames;
    if (!same) tell();
  });
  call.on("end", () => call.end());
}
