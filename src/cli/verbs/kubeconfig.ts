// Owns: `weft kubeconfig`: a complete file on stdout, for kubectl or for `weft run` on another machine. Never writes a file itself.

import { CliFailure, UsageFailure } from "../failure.ts";
import { formatKubeconfig, joinClaims } from "../kubeconfig.ts";
import { openSession } from "../session.ts";
import { requestToken } from "../token.ts";
import type { Invocation } from "../verb.ts";
import { requestUserToken } from "./user.ts";

export async function run(invocation: Invocation): Promise<number> {
  const { args, terminal } = invocation;
  const { client, namespace } = openSession(invocation);
  const { access } = client;
  const account = args.text("service-account");
  const server = args.text("server") ?? access.server;
  if (!/^https:\/\/[^/]+$/.test(server)) throw new UsageFailure(`--server takes an address such as https://10.0.0.5:7443, not "${server}"`);
  const user = args.text("user");
  if (user !== undefined) {
    if (account !== undefined) throw new UsageFailure("--user and --service-account exclude each other");
    const { token, expiresAt } = await requestUserToken(client, user, args.durationMs("ttl"));
    terminal.out(formatKubeconfig({ ...access, server, namespace, token }, user));
    terminal.err(`# user ${user}, token good until ${expiresAt}\n`);
    return 0;
  }
  if (account === undefined) {
    if (args.on("ttl"))
      throw new UsageFailure("--ttl goes with --service-account or --user: the administrator's credential does not expire");
    const claims = joinClaims(access.token);
    terminal.out(
      formatKubeconfig({ ...access, server, namespace }, claims === undefined ? "admin" : `${claims.namespace}:${claims.serviceAccount}`),
    );
    return 0;
  }
  if (access.token === undefined)
    throw new CliFailure(`${access.file} holds no token; a join credential can only be made with the administrator's`);
  const ttlMs = args.durationMs("ttl") ?? 3_600_000;
  if (ttlMs < 600_000 || ttlMs > 86_400_000) throw new UsageFailure(`--ttl takes 10m to 24h, not "${args.text("ttl")}"`);
  const { token, expiresAt } = await requestToken(client, namespace, account, ttlMs / 1000);
  terminal.out(formatKubeconfig({ ...access, server, namespace, token }, `${namespace}:${account}`));
  terminal.err(`# joins as service account ${account} in ${namespace} until ${expiresAt}; use it with: weft run --kubeconfig FILE\n`);
  return 0;
}
