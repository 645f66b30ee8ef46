// Owns: the proof that a front does the work of its case, asked by curl, so that HTTP/2, ALPN and trailers are judged by a foreign client.
import { mkdtempSync, readFileSync } from "node:fs";
import { join } from "node:path";
import type { Certificates } from "./certs.ts";
import { checkSubject, expect } from "./checks.ts";
import { bodySizes, grpcFrame } from "./load/nginx-origin.ts";
import { probe } from "./probe.ts";
import type { FrontWants } from "./subjects/front-bootstrap.ts";
import { bodyPath, ECHO_PATH, FORBIDDEN_PATH, GRPC_PATH, HOST, LOAD_PATH, OVER_HTTP2, type Subject } from "./subjects/subject.ts";

interface Asked {
  /** `2 200` and so on. */
  readonly status: string;
  /** Head and trailers, lower case. */
  readonly head: string;
  readonly body: Buffer;
}

export interface FrontCheck {
  readonly curl: string;
  readonly dir: string;
  readonly certs: Certificates;
  readonly wants: FrontWants;
  /** The file with the gRPC request. */
  readonly grpcFile: string;
}

/** Every check that fits what the case wants; nginx is not asked for HTTP/2 to an origin, which it has for gRPC alone. */
export async function checkFront(subject: Subject, check: FrontCheck): Promise<string[]> {
  const listeners = subject.front!;
  const dir = mkdtempSync(join(check.dir, "check-"));
  const ask = (url: string, ...flags: readonly string[]): Asked => {
    const out = join(dir, "body");
    const head = join(dir, "head");
    const command = [
      "-s",
      "-k",
      "-m",
      "10",
      "-o",
      out,
      "-D",
      head,
      "-w",
      "%{http_version} %{http_code}",
      "-H",
      `Host: ${HOST}`,
      ...flags,
      url,
    ];
    const ran = Bun.spawnSync([check.curl, ...command], { stdout: "pipe", stderr: "pipe" });
    const status = ran.stdout.toString();
    if (ran.exitCode !== 0) return { status: `curl: exit status ${ran.exitCode}`, head: "", body: Buffer.alloc(0) };
    return { status, head: readFileSync(head, "latin1").toLowerCase(), body: readFileSync(out) };
  };
  const proven = await checkSubject(subject, null);
  const large = await probe({ port: subject.port, host: HOST, path: bodyPath("64k") });
  expect(subject, large?.body.length === bodySizes["64k"], "a body of 64 KiB, whole", large === null ? null : large.body.length);
  if (check.wants.tls) {
    const answer = await probe({ port: listeners.tls, host: HOST, path: LOAD_PATH, tls: { identity: null } });
    expect(subject, answer?.status === 200 && answer.tlsVersion === "TLSv1.3", "200 over TLS 1.3", answer);
    const known = await probe({ port: listeners.mutual, host: HOST, path: LOAD_PATH, tls: { identity: check.certs.client } });
    expect(subject, known?.status === 200, "200 over mutual TLS", known);
    const none = await probe({ port: listeners.mutual, host: HOST, path: LOAD_PATH, tls: { identity: null } });
    expect(subject, none?.status !== 200, "no 200 without a client certificate", none);
    const other = await probe({ port: listeners.mutual, host: HOST, path: LOAD_PATH, tls: { identity: check.certs.impostorClient } });
    expect(subject, other?.status !== 200, "no 200 for a client certificate of another CA", other);
    proven.push("TLS 1.3", "refuses no certificate and another CA's on the mutual port");
  }
  if (check.wants.tcp && listeners.tcp !== null) {
    const answer = await probe({ port: listeners.tcp, host: "unknown.example", path: LOAD_PATH });
    expect(subject, answer?.status === 200, "the origin's answer whatever the host, through the opaque port", answer);
    proven.push("the opaque port does not look at what passes");
  }
  if (check.wants.http2) proven.push(...http2(subject, check, ask));
  return proven;
}

function http2(subject: Subject, check: FrontCheck, ask: (url: string, ...flags: readonly string[]) => Asked): string[] {
  const { http2: plain, tls } = subject.front!;
  const prior = "--http2-prior-knowledge";
  const at = (path: string): string => `http://127.0.0.1:${plain}${path}`;
  const upstreams = subject.name === "nginx" ? ["/api"] : ["/api", OVER_HTTP2];
  const ids: string[] = [];
  for (const under of upstreams) {
    const small = ask(at(LOAD_PATH.replace("/api", under)), prior);
    expect(subject, small.status === "2 200" && small.body.length === 100, `200 with 100 bytes over HTTP/2 below ${under}`, small.status);
    const large = ask(at(bodyPath("1m").replace("/api", under)), prior);
    expect(subject, large.body.length === bodySizes["1m"], `a body of 1 MiB over HTTP/2 below ${under}`, large.body.length);
    const echo = ask(at(ECHO_PATH.replace("/api", under)), prior).body.toString("latin1");
    const id = /^x-request-id: (\S{16,})/.exec(echo)?.[1];
    expect(subject, id !== undefined, `a request id at the origin below ${under}`, echo);
    ids.push(id!);
  }
  expect(subject, new Set(ids).size === ids.length, "a new request id for each request", ids);
  const refused = ask(at(FORBIDDEN_PATH), prior);
  expect(subject, refused.status === "2 403", "403 for a forbidden path over HTTP/2", refused.status);
  if (check.wants.tls) {
    const secure = ask(`https://127.0.0.1:${tls}${LOAD_PATH}`, "--http2");
    expect(subject, secure.status === "2 200", "200 over HTTP/2 chosen by ALPN", secure.status);
  }
  const call = ask(
    at(GRPC_PATH),
    prior,
    "--data-binary",
    `@${check.grpcFile}`,
    "-H",
    "content-type: application/grpc",
    "-H",
    "te: trailers",
  );
  expect(subject, call.status === "2 200" && call.body.equals(grpcFrame()), "the message of a gRPC call", call.status);
  expect(subject, /^grpc-status: 0\r?$/m.test(call.head), "grpc-status 0 in the trailers", call.head);
  return ["HTTP/2 by prior knowledge and by ALPN", "a gRPC call with its trailers"];
}
