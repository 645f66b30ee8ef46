// Owns: the cases under load: the plain hop, the mutual-TLS pair, and those on a front (HTTP/2, gRPC, bodies, opaque TCP, handshakes). Each brings
// its origin (and, for the pair, the rogue servers that A must refuse) and leaves the rounds to measure.ts.
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { createServer, type Server } from "node:tls";
import { type Certificates, type Identity, makeCertificates } from "../certs.ts";
import { checkSubject } from "../checks.ts";
import { type CallCount, countCalls, countRecords, type RecordCount } from "../count.ts";
import { checkFront } from "../front-checks.ts";
import { bodies, fullHandshakes, grpcUnary, type Load, opaque, small, smallHttp2 } from "../load/loads.ts";
import { grpcFrame, startNginxOrigin } from "../load/nginx-origin.ts";
import { startQuickOrigins } from "../load/quick-origin.ts";
import { freePorts } from "../machine.ts";
import { type CaseResult, measureCase, type Plan, type Work } from "../measure.ts";
import type { Found, Tool } from "../peers.ts";
import { untilAnswering } from "../probe.ts";
import type { Workshop } from "../proc.ts";
import { frontSubjects, hopSubjects, pairSubjects } from "../subjects/build.ts";
import type { FrontWants } from "../subjects/front-bootstrap.ts";
import { HOST, LOAD_PATH, type Subject } from "../subjects/subject.ts";

export interface LoadCase {
  readonly shop: Workshop;
  readonly tools: Readonly<Record<Tool, Found>>;
  readonly plan: Plan;
  /** Subjects to take; empty = all. */
  readonly subjects: readonly string[];
  /** Count system calls (and, in a pair, TLS records) after the rounds. */
  readonly countCalls: boolean;
}

export interface LoadCaseResult extends CaseResult {
  readonly calls: readonly CallCount[];
  readonly records: readonly RecordCount[];
}

/** A name takes the subject and all its ways: `envoy` is `envoy-http1` and `envoy-http2` too. */
export const chosen = (all: readonly Subject[], names: readonly string[]): Subject[] =>
  all.filter((subject) => names.length === 0 || names.some((name) => subject.name === name || subject.name.startsWith(`${name}-`)));

async function measured(input: LoadCase, work: Work): Promise<LoadCaseResult> {
  const calls: CallCount[] = [];
  const records: RecordCount[] = [];
  const after: Work["after"] = async (running, load) => {
    for (const one of running) {
      calls.push(...(await countCalls(one, load, input.plan, input.tools.strace)));
      if (one.subject.tap !== undefined) records.push(await countRecords(input.shop, one.subject, load, input.plan));
    }
  };
  const result = await measureCase(
    input.shop,
    { ...work, subjects: chosen(work.subjects, input.subjects), ...(input.countCalls ? { after } : {}) },
    input.plan,
  );
  return { ...result, calls, records };
}

/** Client -> proxy -> origin over plain HTTP/1.1. */
export async function httpHop(input: LoadCase): Promise<LoadCaseResult> {
  const originPort = await startOrigin(input);
  const subjects = await hopSubjects({ dir: input.shop.dir, originPort, tools: input.tools });
  return measured(input, { subjects, loads: [small], check: (subject) => checkSubject(subject, null), fixedRate: true });
}

/** Client -> A -> mutual TLS 1.3 -> B -> origin. */
export async function mtlsPair(input: LoadCase): Promise<LoadCaseResult> {
  const certs = certificates(input);
  const originPort = await startOrigin(input);
  const [impostorPort, strangerPort] = await freePorts(2);
  const rogues = [await rogue(impostorPort!, certs.impostorServer, certs), await rogue(strangerPort!, certs.stranger, certs)];
  try {
    const context = { dir: input.shop.dir, originPort, tools: input.tools };
    const subjects = await pairSubjects(context, certs, { impostor: impostorPort!, stranger: strangerPort! });
    return await measured(input, { subjects, loads: [small], check: (subject) => checkSubject(subject, certs), fixedRate: true });
  } finally {
    for (const server of rogues) server.close();
  }
}

type Quick = false | "small" | "bodies";

/** What every case on a front stands on. `quick`: small answers over HTTP/2, or bodies too, come from origins that spend little on them. */
export async function frontBench(
  input: Pick<LoadCase, "shop" | "tools" | "plan">,
  wants: FrontWants,
  quick: Quick = false,
): Promise<{
  readonly subjects: readonly Subject[];
  readonly certs: Certificates;
  readonly grpcFile: string;
  readonly check: (subject: Subject) => Promise<string[]>;
}> {
  const { nginx, curl } = input.tools;
  if (nginx.path === null) throw new Error(`the origin of this case is nginx: ${nginx.install}`);
  if (curl.path === null) throw new Error(`the checks of this case need curl: ${curl.install}`);
  const certs = certificates(input);
  const { cores } = input.plan.driver;
  const { http1, http2 } = await startNginxOrigin(input.shop, nginx.path, cores);
  const origin = { http1, ...(quick ? await startQuickOrigins(input, http2, cores, quick === "bodies") : { http2, grpc: http2 }) };
  const subjects = await frontSubjects({ dir: input.shop.dir, tools: input.tools }, origin, certs, wants);
  const grpcFile = join(input.shop.dir, "grpc-request");
  writeFileSync(grpcFile, grpcFrame());
  const check = { curl: curl.path, dir: input.shop.dir, certs, wants, grpcFile };
  return { subjects, certs, grpcFile, check: (subject) => checkFront(subject, check) };
}

const onFront =
  (wants: FrontWants, loads: (certs: Certificates, grpcFile: string) => readonly Load[], quick: Quick = false) =>
  async (input: LoadCase): Promise<LoadCaseResult> => {
    const { subjects, certs, grpcFile, check } = await frontBench(input, wants, quick);
    return measured(input, { subjects, loads: loads(certs, grpcFile), check, fixedRate: false });
  };

const sizes = ["64k", "1m"] as const;

/** HTTP/2 in; by name of the load what goes out. */
export const http2Hop = onFront(
  { http2: true, tls: true, tcp: false },
  () => [
    smallHttp2("h2-h2", false, "http2", ["nginx"]),
    smallHttp2("h2-http1", false, "http1"),
    smallHttp2("tls-h2", true, "http2", ["nginx"]),
  ],
  "small",
);

export const grpc = onFront({ http2: true, tls: false, tcp: false }, (_, file) => [grpcUnary(file)], "small");

export const bodiesHttp1 = onFront({ http2: false, tls: true, tcp: false }, () =>
  [false, true].flatMap((tls) => sizes.map((size) => bodies("http1", tls, size))),
);

export const bodiesHttp2 = onFront(
  { http2: true, tls: true, tcp: false },
  () => [false, true].flatMap((tls) => sizes.map((size) => bodies("http2", tls, size))),
  "bodies",
);

export const tcp = onFront({ http2: false, tls: false, tcp: true }, () => [opaque]);

export const handshakes = onFront({ http2: false, tls: true, tcp: false }, (certs) => [fullHandshakes(certs)]);

function certificates(input: Pick<LoadCase, "shop" | "tools">): Certificates {
  const { openssl } = input.tools;
  if (openssl.path === null) throw new Error(`this case needs openssl for its certificates: ${openssl.install}`);
  return makeCertificates(openssl.path, input.shop.dir);
}

async function startOrigin(input: LoadCase): Promise<number> {
  const [port] = await freePorts(1);
  const script = new URL("../load/origin.ts", import.meta.url).pathname;
  const origin = input.shop.start("origin", [process.execPath, script, String(port)], input.plan.driver.cores);
  await untilAnswering(origin, { port: port!, host: HOST, path: LOAD_PATH }, performance.now());
  return port!;
}

/** Answers 200 to whoever completes a handshake with it: a proxy that lets that happen fails the check. */
function rogue(port: number, identity: Identity, certs: Certificates): Promise<Server> {
  return new Promise((resolve, reject) => {
    const server = createServer(
      {
        key: readFileSync(identity.keyFile),
        cert: readFileSync(identity.certFile),
        ca: readFileSync(certs.caFile),
        requestCert: true,
        rejectUnauthorized: false,
        ALPNProtocols: ["h2", "http/1.1"],
      },
      (socket) => {
        socket.on("error", () => {});
        socket.on("data", () => socket.end("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nrogue"));
      },
    );
    server.on("tlsClientError", () => {});
    server.once("error", reject);
    server.listen(port, "127.0.0.1", () => resolve(server));
  });
}
