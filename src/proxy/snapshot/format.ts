// Owns: the bytes of a snapshot: how what the control plane gave is laid out in one file, and every check before any of it is believed. Pure.
// Never decides whether a certificate may be used, and never decodes a resource: that is the gate's work, as for what comes over the wire.

import { pushOrder, type StreamType, streamOrder, type XdsType } from "../../wire/xds-types.ts";
import { KeyPair } from "../identity/key-pair.ts";
import type { Incoming, KeptResources } from "../xds/store.ts";

/** Raised whenever the layout or the meaning of a field changes; another one is refused. */
export const formatVersion = 1;
/** With virtual hosts that were asked for one by one. A snapshot without any is of the format before, which older programs read. */
const withHosts = 2;

/** 100 000 endpoints are about 20 MiB; more than this is a fault, and would be read in one go before the first request. */
export const mostBytes = 64 * 1024 * 1024;

/** Whose snapshot it is. */
export interface Owner {
  /** node.id of the bootstrap. */
  readonly node: string;
  readonly trustDomain: string;
}

export interface KeptIdentity {
  readonly certificate: KeyPair;
  readonly rootsPem: string;
  /** Text of the deny list; absent: nobody was denied, or nothing was told. */
  readonly denied?: string;
}

/** What is worth keeping at one moment. */
export interface Kept {
  /** As accepted, bytes and all. */
  readonly resources: KeptResources;
  readonly identity: KeptIdentity | null;
}

export interface Snapshot extends Kept {
  /** Version of the program that wrote it, for the log: what it holds is judged by this program's own gate. */
  readonly program: string;
  readonly writtenAtMs: number;
}

/** `reason` is the label of `weft_snapshot_failures_total`. */
export interface Refusal {
  readonly reason: "corrupt" | "format" | "foreign";
  readonly message: string;
}

const magic = new TextEncoder().encode("WEFTSNAP");
/** magic, format (u32), header bytes (u32), body bytes (u32), written at (f64, ms), SHA-256 of all but itself. */
const digestAt = magic.length + 4 + 4 + 4 + 8;
const digestBytes = 32;
const headAt = digestAt + digestBytes;

interface Header extends Owner {
  readonly program: string;
  readonly identity: {
    readonly certificatePem: string;
    readonly privateKeyPem: string;
    readonly rootsPem: string;
    readonly denied?: string;
  } | null;
  /** Name, version and number of bytes; the bytes follow the header in the same order. */
  readonly resources: { readonly [T in XdsType]: readonly Entry[] } & { readonly host?: readonly Entry[] };
}

type Entry = readonly [name: string, version: string, bytes: number];

/** Everything but the time, so that two of them can be compared. */
export interface Content {
  readonly format: number;
  readonly header: Uint8Array;
  readonly body: readonly Uint8Array[];
  readonly size: number;
  /** Not for integrity: says cheaply whether anything has changed since the last one. */
  readonly fingerprint: string;
}

export function contentOf(kept: Kept, owner: Owner, program: string): Content {
  const body: Uint8Array[] = [];
  const resources = {} as Record<StreamType, [string, string, number][]>;
  for (const type of streamOrder) {
    const some = kept.resources[type];
    if (some === undefined || (type === "host" && some.length === 0)) continue;
    resources[type] = some.map(({ name, version, bytes }) => {
      body.push(bytes);
      return [name, version, bytes.length];
    });
  }
  const { identity } = kept;
  const made: Header = {
    node: owner.node,
    trustDomain: owner.trustDomain,
    program,
    resources,
    identity:
      identity === null
        ? null
        : {
            certificatePem: identity.certificate.certificatePem,
            privateKeyPem: identity.certificate.privateKeyPem,
            rootsPem: identity.rootsPem,
            ...(identity.denied === undefined ? {} : { denied: identity.denied }),
          },
  };
  const header = new TextEncoder().encode(JSON.stringify(made));
  let fingerprint = String(Bun.hash(header));
  for (const bytes of body) fingerprint = String(Bun.hash(bytes, BigInt(fingerprint)));
  const format = resources.host === undefined ? formatVersion : withHosts;
  return { format, header, body, fingerprint, size: headAt + header.length + body.reduce((sum, bytes) => sum + bytes.length, 0) };
}

export function encodeSnapshot(content: Content, writtenAtMs: number): Uint8Array {
  const out = new Uint8Array(content.size);
  const view = new DataView(out.buffer);
  out.set(magic, 0);
  view.setUint32(8, content.format);
  view.setUint32(12, content.header.length);
  view.setUint32(16, content.size - headAt - content.header.length);
  view.setFloat64(20, writtenAtMs);
  out.set(content.header, headAt);
  let at = headAt + content.header.length;
  for (const bytes of content.body) {
    out.set(bytes, at);
    at += bytes.length;
  }
  out.set(digestOf(out), digestAt);
  return out;
}

/** All of it, or why none of it. */
export function decodeSnapshot(bytes: Uint8Array, owner: Owner): Snapshot | Refusal {
  const corrupt = (message: string): Refusal => ({ reason: "corrupt", message });
  if (bytes.length < headAt) return corrupt(`it ends after ${bytes.length} bytes`);
  if (magic.some((byte, n) => bytes[n] !== byte)) return corrupt("it does not begin as a snapshot does");
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const format = view.getUint32(8);
  if (format !== formatVersion && format !== withHosts)
    return { reason: "format", message: `it is of format ${format}, and this program reads formats ${formatVersion} and ${withHosts}` };
  const [headerBytes, bodyBytes] = [view.getUint32(12), view.getUint32(16)];
  const expected = headAt + headerBytes + bodyBytes;
  if (bytes.length !== expected) return corrupt(`it has ${bytes.length} bytes instead of ${expected}`);
  if (Buffer.compare(digestOf(bytes), bytes.subarray(digestAt, headAt)) !== 0) return corrupt("its content is not what its hash says");
  const header = readHeader(bytes.subarray(headAt, headAt + headerBytes));
  if (header === undefined) return corrupt("its header cannot be read");
  if (header.node !== owner.node) return foreign("node", header.node, owner.node);
  if (header.trustDomain !== owner.trustDomain) return foreign("trust domain", header.trustDomain, owner.trustDomain);
  const resources = {} as Record<XdsType, Incoming[]> & { host?: Incoming[] };
  let at = headAt + headerBytes;
  for (const type of streamOrder) {
    const some = header.resources[type];
    if (some === undefined) continue;
    resources[type] = some.map(([name, version, length]) => {
      // A copy, so that one resource that stays does not keep the whole file in memory.
      const one = { name, version, bytes: bytes.slice(at, at + length) };
      at += length;
      return one;
    });
  }
  if (at !== bytes.length) return corrupt("its parts do not add up");
  const { identity } = header;
  return {
    program: header.program,
    writtenAtMs: view.getFloat64(20),
    resources,
    identity:
      identity === null
        ? null
        : {
            certificate: new KeyPair(identity.certificatePem, identity.privateKeyPem),
            rootsPem: identity.rootsPem,
            ...(identity.denied === undefined ? {} : { denied: identity.denied }),
          },
  };
}

function foreign(what: string, has: string, wants: string): Refusal {
  return { reason: "foreign", message: `it is of ${what} ${JSON.stringify(has)}, and this proxy is ${JSON.stringify(wants)}` };
}

function digestOf(bytes: Uint8Array): Uint8Array {
  return new Bun.CryptoHasher("sha256").update(bytes.subarray(0, digestAt)).update(bytes.subarray(headAt)).digest();
}

/** The hash has held, so only another program's idea of the format can be wrong here. */
function readHeader(bytes: Uint8Array): Header | undefined {
  try {
    const read = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes)) as Header;
    const text = (value: unknown): boolean => typeof value === "string";
    const { identity } = read;
    const whole = ([name, version, length]: Entry): boolean => text(name) && text(version) && Number.isSafeInteger(length) && length >= 0;
    const entries = pushOrder.every((type) => read.resources[type].every(whole)) && (read.resources.host ?? []).every(whole);
    const keys = identity === null || (text(identity.certificatePem) && text(identity.privateKeyPem) && text(identity.rootsPem));
    return entries && keys && text(read.node) && text(read.trustDomain) && text(read.program) ? read : undefined;
  } catch {
    return undefined;
  }
}
