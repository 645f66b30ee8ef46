// Owns: the fuzz target of the writer: what it makes of any accepted head is read again as the same head, without what is for one hop.

import { text } from "../../../src/proxy/http/bytes.ts";
import { field, form, Head, parseAnswer, parseRequest } from "../../../src/proxy/http1/head.ts";
import { lacks, persistence, RequestPlan, writeAnswer, writeRequest } from "../../../src/proxy/http1/write.ts";
import { scratch } from "../../../src/proxy/net/outbox.ts";
import { bytesOf, must, type Target } from "../target.ts";
import { answers } from "../vectors/http1-answers.ts";
import { requests } from "../vectors/http1-requests.ts";
import { http1Words } from "./words.ts";

const head = new Head();
const again = new Head();
const plan = new RequestPlan();

interface Line {
  readonly name: string;
  readonly value: string;
  readonly kind: number;
}

function lines(bytes: Uint8Array, of: Head): readonly Line[] {
  return Array.from({ length: of.count }, (_, i) => ({
    name: text(bytes, of.nameFrom[i] as number, of.nameTo[i] as number),
    value: text(bytes, of.valueFrom[i] as number, of.valueTo[i] as number),
    kind: of.kind[i] as number,
  }));
}

function sameLines(wanted: readonly Line[], got: readonly Line[]): boolean {
  return wanted.length === got.length && wanted.every((line, i) => line.name === got[i]?.name && line.value === got[i]?.value);
}

function checkRequest(bytes: Buffer): void {
  if (parseRequest(bytes, 0, bytes.length, head) <= 0 || head.form === form.authority) return;
  // HTTP/1.0 without Host: whatever stands for it is not from this head.
  if (head.authorityTo === head.authorityFrom) return;
  const method = text(bytes, head.from, head.methodTo);
  const path = text(bytes, head.pathFrom, head.pathTo);
  const authority = text(bytes, head.authorityFrom, head.authorityTo);
  const absolute = head.form === form.absolute;
  const kept = lines(bytes, head).filter((line) => line.kind < field.dropFrom && !(absolute && line.kind === field.host));
  const size = writeRequest(bytes, head, plan);
  const out = Buffer.from(scratch.subarray(0, size));
  must(parseRequest(out, 0, size, again) === size, "what is written is not one head", out.toString("latin1"));
  must(text(out, again.from, again.methodTo) === method, "another method", out.toString("latin1"));
  const target = text(out, again.pathFrom, again.pathTo);
  must(
    again.form !== form.absolute && (target === path || target === `/${path}` || (target === "*" && path === "")),
    "another target",
    target,
    path,
  );
  must(text(out, again.authorityFrom, again.authorityTo) === authority, "another host", out.toString("latin1"));
  must(again.contentLength === head.contentLength && again.chunked === head.chunked, "another framing", out.toString("latin1"));
  const written = lines(out, again);
  must(!written.some((line) => line.kind >= field.dropFrom), "a field for one hop is written", out.toString("latin1"));
  must(sameLines(kept, absolute ? written.slice(1) : written), "other fields, or in another order", out.toString("latin1"));
}

function checkAnswer(bytes: Buffer): void {
  if (parseAnswer(bytes, 0, bytes.length, head) <= 0) return;
  const status = head.status;
  const size = writeAnswer(bytes, head, null, persistence.silent, false, true, lacks.nothing, null);
  const out = Buffer.from(scratch.subarray(0, size));
  must(parseAnswer(out, 0, size, again) === size && again.status === status, "what is written is not this head", out.toString("latin1"));
  const written = lines(out, again);
  must(
    !again.chunked && !written.some((line) => line.kind >= field.dropFrom),
    "framing or a field for one hop is written",
    out.toString("latin1"),
  );
  const plain = lines(bytes, head).filter((line) => line.kind === field.plain);
  must(
    sameLines(
      plain,
      written.filter((line) => line.kind === field.plain),
    ),
    "other fields, or in another order",
    out.toString("latin1"),
  );
}

export const http1Forward: Target = {
  name: "http1-forward",
  seeds: bytesOf([...requests, ...answers].filter((vector) => vector.raw.length < 1_000).map((vector) => vector.raw)),
  words: bytesOf(http1Words),
  most: 4_096,
  check: (input) => {
    checkRequest(Buffer.from(input));
    checkAnswer(Buffer.from(input));
  },
};
