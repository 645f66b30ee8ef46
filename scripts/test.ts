// `npm test`: says which foreign peers are missing and what is left out for it, then runs every test. `npm run test:peers` makes a missing peer a failure.
// Prints one closing line, `N passed, N failed`.

import { findPeer, type PeerName, peers } from "../test/support/peers.ts";

const required = process.argv.includes("--peers");
const filters = process.argv.slice(2).filter((argument) => argument !== "--peers");

const missing = (Object.keys(peers) as PeerName[]).filter((name) => findPeer(name) === undefined);
if (missing.length > 0) {
  process.stdout.write("These programs are not installed, and the tests that are judged by them are left out:\n");
  for (const name of missing) process.stdout.write(`  ${name}: ${peers[name].install}\n`);
  process.stdout.write("All of them: scripts/install-peers.sh (Debian, as root)\n");
  if (required) process.exit(1);
}

const child = Bun.spawn([process.execPath, "test", "--timeout", "60000", ...filters], {
  stdin: "ignore",
  stdout: "inherit",
  stderr: "pipe",
  env: { ...process.env, ...(required ? { WEFT_PEERS: "required" } : {}), NO_COLOR: "1" },
});
let tail = "";
const decoder = new TextDecoder();
for await (const chunk of child.stderr) {
  process.stderr.write(chunk);
  tail = (tail + decoder.decode(chunk, { stream: true })).slice(-4000);
}
const status = await child.exited;
const count = (word: string): number => Number([...tail.matchAll(new RegExp(`^ *(\\d+) ${word}$`, "gm"))].at(-1)?.[1] ?? "0");
const failed = Math.max(count("fail"), status === 0 ? 0 : 1);
process.stdout.write(`tests: ${count("pass")} passed, ${failed} failed, ${count("skip")} skipped\n`);
process.exit(status);
