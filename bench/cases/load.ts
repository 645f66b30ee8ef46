// Owns: the two cases under load: the plain HTTP/1.1 hop and the mutual-TLS pair. Each brings its origin (and, for the pair, certificates and
// the rogue servers that A must refuse) and leaves the rounds to measure.ts.
import { readFileSync } from "node:fs";
import { createServer, type Server } from "node:tls";
import { type Certificates, type Identity, makeCertificates } from "../certs.ts";
import { freePorts } from "../machine.ts";
import { type CaseResult, measureCase, type Plan } from "../measure.ts";
import type { Found, Tool } from "../peers.ts";
import { untilAnswering } from "../probe.ts";
import type { Workshop } from "../proc.ts";
import { hopSubjects, pairSubjects } from "../subjects/build.ts";
import { HOST, LOAD_PATH, type Subject } from "../subjects/subject.ts";

export interface LoadCase {
  readonly shop: Workshop;
  readonly tools: Readonly<Record<Tool, Found>>;
  readonly plan: Plan;
  /** Subjects to take; empty = all. */
  readonly subjects: readonly string[];
}

const chosen = (all: readonly Subject[], names: readonly string[]): Subject[] =>
  all.filter((subject) => names.length === 0 || names.includes(subject.name));

/** Client -> proxy -> origin over plain HTTP/1.1. */
export async function httpHop(input: LoadCase): Promise<CaseResult> {
  const originPort = await startOrigin(input);
  const subjects = await hopSubjects({ dir: input.shop.dir, originPort, tools: input.tools });
  return measureCase(input.shop, chosen(subjects, input.subjects), null, input.plan);
}

/** Client -> A -> mutual TLS 1.3 -> B -> origin. */
export async function mtlsPair(input: LoadCase): Promise<CaseResult> {
  const { openssl } = input.tools;
  if (openssl.path === null) throw new Error(`the pair needs openssl for its certificates: ${openssl.install}`);
  const certs = makeCertificates(openssl.path, input.shop.dir);
  const originPort = await startOrigin(input);
  const [impostorPort, strangerPort] = await freePorts(2);
  const rogues = [await rogue(impostorPort!, certs.impostorServer, certs), await rogue(strangerPort!, certs.stranger, certs)];
  try {
    const context = { dir: input.shop.dir, originPort, tools: input.tools };
    const subjects = await pairSubjects(context, certs, { impostor: impostorPort!, stranger: strangerPort! });
    return await measureCase(input.shop, chosen(subjects, input.subjects), certs, input.plan);
  } finally {
    for (const server of rogues) server.close();
  }
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
        ALPNProtocols: ["http/1.1"],
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
