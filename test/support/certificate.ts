// Owns: a server certificate for 127.0.0.1 that openssl makes in a test's folder. Trusted by nobody but who is shown it.

import { join } from "node:path";
import type { KeyPair } from "./bootstrap.ts";
import { execute } from "./execute.ts";
import { findPeer } from "./peers.ts";

/** Leaves `front.crt` and `front.key` in `dir`. */
export async function frontCertificate(dir: string): Promise<KeyPair> {
  const [key, crt] = [join(dir, "front.key"), join(dir, "front.crt")];
  const kind = ["-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"];
  const names = ["-subj", "/CN=front", "-addext", "subjectAltName=IP:127.0.0.1"];
  const made = await execute([findPeer("openssl") as string, "req", ...kind, ...names, "-keyout", key, "-out", crt]);
  if (made.code !== 0) throw new Error(made.err);
  return { certificatePem: await Bun.file(crt).text(), privateKeyPem: await Bun.file(key).text() };
}
