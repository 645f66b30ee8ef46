// Owns: the word "load": one kind of work put on a subject, in units that CPU time is divided by. Each run returns counts or throws: a figure
// taken while requests failed says nothing.
import type { Certificates } from "../certs.ts";
import { bodyPath, GRPC_PATH, HOST, LOAD_PATH, OVER_HTTP2, type Subject } from "../subjects/subject.ts";
import { type Driver, type SaturationResult, saturate, saturateHttp2, type Target } from "./drive.ts";
import type { HandshakeResult } from "./handshakes.ts";
import { GRPC_MESSAGE_BYTES } from "./nginx-origin.ts";

export type Unit = "request" | "MiB" | "handshake";

export interface LoadResult extends SaturationResult {
  /** How many of the load's unit were done. */
  readonly units: number;
}

export interface Load {
  /** Told apart by this within a case; null for the only load of a case. */
  readonly name: string | null;
  readonly unit: Unit;
  /** Requests that each subject has served before its rounds count; 0 or absent: `warmSeconds` are enough. */
  readonly warmRequests?: number;
  /** Subjects that cannot do it by their nature, by name. */
  readonly without?: readonly string[];
  readonly run: (driver: Driver, subject: Subject, seconds: number) => Promise<LoadResult>;
}

const MIB = 1 << 20;
/** Small requests: a runtime with a compiler has made its code by then; a compiled proxy loses nothing by it. */
const warmRequests = 100_000;
/** Bodies: as many as bring a compiler to rest by their frames and reads, in some seconds. */
const warmBodies = { "64k": 30_000, "1m": 5_000 } as const;
const requests = (result: SaturationResult): LoadResult => ({ ...result, units: result.requests });
const mebibytes = (result: SaturationResult): LoadResult => ({ ...result, units: result.bytes / MIB });

function front(subject: Subject): NonNullable<Subject["front"]> {
  if (subject.front === undefined) throw new Error(`${subject.name} has no listeners of a front`);
  return subject.front;
}

/** The driver's connections over HTTP/1.1, answers of 100 bytes: the load of the hop and of the pair. */
export const small: Load = {
  name: null,
  unit: "request",
  run: async (driver, subject, seconds) => requests(await saturate(driver, { port: subject.port, host: HOST, path: LOAD_PATH }, seconds)),
};

/** 8 connections x 16 streams over HTTP/2, answers of 100 bytes. */
export function smallHttp2(name: string, tls: boolean, upstream: "http1" | "http2", without: readonly string[] = []): Load {
  const path = upstream === "http2" ? LOAD_PATH.replace("/api", OVER_HTTP2) : LOAD_PATH;
  return {
    name,
    unit: "request",
    warmRequests,
    without,
    run: async (driver, subject, seconds) =>
      requests(
        await saturateHttp2(
          driver,
          { port: tls ? front(subject).tls : front(subject).http2, host: HOST, path, tls },
          { connections: 8, streams: 16 },
          seconds,
        ),
      ),
  };
}

/** Unary calls over 8 connections x 16 streams. `file` holds the request. An answer without its message fails the run. */
export function grpcUnary(file: string): Load {
  return {
    name: null,
    unit: "request",
    warmRequests,
    without: ["nginx"], // it closes a connection to a gRPC origin now and then under this load, and answers 502
    run: async (driver, subject, seconds) => {
      const target: Target = { port: front(subject).http2, host: HOST, path: GRPC_PATH };
      const result = await saturateHttp2(driver, target, { connections: 8, streams: 16, grpcFile: file }, seconds);
      const each = result.bytes / result.requests;
      // A failed call is 200 with trailers alone; the answers still under way when the time is over make it a little more.
      if (each < GRPC_MESSAGE_BYTES + 5 - 0.5) throw new Error(`${each.toFixed(1)} bytes an answer: some calls had no message`);
      return requests(result);
    },
  };
}

/** Large answers. HTTP/1.1: 16 connections; HTTP/2: 8 connections x 2 streams, to an origin over HTTP/2 as well. */
export function bodies(protocol: "http1" | "http2", tls: boolean, size: "64k" | "1m"): Load {
  const path = bodyPath(size);
  return {
    name: `${size} ${tls ? "tls" : "plain"}`,
    unit: "MiB",
    warmRequests: warmBodies[size],
    ...(protocol === "http2" ? { without: ["nginx"] } : {}),
    run: async (driver, subject, seconds) => {
      const { http2: http2Port, tls: tlsPort } = front(subject);
      if (protocol === "http1")
        return mebibytes(
          await saturate({ ...driver, connections: 16 }, { port: tls ? tlsPort : subject.port, host: HOST, path, tls }, seconds),
        );
      const target: Target = { port: tls ? tlsPort : http2Port, host: HOST, path: path.replace("/api", OVER_HTTP2), tls };
      return mebibytes(await saturateHttp2(driver, target, { connections: 8, streams: 2 }, seconds));
    },
  };
}

/** Answers of 1 MiB through the opaque listener, 16 connections. */
export const opaque: Load = {
  name: null,
  unit: "MiB",
  run: async (driver, subject, seconds) => {
    const port = front(subject).tcp;
    if (port === null) throw new Error(`${subject.name} has no opaque listener`);
    return mebibytes(await saturate({ ...driver, connections: 16 }, { port, host: HOST, path: bodyPath("1m") }, seconds));
  },
};

/** Full mutual handshakes with one request each. */
export function fullHandshakes(certs: Certificates): Load {
  return {
    name: null,
    unit: "handshake",
    run: async (driver, subject, seconds) => {
      const script = new URL("./handshakes.ts", import.meta.url).pathname;
      const args = [front(subject).mutual, HOST, LOAD_PATH, 8, seconds, certs.client.certFile, certs.client.keyFile].map(String);
      const child = Bun.spawn(["taskset", "-c", driver.cores, process.execPath, script, ...args], { stdout: "pipe", stderr: "pipe" });
      const text = await new Response(child.stdout).text();
      if ((await child.exited) !== 0) throw new Error(`the handshakes failed: ${(await new Response(child.stderr).text()).slice(-300)}`);
      const result: HandshakeResult = JSON.parse(text);
      if (result.errors > 0) throw new Error(`${result.errors} of ${result.errors + result.handshakes} handshakes failed: ${result.why}`);
      if (result.resumed > 0) throw new Error(`${result.resumed} of ${result.handshakes} handshakes were resumed: they are no full ones`);
      return {
        units: result.handshakes,
        requests: result.handshakes,
        requestsPerSecond: result.handshakes / seconds,
        bytes: 0,
        p50Us: null,
        p99Us: null,
      };
    },
  };
}
