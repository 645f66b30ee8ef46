// Owns: `weft token`: join tokens that are listed and can be revoked. Keeps none, and prints one only when it is made.

import type { KubeObject } from "../../api/meta.ts";
import { ApiFailure } from "../client.ts";
import { CliFailure, UsageFailure } from "../failure.ts";
import { formatKubeconfig } from "../kubeconfig.ts";
import { ageOf, printed, table } from "../output.ts";
import { openSession } from "../session.ts";
import type { Invocation } from "../verb.ts";

interface JoinToken extends KubeObject {
  readonly spec: { readonly serviceAccount: string; readonly expiresAt: string; readonly use: "Once" | "Reusable" };
  readonly status?: { readonly usedAt?: string; readonly uses?: number };
}

const root = "/apis/weft.dev/v1alpha1";

export async function run(invocation: Invocation): Promise<number> {
  const [action, ...names] = invocation.args.operands;
  switch (action) {
    case "create":
      if (names.length > 0) throw new UsageFailure("weft token create names the token by itself");
      return create(invocation);
    case "list":
      return list(invocation);
    case "revoke":
      return revoke(invocation, names);
    default:
      throw new UsageFailure(`weft token takes create, list or revoke, not "${action}"`);
  }
}

async function create(invocation: Invocation): Promise<number> {
  const { args, terminal } = invocation;
  const account = args.text("service-account");
  if (account === undefined) throw new UsageFailure("weft token create needs --service-account NAME");
  const socket = args.text("socket");
  if (socket !== undefined) return joinHere(invocation, socket, account);
  const { client, namespace } = openSession(invocation);
  const ttlMs = args.durationMs("ttl") ?? 3_600_000;
  if (ttlMs < 600_000 || ttlMs > 30 * 86_400_000) throw new UsageFailure(`--ttl takes 10m to 720h, not "${args.text("ttl")}"`);
  const server = args.text("server") ?? client.access.server;
  if (!/^https:\/\/[^/]+$/.test(server)) throw new UsageFailure(`--server takes an address such as https://10.0.0.5:7443, not "${server}"`);
  const seconds = Math.round(ttlMs / 1000);
  const expiresAt = `${new Date(Date.now() + seconds * 1000).toISOString().slice(0, 19)}Z`;
  const place = `/namespaces/${encodeURIComponent(namespace)}`;
  const object = await client.json<JoinToken>(`${root}${place}/jointokens`, {
    method: "POST",
    body: {
      metadata: { generateName: `${account.slice(0, 50)}-` },
      spec: { serviceAccount: account, expiresAt, use: args.on("reusable") ? "Reusable" : "Once" },
    },
  });
  const { name, uid } = object.metadata;
  let token: string;
  try {
    const answer = await client.json<{ status: { token: string } }>(
      `/api/v1${place}/serviceaccounts/${encodeURIComponent(account)}/token`,
      {
        method: "POST",
        body: { spec: { expirationSeconds: seconds, boundObjectRef: { apiVersion: "weft.dev/v1alpha1", kind: "JoinToken", name, uid } } },
      },
    );
    token = answer.status.token;
  } catch (error) {
    // Listed without ever having been given out, it would only be looked for in vain.
    await client.json(`${root}${place}/jointokens/${name}`, { method: "DELETE" }).catch(() => undefined);
    throw error;
  }
  const facts = { name, namespace, serviceAccount: account, use: object.spec.use, expiresAt, token };
  const format = args.text("output");
  if (await printed(terminal, format, facts)) return 0;
  if (format === "token") terminal.out(`${token}\n`);
  else terminal.out(formatKubeconfig({ ...client.access, server, namespace, token }, `${namespace}:${account}`));
  const use = object.spec.use === "Once" ? "for one instance" : "for any number of instances";
  terminal.err(
    `# ${name} joins as service account ${account} in ${namespace} until ${expiresAt}, ${use}; use it with: weft run --kubeconfig FILE\n`,
  );
  return 0;
}

/** From the control plane of this machine, which asks the kernel who is calling. */
async function joinHere({ args, terminal }: Invocation, socket: string, serviceAccount: string): Promise<number> {
  const odd = ["ttl", "server"].find((name) => args.text(name) !== undefined) ?? (args.on("reusable") ? "reusable" : undefined);
  if (odd !== undefined)
    throw new UsageFailure(`--${odd} does not go with --socket: such a token is good for an hour, at this machine's control plane`);
  const namespace = args.text("namespace") ?? "default";
  const { askToJoin } = await import("../join.ts");
  const { token, expiresAt, server, caBundle } = await askToJoin(socket, namespace, serviceAccount);
  const format = args.text("output");
  if (await printed(terminal, format, { namespace, serviceAccount, expiresAt, token })) return 0;
  if (format === "token") terminal.out(`${token}\n`);
  else terminal.out(formatKubeconfig({ server, ca: caBundle, token, namespace }, `${namespace}:${serviceAccount}`));
  terminal.err(
    `# joins as service account ${serviceAccount} in ${namespace} until ${expiresAt}; use it with: weft run --kubeconfig FILE\n`,
  );
  return 0;
}

async function list(invocation: Invocation): Promise<number> {
  const { args, terminal } = invocation;
  const { client, namespace } = openSession(invocation);
  const everywhere = args.on("all-namespaces");
  const place = everywhere ? "" : `/namespaces/${encodeURIComponent(namespace)}`;
  const { items } = await client.json<{ items: JoinToken[] }>(`${root}${place}/jointokens`);
  const now = Date.now();
  const facts = items.map(({ metadata, spec, status }) => ({
    name: metadata.name,
    namespace: metadata.namespace,
    ...spec,
    usedAt: status?.usedAt ?? null,
    uses: status?.uses ?? 0,
    state: Date.parse(spec.expiresAt) <= now ? "expired" : spec.use === "Once" && status?.usedAt !== undefined ? "used" : "good",
    createdAt: metadata.creationTimestamp,
  }));
  if (await printed(terminal, args.text("output"), { tokens: facts })) return 0;
  if (facts.length === 0) {
    terminal.err(`no join tokens${everywhere ? "" : ` in namespace ${namespace}`}\n`);
    return 0;
  }
  const header = [...(everywhere ? ["NAMESPACE"] : []), "NAME", "SERVICEACCOUNT", "USE", "STATE", "EXPIRES", "USED", "AGE"];
  const rows = facts.map((fact) => [
    ...(everywhere ? [fact.namespace ?? ""] : []),
    fact.name,
    fact.serviceAccount,
    fact.use,
    { text: fact.state, tone: fact.state === "good" ? ("green" as const) : ("dim" as const) },
    fact.expiresAt,
    fact.usedAt === null ? "never" : fact.uses > 1 ? `${fact.usedAt} (${fact.uses} times)` : fact.usedAt,
    ageOf(fact.createdAt, now),
  ]);
  terminal.out(table(header, rows, terminal.colour));
  return 0;
}

async function revoke(invocation: Invocation, names: readonly string[]): Promise<number> {
  const { client, namespace } = openSession(invocation);
  if (names.length === 0) throw new UsageFailure("weft token revoke needs a NAME, as weft token list shows them");
  for (const name of names) {
    try {
      await client.json(`${root}/namespaces/${encodeURIComponent(namespace)}/jointokens/${encodeURIComponent(name)}`, { method: "DELETE" });
    } catch (error) {
      if (error instanceof ApiFailure && error.code === 404)
        throw new CliFailure(`there is no join token ${name} in namespace ${namespace}`);
      throw error;
    }
    invocation.terminal.out(`${name} revoked\n`);
  }
  return 0;
}
