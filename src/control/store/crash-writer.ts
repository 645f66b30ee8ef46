// Owns: the process that `sqlite-crash.test.ts` kills: it writes without pause and prints each write after it was acknowledged.
// Usage: crash-writer.ts DATABASE FIRST. Never stops by itself, and never prints what was not acknowledged.

import { writeSync } from "node:fs";
import { openSqliteStore } from "./sqlite.ts";
import { StoreFailure, type WriteResult } from "./store.ts";

// Synchronous, so that no acknowledgement sits in a buffer when the kill comes.
const print = (line: string) => writeSync(1, line);

const [path = "", first = "0"] = process.argv.slice(2);
try {
  const store = openSqliteStore(path, { keep: { revisions: 50 } });
  const lines = Array.from({ length: 8 }, (_, lane) => lane);
  print("ready\n");
  await Promise.all(
    lines.map(async (lane) => {
      for (let at = Number(first); ; at++) {
        const name = `lane${lane}-${at % 5}`;
        const key = { resource: "httproutes", namespace: "crash", name };
        const object = {
          apiVersion: "v1",
          kind: "X",
          metadata: { name, namespace: "crash" },
          spec: { at, filler: "x".repeat((at * 37) % 3000) },
        };
        const was = await store.get(key);
        let result: WriteResult;
        if (was === undefined) result = await store.create(key, object);
        else if (at % 11 === 0) result = await store.delete(key, undefined);
        else result = await store.update(key, object, undefined);
        if (!result.ok) throw new Error(`write of ${name} failed: ${result.reason}`);
        const verb = was !== undefined && at % 11 === 0 ? "gone" : "put";
        print(`${verb} ${name} ${at} ${result.revision}\n`);
      }
    }),
  );
} catch (error) {
  process.stderr.write(`${error instanceof StoreFailure ? error.message : String(error)}\n`);
  process.exit(1);
}
