// Owns: the proof, before anything is measured, that a subject does the work it is measured for. Each check throws with what was expected.
import type { Certificates } from "./certs.ts";
import { probe } from "./probe.ts";
import { ECHO_PATH, FORBIDDEN_PATH, HOST, LOAD_PATH, type Subject } from "./subjects/subject.ts";

/** Runs every check that fits the case; returns what was proven, for the report. */
export async function checkSubject(subject: Subject, certs: Certificates | null): Promise<string[]> {
  const proven = [await answers(subject), await requestId(subject), ...(await policy(subject)), await routing(subject)];
  if (certs !== null && subject.middlePort !== undefined) proven.push(...(await middleHop(subject, subject.middlePort, certs)));
  return proven;
}

/** Throws what was expected and what came. */
export function expect(subject: Subject, holds: boolean, expected: string, got: unknown): void {
  if (!holds) throw new Error(`${subject.name}: expected ${expected}, got ${got === null ? "no answer" : JSON.stringify(got)}`);
}

async function answers(subject: Subject): Promise<string> {
  const answer = await probe({ port: subject.port, host: HOST, path: LOAD_PATH });
  expect(
    subject,
    answer?.status === 200 && answer.body.length === 100 && answer.body.startsWith("weft-bench"),
    "200 with the origin's 100 bytes",
    answer,
  );
  return "answers 200 with the origin's body";
}

async function requestId(subject: Subject): Promise<string> {
  const ids: string[] = [];
  for (let i = 0; i < 2; i++) {
    const answer = await probe({ port: subject.port, host: HOST, path: ECHO_PATH });
    const id = /^x-request-id: *(\S{16,})\r?$/im.exec(answer?.body ?? "")?.[1];
    expect(subject, id !== undefined, "an x-request-id of at least 16 characters at the origin", answer);
    ids.push(id!);
  }
  expect(subject, ids[0] !== ids[1], "a new request id for each request", ids);
  return "adds a new x-request-id to each request";
}

async function policy(subject: Subject): Promise<string[]> {
  const admin = await probe({ port: subject.port, host: HOST, path: FORBIDDEN_PATH });
  expect(subject, admin?.status === 403, `403 for GET ${FORBIDDEN_PATH}`, admin);
  const write = await probe({ port: subject.port, host: HOST, path: LOAD_PATH, method: "DELETE" });
  expect(subject, write?.status === 403, `403 for DELETE ${LOAD_PATH}`, write);
  return ["refuses a forbidden path with 403", "refuses a forbidden method with 403"];
}

async function routing(subject: Subject): Promise<string> {
  const answer = await probe({ port: subject.port, host: "unknown.example", path: LOAD_PATH });
  expect(subject, answer !== null && answer.status >= 400, "an error for a host that has no route", answer);
  return "routes by host";
}

async function middleHop(subject: Subject, port: number, certs: Certificates): Promise<string[]> {
  const ask = (identity: Certificates["client"] | null, maxVersion?: "TLSv1.2") =>
    probe({ port, host: HOST, path: LOAD_PATH, tls: { identity, ...(maxVersion === undefined ? {} : { maxVersion }) } });
  const right = await ask(certs.client);
  expect(
    subject,
    right?.status === 200 && right.tlsVersion === "TLSv1.3",
    "200 over TLSv1.3 on the middle hop with the right client certificate",
    right,
  );
  const plain = await probe({ port, host: HOST, path: LOAD_PATH });
  expect(subject, plain?.status !== 200, "no 200 over plain text on the middle hop", plain);
  const old = await ask(certs.client, "TLSv1.2");
  expect(subject, old?.status !== 200, "no 200 over TLS 1.2 on the middle hop", old);
  const none = await ask(null);
  expect(subject, none?.status !== 200, "no 200 without a client certificate", none);
  const impostor = await ask(certs.impostorClient);
  expect(subject, impostor?.status !== 200, "no 200 for a client certificate of another CA", impostor);
  const stranger = await ask(certs.stranger);
  expect(subject, stranger?.status !== 200, "no 200 for another identity under the same CA", stranger);
  for (const path of ["/impostor", "/stranger"]) {
    // HAProxy tries a refused server three more times, a second apart.
    const answer = await probe({ port: subject.port, host: HOST, path, timeoutMs: 10_000 });
    expect(subject, answer !== null && answer.status >= 500, `a 5xx from A when the server is the ${path.slice(1)}`, answer);
  }
  return [
    "middle hop is TLS 1.3 only",
    "B refuses no certificate, another CA's, another identity",
    "A refuses a server of another CA and one with another identity",
  ];
}
