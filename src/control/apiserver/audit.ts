// Owns: the audit log: one JSON line for each request that could change something or hands out a secret, in DATA/audit.log, and its rotation.
// Never holds what objects say, only which ones; never a token. A log that cannot be written is reported, and stops nothing.

import { closeSync, openSync, renameSync, statSync, writeSync } from "node:fs";
import { join } from "node:path";
import type { Clock } from "../../base/clock.ts";
import type { Logger } from "../../base/log.ts";

/** One object that a request was about. */
export interface Touched {
  readonly verb: string;
  readonly resource: string;
  readonly namespace: string;
  readonly name: string;
  readonly code: number;
}

export interface AuditEntry {
  readonly user: string;
  /** Who acted as `user`. */
  readonly actingAs?: string;
  /** `create`, `update`, `patch`, `delete`, `deletecollection`, or the method for what is no object. */
  readonly verb: string;
  /** `httproutes.gateway.networking.k8s.io`, with `/SUBRESOURCE`; absent for what is no object. */
  readonly resource?: string;
  readonly namespace?: string;
  readonly name?: string;
  /** Of what is no object. */
  readonly path?: string;
  readonly dryRun?: true;
  /** The requests of a transaction, the objects of a deleted collection. */
  readonly operations?: readonly Touched[];
  readonly code: number;
  /** Why not, in one word. */
  readonly reason?: string;
  /** `ADDRESS:PORT`. */
  readonly from: string;
  readonly agent: string;
}

export interface AuditLog {
  record(entry: AuditEntry): void;
  /** Hears of each line from now on, written or not. Returns what ends it. */
  follow(hear: (line: AuditEntry & { readonly at: string }) => void): () => void;
  close(): void;
}

/** 16 MiB hold some 60 000 lines; five files bound what the log may take. */
export const auditFileBytes = 16 * 1024 * 1024;
export const auditFiles = 5;

/** The file is opened with the first line. Lines are handed to the system at once and flushed to the disk by it. */
export function openAuditLog(dir: string, clock: Clock, log: Logger, maxBytes = auditFileBytes): AuditLog {
  const path = join(dir, "audit.log");
  let fd: number | undefined;
  let size = 0;
  let failing = false;
  const followers = new Set<(line: AuditEntry & { readonly at: string }) => void>();

  function rotate(): void {
    if (fd !== undefined) closeSync(fd);
    fd = undefined;
    for (let at = auditFiles - 1; at >= 1; at--) {
      try {
        renameSync(at === 1 ? path : `${path}.${at - 1}`, `${path}.${at}`);
      } catch (cause) {
        if ((cause as NodeJS.ErrnoException).code !== "ENOENT") throw cause;
      }
    }
  }

  return {
    record(entry) {
      const dated = { at: new Date(clock.now()).toISOString(), ...entry };
      for (const hear of [...followers]) hear(dated);
      const line = Buffer.from(`${JSON.stringify(dated)}\n`);
      try {
        if (fd === undefined) {
          fd = openSync(path, "a", 0o600);
          size = statSync(path).size;
        }
        if (size > 0 && size + line.length > maxBytes) {
          rotate();
          fd = openSync(path, "a", 0o600);
          size = 0;
        }
        // A full disk may take a part of a line; the next one then begins on its own.
        size += writeSync(fd, line);
        failing = false;
      } catch (cause) {
        if (!failing) log.error({ cause, path }, "The audit log cannot be written; requests are answered all the same");
        failing = true;
      }
    },
    follow(hear) {
      followers.add(hear);
      return () => void followers.delete(hear);
    },
    close() {
      if (fd !== undefined) closeSync(fd);
      fd = undefined;
    },
  };
}
