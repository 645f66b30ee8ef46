// Owns: docs/reference/cli.md, made from the table of verbs. `bun src/cli/reference.ts` writes it; reference.test.ts fails when it is stale.

import { usageLine } from "./help.ts";
import { allFlags, type VerbSpec } from "./spec.ts";
import { verbs } from "./verbs.ts";

export const referencePath = new URL("../../docs/reference/cli.md", import.meta.url).pathname;

/** What no verb's record can say: holds for all of them. */
const preamble = `# The command line

Made from \`src/cli/verbs.ts\` by \`bun src/cli/reference.ts\`; do not edit by hand.

**Exit status**: 0 done, 1 failed, 2 wrong usage. \`weft run\` gives the status of its COMMAND: 128 + N when signal N ended it, 127 when
there is no such program, 126 when it cannot be executed.

**For programs**: \`-o json\` (or \`yaml\`, \`name\`) where a verb has output; colours only on a terminal, never with \`NO_COLOR\` set,
always with \`CLICOLOR_FORCE=1\`. Words for people go to stderr, results to stdout.

**Where the control plane is**: \`--kubeconfig FILE\`, else \`$WEFT_KUBECONFIG\`, else \`$WEFT_DATA/admin.kubeconfig\`, else
\`~/.weft/admin.kubeconfig\`.

**Kinds** are asked of the control plane: plural, singular, short name, \`KIND.GROUP\`, \`KIND/NAME\`; \`weft get kinds,joined,by,commas\`.
`;

/** How a program reaches a service of the mesh; under \`weft run\`, since that is where the question comes up. */
const runtimes = `### Which programs take the proxy by themselves

\`weft run\` sets these for COMMAND; what was set before is kept where it can be (\`NO_PROXY\`, \`JAVA_TOOL_OPTIONS\`).

| variable | value | read by |
|---|---|---|
| \`HTTP_PROXY\`, \`http_proxy\` | \`http://127.0.0.1:PORT\` | Go net/http, Python requests, urllib, httpx, aiohttp (with \`trust_env=True\`), Ruby Net::HTTP, Rust reqwest, .NET HttpClient, PHP curl, Bun, Deno, wget; curl reads the lower-case one only |
| \`NO_PROXY\`, \`no_proxy\` | \`localhost,127.0.0.1,::1\` and what was there | the same |
| \`NODE_USE_ENV_PROXY\` | \`1\` | Node from 22.21 and 24.5: \`http\`, \`https\` and \`fetch\` |
| \`JAVA_TOOL_OPTIONS\` | \`-Dhttp.proxyHost\`, \`-Dhttp.proxyPort\`, \`-Dhttp.nonProxyHosts\` | java.net and most HTTP clients of the JVM |

\`HTTPS_PROXY\` is left as it is: TLS to the outside is not the mesh's. gRPC libraries (C core, grpc-js) tunnel through \`http_proxy\` by
CONNECT; gRPC-Go looks at \`HTTPS_PROXY\` only.

A program that takes no proxy (Node 20, database drivers, gRPC-Go) needs \`--upstream NAME=PORT\`: it dials \`127.0.0.1:PORT\`, and the sidecar
leads that to service NAME with mutual TLS, whatever the protocol.

### What happens at the end

On SIGTERM or SIGINT the instance is first noted as unhealthy; after a moment, in which its peers learn of it, the signal goes to COMMAND;
when COMMAND has ended, the registration is deleted and the sidecar finishes its open requests (\`--drain-timeout\`). A second signal goes to
COMMAND at once. Ctrl-C on a terminal reaches COMMAND by itself and is not sent again. SIGHUP, SIGUSR1, SIGUSR2, SIGQUIT and SIGWINCH are
passed on. SIGURG is for \`weft run\` itself: it starts a new sidecar from the program as it is installed now, which takes the place of the old one
without failing a request. Under a service manager that tells every process at once (systemd's default), set it to tell \`weft run\` alone first
(\`KillMode=mixed\`), so that COMMAND keeps its sidecar while it finishes. When \`weft run\` itself is killed with SIGKILL, a small guard unregisters the instance and ends COMMAND and sidecar.
`;

/** Pads the cells of every table, as the formatter of this repository wants it. */
function padTables(text: string): string {
  return text.replace(/(?:^\|.*\|$\n?)+/gm, (block) => {
    const rows = block
      .trimEnd()
      .split("\n")
      .map((line) =>
        line
          .slice(1, -1)
          .split(/(?<!\\)\|/)
          .map((cell) => cell.trim()),
      );
    const widths = (rows[0] ?? []).map((_, i) => Math.max(3, ...rows.map((row, at) => (at === 1 ? 0 : Bun.stringWidth(row[i] ?? "")))));
    const pad = (cell: string, width: number) => cell + " ".repeat(Math.max(0, width - Bun.stringWidth(cell)));
    const lines = rows.map(
      (row, at) => `| ${widths.map((width, i) => (at === 1 ? "-".repeat(width) : pad(row[i] ?? "", width))).join(" | ")} |`,
    );
    return lines.join("\n") + (block.endsWith("\n") ? "\n" : "");
  });
}

function section(spec: VerbSpec): string {
  const flags = allFlags(spec).filter((f) => f.name !== "help");
  const rows = flags.map((f) => {
    const name = `${f.short === undefined ? "" : `\`-${f.short}\`, `}\`--${f.name}${f.value === undefined ? "" : ` ${f.value}`}\``;
    return `| ${name.replaceAll("|", "\\|")} | ${f.help.replaceAll("|", "\\|")} |`;
  });
  const parts = [
    `## weft ${spec.name}`,
    `${spec.summary[0]?.toUpperCase()}${spec.summary.slice(1)}.`,
    `\`\`\`\n${usageLine(spec)}\n\`\`\``,
    ...spec.about,
    ...(rows.length === 0 ? [] : [`| flag | |\n|---|---|\n${rows.join("\n")}`]),
    spec.examples.map((e) => `\`\`\`sh\n# ${e.says}\n${e.command}\n\`\`\``).join("\n\n"),
  ];
  if (spec.name === "run") parts.push(runtimes.trimEnd());
  return parts.join("\n\n");
}

/** The whole page. */
export function reference(): string {
  const shown = verbs.filter((v) => v.hidden !== true);
  const index = shown.map((v) => `- [weft ${v.name}](#weft-${v.name}): ${v.summary}`).join("\n");
  return padTables(`${[preamble.trimEnd(), index, ...shown.map(section)].join("\n\n")}\n`);
}

if (import.meta.main) await Bun.write(referencePath, reference());
