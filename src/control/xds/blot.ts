// Owns: taking private keys out of resources that people are shown. Never changes what a proxy is sent.

const opening = Buffer.from("PRIVATE KEY-----");
const closing = Buffer.from("-----END");
/** `*`: as many bytes as before, so that the lengths that protobuf writes before each field stay true. */
const mark = 0x2a;

/** The same bytes where no private key in PEM is in them, else a copy in which each is blotted out. */
export function withoutPrivateKeys(bytes: Uint8Array): Uint8Array {
  const text = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  let copy: Buffer | undefined;
  let at = text.indexOf(opening);
  while (at >= 0) {
    const from = at + opening.length;
    const end = text.indexOf(closing, from);
    copy ??= Buffer.from(text);
    copy.fill(mark, from, end < 0 ? text.length : end);
    // The words of the end are those of a beginning too.
    const ended = end < 0 ? -1 : text.indexOf(opening, end);
    at = ended < 0 ? -1 : text.indexOf(opening, ended + opening.length);
  }
  return copy ?? bytes;
}
