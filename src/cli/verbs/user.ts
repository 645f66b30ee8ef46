// Owns: `weft user`: people and programs that may use the API, and their tokens. Keeps none, and prints one only when it is made.

import { generateKeyPairSync } from "node:crypto";
import { longestUserTokenSeconds, type UserObject } from "../../api/kinds/user.ts";
import { ApiFailure, type Client } from "../client.ts";
import { CliFailure, UsageFailure } from "../failure.ts";
import { formatKubeconfig } from "../kubeconfig.ts";
import { ageOf, printed, table } from "../output.ts";
import { openSession } from "../session.ts";
import type { Invocation } from "../verb.ts";

const root = "/apis/weft.dev/v1alpha1/users";

export async function run(invocation: Invocation): Promise<number> {
  const [action, ...names] = invocation.args.operands;
  switch (action) {
    case "create":
      return create(invocation, names);
    case "certificate":
      return certificate(invocation, names);
    case "list":
      return list(invocation);
    case "revoke":
      return revoke(invocation, names);
    default:
      throw new UsageFailure(`weft user takes create, certificate, list or revoke, not "${action}"`);
  }
}

/** A token of a user that is there. `ttl` as typed; undefined = the server's 30 days. */
export async function requestUserToken(
  client: Client,
  name: string,
  ttlMs: number | undefined,
): Promise<{ token: string; expiresAt: string }> {
  const seconds = ttlMs === undefined ? undefined : Math.round(ttlMs / 1000);
  if (seconds !== undefined && (seconds < 600 || seconds > longestUserTokenSeconds))
    throw new UsageFailure("--ttl takes 10m to 366d for a user");
  try {
    const spec = seconds === undefined ? {} : { expirationSeconds: seconds };
    const answer = await client.json<{ status: { token: string; expirationTimestamp: string } }>(
      `${root}/${encodeURIComponent(name)}/token`,
      {
        method: "POST",
        body: { apiVersion: "authentication.k8s.io/v1", kind: "TokenRequest", spec },
      },
    );
    return { token: answer.status.token, expiresAt: answer.status.expirationTimestamp };
  } catch (error) {
    if (error instanceof ApiFailure && error.code === 404)
      throw new CliFailure(`there is no user ${name}; weft user create ${name} makes one, weft user list shows who is there`);
    throw error;
  }
}

function checkedServer(server: string): string {
  if (!/^https:\/\/[^/]+$/.test(server)) throw new UsageFailure(`--server takes an address such as https://10.0.0.5:7443, not "${server}"`);
  return server;
}

async function create(invocation: Invocation, names: readonly string[]): Promise<number> {
  const { args, terminal } = invocation;
  const [name, ...more] = names;
  if (name === undefined || more.length > 0) throw new UsageFailure("weft user create needs one NAME");
  const { client, namespace } = openSession(invocation);
  const server = checkedServer(args.text("server") ?? client.access.server);
  const groups = args.list("group");
  const ttlMs = args.durationMs("ttl");
  if (ttlMs !== undefined && (ttlMs < 600_000 || ttlMs > longestUserTokenSeconds * 1000))
    throw new UsageFailure("--ttl takes 10m to 366d for a user");
  await client.json<UserObject>(root, {
    method: "POST",
    body: { apiVersion: "weft.dev/v1alpha1", kind: "User", metadata: { name }, spec: groups.length === 0 ? {} : { groups } },
  });
  let made: { token: string; expiresAt: string };
  try {
    made = await requestUserToken(client, name, ttlMs);
  } catch (error) {
    await client.json(`${root}/${name}`, { method: "DELETE" }).catch(() => undefined);
    throw error;
  }
  const { token, expiresAt } = made;
  const format = args.text("output");
  if (await printed(terminal, format, { name, groups, expiresAt, token })) return 0;
  if (format === "token") terminal.out(`${token}\n`);
  else terminal.out(formatKubeconfig({ ...client.access, server, namespace, token }, name));
  terminal.err(`# user ${name}, token good until ${expiresAt}; what it may do is said by bindings, for example:\n`);
  terminal.err(`#   kubectl create rolebinding ${name}-edit --clusterrole edit --user ${name} -n ${namespace}\n`);
  return 0;
}

/** The key is made here and leaves this process in what is printed alone. */
async function certificate(invocation: Invocation, names: readonly string[]): Promise<number> {
  const { args, terminal } = invocation;
  const [name, ...more] = names;
  if (name === undefined || more.length > 0) throw new UsageFailure("weft user certificate needs one NAME");
  const { client, namespace } = openSession(invocation);
  const server = checkedServer(args.text("server") ?? client.access.server);
  const ttlMs = args.durationMs("ttl");
  const { publicKey, privateKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
  let made: { certificate: string; expirationTimestamp: string };
  try {
    made = await client.json("/weft/v1alpha1/client-certificates", {
      method: "POST",
      body: {
        user: name,
        groups: args.list("group"),
        ...(ttlMs === undefined ? {} : { expirationSeconds: Math.round(ttlMs / 1000) }),
        publicKey: publicKey.export({ format: "pem", type: "spki" }).toString(),
      },
    });
  } catch (error) {
    if (error instanceof ApiFailure && error.code === 404)
      throw new CliFailure("this control plane signs no client certificates; weft up --client-ca own makes it an authority for them");
    throw error;
  }
  const held = { cert: made.certificate, key: privateKey.export({ format: "pem", type: "pkcs8" }).toString() };
  const facts = { name, groups: args.list("group"), expiresAt: made.expirationTimestamp, certificate: held.cert, key: held.key };
  const format = args.text("output");
  if (await printed(terminal, format, facts)) return 0;
  if (format === "token") throw new UsageFailure("weft user certificate makes no token; leave -o token out");
  terminal.out(formatKubeconfig({ ...client.access, server, namespace, token: undefined, certificate: held }, name));
  terminal.err(
    `# certificate of ${name}, good until ${made.expirationTimestamp}; it cannot be revoked. What it may do is said by bindings of its name and groups\n`,
  );
  return 0;
}

async function list(invocation: Invocation): Promise<number> {
  const { args, terminal } = invocation;
  const { client } = openSession(invocation);
  const { items } = await client.json<{ items: UserObject[] }>(root);
  const now = Date.now();
  const facts = items.map(({ metadata, spec }) => ({
    name: metadata.name,
    groups: spec?.groups ?? [],
    expiresAt: spec?.expiresAt ?? null,
    createdAt: metadata.creationTimestamp,
  }));
  if (await printed(terminal, args.text("output"), { users: facts })) return 0;
  if (facts.length === 0) {
    terminal.err("no users; the administrator's credential is admin.token in the data folder\n");
    return 0;
  }
  const rows = facts.map((fact) => [
    fact.name,
    fact.groups.join(", ") || "-",
    fact.expiresAt === null ? "with its token" : fact.expiresAt,
    ageOf(fact.createdAt, now),
  ]);
  terminal.out(table(["NAME", "GROUPS", "EXPIRES", "AGE"], rows, terminal.colour));
  return 0;
}

async function revoke(invocation: Invocation, names: readonly string[]): Promise<number> {
  if (names.length === 0) throw new UsageFailure("weft user revoke needs a NAME, as weft user list shows them");
  const { client } = openSession(invocation);
  for (const name of names) {
    try {
      await client.json(`${root}/${encodeURIComponent(name)}`, { method: "DELETE" });
    } catch (error) {
      if (error instanceof ApiFailure && error.code === 404) throw new CliFailure(`there is no user ${name}`);
      throw error;
    }
    invocation.terminal.out(`${name} revoked: every token of it is worthless now\n`);
  }
  return 0;
}
