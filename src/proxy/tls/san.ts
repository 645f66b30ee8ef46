// Owns: reading the subject alternative names out of a certificate's DER (RFC 5280 4.2.1.6). The printed form ("URI:a, DNS:b") is not
// used, because a name may itself contain ", URI:".
// Must never decide trust: the chain is verified by the TLS library; this only reads names of a certificate that passed.

export interface AlternativeNames {
  readonly uris: readonly string[];
  readonly dns: readonly string[];
}

const none: AlternativeNames = { uris: [], dns: [] };

/** The names, or null when the DER is not a certificate we can walk. A certificate without the extension has no names. */
export function alternativeNames(der: Uint8Array): AlternativeNames | null {
  const certificate = element(der, 0, der.length);
  if (certificate === null || certificate.tag !== 0x30) return null;
  const body = element(der, certificate.from, certificate.to);
  if (body === null || body.tag !== 0x30) return null;
  for (let at = body.from; at < body.to; ) {
    const part = element(der, at, body.to);
    if (part === null) return null;
    // [3] EXPLICIT Extensions (RFC 5280 4.1)
    if (part.tag === 0xa3) {
      const list = element(der, part.from, part.to);
      if (list === null || list.tag !== 0x30) return null;
      return fromExtensions(der, list.from, list.to);
    }
    at = part.to;
  }
  return none;
}

function fromExtensions(der: Uint8Array, from: number, to: number): AlternativeNames | null {
  for (let at = from; at < to; ) {
    const extension = element(der, at, to);
    if (extension === null || extension.tag !== 0x30) return null;
    at = extension.to;
    const id = element(der, extension.from, extension.to);
    if (id === null || id.tag !== 0x06) return null;
    // 2.5.29.17 subjectAltName
    if (id.to - id.from !== 3 || der[id.from] !== 0x55 || der[id.from + 1] !== 0x1d || der[id.from + 2] !== 0x11) continue;
    let value = element(der, id.to, extension.to);
    if (value !== null && value.tag === 0x01) value = element(der, value.to, extension.to);
    if (value === null || value.tag !== 0x04) return null;
    const names = element(der, value.from, value.to);
    if (names === null || names.tag !== 0x30) return null;
    return fromNames(der, names.from, names.to);
  }
  return none;
}

function fromNames(der: Uint8Array, from: number, to: number): AlternativeNames | null {
  const uris: string[] = [];
  const dns: string[] = [];
  for (let at = from; at < to; ) {
    const name = element(der, at, to);
    if (name === null) return null;
    if (name.tag === 0x86 || name.tag === 0x82) {
      let text = "";
      for (let i = name.from; i < name.to; i++) {
        const byte = der[i] as number;
        // IA5String without control characters: anything else is an attempt to look like another name.
        if (byte < 0x21 || byte > 0x7e) return null;
        text += String.fromCharCode(byte);
      }
      (name.tag === 0x86 ? uris : dns).push(text);
    }
    at = name.to;
  }
  return { uris, dns };
}

interface Element {
  readonly tag: number;
  readonly from: number;
  readonly to: number;
}

/** One DER element that starts at `at` and ends by `end`. */
function element(der: Uint8Array, at: number, end: number): Element | null {
  if (at + 2 > end) return null;
  const tag = der[at] as number;
  let length = der[at + 1] as number;
  let from = at + 2;
  if (length >= 0x80) {
    const count = length & 0x7f;
    if (count === 0 || count > 3 || from + count > end) return null;
    length = 0;
    for (let i = 0; i < count; i++) length = length * 256 + (der[from + i] as number);
    from += count;
  }
  const to = from + length;
  return to > end ? null : { tag, from, to };
}
