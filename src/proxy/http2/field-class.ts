// Owns: what a field name is to HTTP/2 (RFC 9113 sections 8.2 and 8.3), and which names and values are malformed. Pure; bytes only.

import { equals, fieldByte, latin1, tchar } from "../http/bytes.ts";

/** What a decoded field is. `malformed` covers its name and its value. */
export const fieldClass = {
  plain: 0,
  /** 8.2.1: upper case, a byte that is no token, an empty name, or a control character or outer white space in the value. */
  malformed: 1,
  /** 8.2.2: belongs to a connection of HTTP/1.1. */
  connection: 2,
  /** 8.2.2: only with the value `trailers`. */
  te: 3,
  host: 4,
  /** 8.2.3: crumbs are joined. */
  cookie: 5,
  contentLength: 6,
  /** From here on pseudo-header fields, 8.3. */
  pseudo: 8,
  method: 8,
  path: 9,
  scheme: 10,
  authority: 11,
  status: 12,
  /** RFC 8441 section 4. */
  protocol: 13,
  unknownPseudo: 14,
} as const;

const names = {
  te: latin1("te"),
  host: latin1("host"),
  cookie: latin1("cookie"),
  upgrade: latin1("upgrade"),
  connection: latin1("connection"),
  keepAlive: latin1("keep-alive"),
  contentLength: latin1("content-length"),
  proxyConnection: latin1("proxy-connection"),
  transferEncoding: latin1("transfer-encoding"),
};
const pseudo = {
  path: latin1(":path"),
  method: latin1(":method"),
  scheme: latin1(":scheme"),
  status: latin1(":status"),
  protocol: latin1(":protocol"),
  authority: latin1(":authority"),
};
const trailers = latin1("trailers");

/** The class of a name, judged whole. */
export function classOfName(bytes: Uint8Array, from: number, to: number): number {
  if (from === to) return fieldClass.malformed;
  if (bytes[from] === 58) return classOfPseudo(bytes, from, to);
  for (let i = from; i < to; i++) {
    const byte = bytes[i] as number;
    if (tchar[byte] !== 1 || (byte >= 65 && byte <= 90)) return fieldClass.malformed;
  }
  switch (to - from) {
    case 2:
      return equals(bytes, from, to, names.te) ? fieldClass.te : fieldClass.plain;
    case 4:
      return equals(bytes, from, to, names.host) ? fieldClass.host : fieldClass.plain;
    case 6:
      return equals(bytes, from, to, names.cookie) ? fieldClass.cookie : fieldClass.plain;
    case 7:
      return equals(bytes, from, to, names.upgrade) ? fieldClass.connection : fieldClass.plain;
    case 10:
      return equals(bytes, from, to, names.connection) || equals(bytes, from, to, names.keepAlive)
        ? fieldClass.connection
        : fieldClass.plain;
    case 14:
      return equals(bytes, from, to, names.contentLength) ? fieldClass.contentLength : fieldClass.plain;
    case 16:
      return equals(bytes, from, to, names.proxyConnection) ? fieldClass.connection : fieldClass.plain;
    case 17:
      return equals(bytes, from, to, names.transferEncoding) ? fieldClass.connection : fieldClass.plain;
    default:
      return fieldClass.plain;
  }
}

function classOfPseudo(bytes: Uint8Array, from: number, to: number): number {
  switch (to - from) {
    case 5:
      return equals(bytes, from, to, pseudo.path) ? fieldClass.path : fieldClass.unknownPseudo;
    case 7:
      if (equals(bytes, from, to, pseudo.method)) return fieldClass.method;
      if (equals(bytes, from, to, pseudo.scheme)) return fieldClass.scheme;
      return equals(bytes, from, to, pseudo.status) ? fieldClass.status : fieldClass.unknownPseudo;
    case 9:
      return equals(bytes, from, to, pseudo.protocol) ? fieldClass.protocol : fieldClass.unknownPseudo;
    case 10:
      return equals(bytes, from, to, pseudo.authority) ? fieldClass.authority : fieldClass.unknownPseudo;
    default:
      return fieldClass.unknownPseudo;
  }
}

/** 8.2.1: no control characters (we refuse all of RFC 9110 5.5, as HTTP/1 does), no white space at either end. `te` may only be `trailers`. */
export function valueFits(bytes: Uint8Array, from: number, to: number, name: number): boolean {
  if (from === to) return true;
  const first = bytes[from];
  const last = bytes[to - 1];
  if (first === 32 || first === 9 || last === 32 || last === 9) return false;
  for (let i = from; i < to; i++) if (fieldByte[bytes[i] as number] !== 1) return false;
  return name !== fieldClass.te || equals(bytes, from, to, trailers);
}
