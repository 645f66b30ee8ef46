// Owns: PEM armour (RFC 7468), both ways. Never looks inside.

/** The DER of every block with this label; text around blocks is passed over. */
export function readPem(text: string, label: string): Uint8Array[] {
  const found: Uint8Array[] = [];
  const begin = `-----BEGIN ${label}-----`;
  const end = `-----END ${label}-----`;
  for (let at = text.indexOf(begin); at >= 0; at = text.indexOf(begin, at)) {
    const stop = text.indexOf(end, at);
    if (stop < 0) break;
    found.push(new Uint8Array(Buffer.from(text.slice(at + begin.length, stop), "base64")));
    at = stop;
  }
  return found;
}

export function writePem(label: string, bytes: Uint8Array): string {
  const lines =
    Buffer.from(bytes)
      .toString("base64")
      .match(/.{1,64}/g) ?? [];
  return `-----BEGIN ${label}-----\n${lines.join("\n")}\n-----END ${label}-----\n`;
}
