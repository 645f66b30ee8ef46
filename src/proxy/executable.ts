// Owns: the entry point of dist/sidecar/weft, the proxy in one file with its runtime, which `weft run` starts. Never knows a command but `proxy`.

import { main } from "./app.ts";

const [command, ...rest] = process.argv.slice(2);
if (command === "proxy") {
  void main(rest).then((status) => {
    process.exitCode = status;
  });
} else {
  process.stderr.write(`weft: this file is the proxy of \`weft run\` alone, and takes no other command: ${command ?? "none was given"}\n`);
  process.exitCode = 2;
}
