// Owns: the proxy's identity as files for programs of this host that read certificates from files (gRPC's `file_watcher`, nginx, ...): written anew with
// each renewal, each file at once or not at all, the key for this user alone. Never reads them back.

import { mkdirSync, renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { agentFiles } from "../../wire/grpc-names.ts";

export interface IdentityPem {
  readonly certificatePem: string;
  readonly privateKeyPem: string;
  readonly rootsPem: string;
}

/** Throws a sentence where a file cannot be written. */
export function keepIdentityFiles(folder: string, identity: IdentityPem): void {
  try {
    mkdirSync(folder, { recursive: true, mode: 0o700 });
    // The key goes first: a reader that meets the new key beside the old certificate sees that they do not belong together, and looks again.
    for (const [name, text, mode] of [
      [agentFiles.key, identity.privateKeyPem, 0o600],
      [agentFiles.certificate, identity.certificatePem, 0o644],
      [agentFiles.roots, identity.rootsPem, 0o644],
    ] as const) {
      const path = join(folder, name);
      const making = `${path}.${process.pid}`;
      writeFileSync(making, text, { mode });
      renameSync(making, path);
    }
  } catch (error) {
    throw new Error(`the identity cannot be kept in ${folder}: ${error instanceof Error ? error.message : String(error)}`);
  }
}
