// Owns: `weft agent` up to the point where the proxy takes over: credential, folder, token, the bootstrap of a proxy that has an identity and no
// listeners. Answers the command line of that proxy; the same process runs it.

import { mkdirSync, statSync } from "node:fs";
import { join as joinPath, resolve } from "node:path";
import { systemClock } from "../../base/clock.ts";
import { agentFiles } from "../../wire/grpc-names.ts";
import { CliFailure, reasonOf, UsageFailure } from "../failure.ts";
import { kubeconfigPath } from "../kubeconfig.ts";
import { parse } from "../parse.ts";
import { verbNamed } from "../verbs.ts";
import { bootstrapFor } from "./bootstrap.ts";
import { join } from "./join.ts";
import { writePrivate } from "./place.ts";
import { stderrSay } from "./say.ts";

/** A Unix socket's address has 108 bytes; the proxy adds four while it makes it. */
const longestSocket = 103;

/** The arguments of `weft proxy`, or an exit status. */
export async function prepare(argv: readonly string[]): Promise<readonly string[] | number> {
  const env = process.env;
  const say = stderrSay(false, env);
  try {
    const spec = verbNamed("agent");
    if (spec === undefined) throw new Error("the table of verbs has no agent");
    const args = parse(spec, argv);
    const dir = args.text("dir");
    if (dir === undefined) throw new UsageFailure("weft agent needs --dir DIR, the folder for its socket and files");
    const folder = privateFolder(resolve(dir));
    const socket = joinPath(folder, agentFiles.socket);
    if (Buffer.byteLength(socket) > longestSocket)
      throw new CliFailure(`--dir ${dir}: ${socket} is too long for a Unix socket (${longestSocket} bytes); take a shorter folder`);
    const account = args.text("service-account");
    const joined = await join(
      {
        waitMs: args.durationMs("wait") ?? 60_000,
        namespace: args.text("namespace"),
        serviceAccount: account,
        // Without a flag a join credential's own account is taken; the administrator's credential has none.
        service: account ?? "default",
      },
      kubeconfigPath(args.text("kubeconfig"), env),
      say,
      () => systemClock.mono(),
      new AbortController().signal,
    );
    const { namespace, serviceAccount, mesh } = joined;
    const whole = bootstrapFor({
      namespace,
      entry: `agent-${process.pid}`,
      service: serviceAccount,
      serviceAccount,
      trustDomain: mesh.trustDomain,
      labels: {},
      xdsAddress: mesh.xdsAddress,
      caBundle: mesh.caBundle,
      adminPort: 0,
    });
    const { node, static_resources } = whole;
    writePrivate(joinPath(folder, "agent.json"), JSON.stringify({ node, static_resources }));
    const token = joinPath(folder, "token");
    writePrivate(token, await joined.token());
    say.info(`the identity of ${serviceAccount} in ${namespace} is kept in ${folder}; programs reach the mesh over ${socket}`);
    return [
      "--bootstrap",
      joinPath(folder, "agent.json"),
      "--token-file",
      token,
      "--workload-api",
      socket,
      "--identity-files",
      folder,
      "--log-level",
      args.text("log-level") ?? "warn",
    ];
  } catch (error) {
    if (error instanceof UsageFailure) {
      say.error(`${error.message}\nweft agent --help has flags and examples.`);
      return 2;
    }
    if (error instanceof CliFailure) say.error(error.message);
    else say.error(`this is a fault in weft itself: ${error instanceof Error ? error.stack : String(error)}`);
    return error instanceof CliFailure ? error.status : 1;
  }
}

/** Who may enter may have the identity: nobody else may. */
function privateFolder(folder: string): string {
  try {
    mkdirSync(folder, { recursive: true, mode: 0o700 });
    const { mode, uid } = statSync(folder);
    if ((mode & 0o077) !== 0 || uid !== process.getuid?.())
      throw new CliFailure(`--dir ${folder}: others may enter this folder, and the key will be in it; chmod 700 it, or take another`);
    return folder;
  } catch (error) {
    if (error instanceof CliFailure) throw error;
    throw new CliFailure(`--dir ${folder}: ${reasonOf(error)}`);
  }
}
