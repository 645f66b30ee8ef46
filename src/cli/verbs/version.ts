// Owns: `weft version`: of this program and, when one answers, of the control plane. A control plane that is away is no failure.

import { CliFailure } from "../failure.ts";
import { printed } from "../output.ts";
import { openSession } from "../session.ts";
import type { Invocation } from "../verb.ts";

/** package.json's; a test keeps them equal. */
export const version = "0.1.0";

interface ServerVersion {
  readonly gitVersion?: string;
  /** Kubernetes clients read gitVersion as the level of the API; ours stands beside it. */
  readonly weftVersion?: string;
}

export async function run(invocation: Invocation): Promise<number> {
  const { args, terminal } = invocation;
  const client = { version, runtime: `bun ${Bun.version}`, platform: `${process.platform}/${process.arch}` };
  let server: { version: string; address: string } | undefined;
  let away: string | undefined;
  if (!args.on("client")) {
    try {
      const { client: api } = openSession(invocation);
      const answer = await api.json<ServerVersion>("/version", { timeoutMs: 2000 });
      server = { version: answer.weftVersion ?? answer.gitVersion ?? "unknown", address: api.access.server };
    } catch (error) {
      if (!(error instanceof CliFailure)) throw error;
      away = error.message;
    }
  }
  const format = args.text("output");
  if (await printed(terminal, format, { client, server: server ?? null, ...(away === undefined ? {} : { reason: away }) })) return 0;
  terminal.out(`client   weft ${client.version} (${client.runtime}, ${client.platform})\n`);
  if (server !== undefined) terminal.out(`server   weft ${server.version} at ${server.address}\n`);
  else if (away !== undefined) terminal.out(`server   none: ${away}\n`);
  return 0;
}
