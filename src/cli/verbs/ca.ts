// Owns: `weft ca`: how the certificate authority stands, the steps of replacing its root, and who is refused. Encrypting its key is done where the key is
// (`control/ca-key.ts`). Never sees a key.

import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import type { KubeObject } from "../../api/meta.ts";
import { ApiFailure, type Client } from "../client.ts";
import { CliFailure, UsageFailure } from "../failure.ts";
import { ageOf, printed, table } from "../output.ts";
import type { Rotation } from "../rotation.ts";
import { openSession } from "../session.ts";
import type { Invocation } from "../verb.ts";

/** As the control plane answers it (`control/identity/rotation.ts`). */
interface Status {
  readonly trustDomain: string;
  readonly given: boolean;
  readonly issuer: { readonly fingerprint: string; readonly subject: string; readonly notAfter: string };
  readonly roots: readonly { readonly fingerprint: string; readonly subject: string; readonly notAfter: string; readonly state: string }[];
  readonly holders: number;
  readonly holdersOfIssuer: number;
  readonly behind: readonly string[];
  readonly rotation: null | Rotation;
}

interface Revocation extends KubeObject {
  readonly spec: {
    readonly serial?: string;
    readonly serviceAccount?: { readonly namespace: string; readonly name: string; readonly issuedBefore?: string };
    readonly tokenSha256?: string;
    readonly reason?: string;
    readonly expiresAt?: string;
  };
}

const path = "/weft/v1alpha1/ca";
const revocations = "/apis/weft.dev/v1alpha1/revocations";
/** Certificates live for a day; an hour for clocks. */
const forgetAfterMs = 25 * 3_600_000;
const mostShown = 20;

export async function run(invocation: Invocation): Promise<number> {
  const [action, ...names] = invocation.args.operands;
  const alone = () => {
    if (names.length > 0) throw new UsageFailure(`weft ca ${action} takes no ${JSON.stringify(names[0])}`);
  };
  switch (action) {
    case "status":
      alone();
      return status(invocation);
    case "rotate":
    case "abandon":
      alone();
      return step(invocation, action, "");
    case "finish":
      alone();
      return step(invocation, action, invocation.args.on("force") ? "?force=true" : "");
    case "revoke":
      alone();
      return revoke(invocation);
    case "revocations":
      alone();
      return list(invocation);
    case "lift":
      return lift(invocation, names);
    default:
      throw new UsageFailure(
        `weft ca takes status, rotate, finish, abandon, revoke, revocations, lift, encrypt or decrypt, not "${action}"`,
      );
  }
}

async function status(invocation: Invocation): Promise<number> {
  const { client } = openSession(invocation);
  const facts = await client.json<Status>(path);
  if (!(await printed(invocation.terminal, invocation.args.text("output"), facts))) show(invocation, facts);
  return 0;
}

async function step(invocation: Invocation, name: string, query: string): Promise<number> {
  const { client } = openSession(invocation);
  const facts = await client.json<Status>(`${path}/${name}${query}`, { method: "POST" });
  if (!(await printed(invocation.terminal, invocation.args.text("output"), facts))) show(invocation, facts);
  return 0;
}

const phases: Readonly<Record<NonNullable<Status["rotation"]>["phase"], string>> = {
  distributing: "the new root is told to everybody; the old one issues",
  issuing: "the new root issues; the old one is trusted until its certificates have ended",
  returning: "given up: the old root issues again; the new one is trusted until its certificates have ended",
  finishing: "the new root takes the old one's place",
};

function show({ terminal }: Invocation, facts: Status): void {
  const { issuer, roots, rotation } = facts;
  terminal.out(`trust domain  ${facts.trustDomain}\n`);
  terminal.out(
    `issuer        ${issuer.subject} (${issuer.fingerprint}…), until ${issuer.notAfter}${facts.given ? ", given by --ca-cert" : ""}\n`,
  );
  for (const root of roots) terminal.out(`root          ${root.subject} (${root.fingerprint}…), until ${root.notAfter}\n`);
  terminal.out(`holders       ${facts.holders} connected, ${facts.holdersOfIssuer} with a certificate of this issuer\n`);
  if (rotation === null) {
    terminal.out("rotation      none\n");
    for (const one of facts.behind.slice(0, mostShown)) terminal.out(`behind        ${one}\n`);
    return;
  }
  terminal.out(`rotation      ${rotation.phase}, since ${rotation.switchedAt ?? rotation.startedAt}: ${phases[rotation.phase]}\n`);
  for (const one of rotation.waitingFor.slice(0, mostShown)) terminal.out(`waits for     ${one}\n`);
  const more = rotation.waitingFor.length - mostShown;
  if (more > 0) terminal.out(`              and ${more} more\n`);
}

async function revoke(invocation: Invocation): Promise<number> {
  const { args, terminal } = invocation;
  const { client, namespace } = openSession(invocation);
  const serial = args.text("serial");
  const account = args.text("service-account");
  const tokenFile = args.text("token-file");
  if ([serial, account, tokenFile].filter((each) => each !== undefined).length !== 1)
    throw new UsageFailure("weft ca revoke needs one of --serial HEX, --service-account NAME and --token-file FILE");
  if (args.on("rejoin") && account === undefined) throw new UsageFailure("--rejoin goes with --service-account");
  const now = Date.now();
  const time = (ms: number) => `${new Date(ms).toISOString().slice(0, 19)}Z`;
  const reason = args.text("reason");
  let spec: Revocation["spec"];
  let what: string;
  if (serial !== undefined) {
    spec = { serial, expiresAt: time(now + forgetAfterMs) };
    what = `certificate ${serial}`;
  } else if (account !== undefined) {
    const rejoin = args.on("rejoin");
    // The next whole second: what is issued within this one is refused too.
    const issuedBefore = time(now + 1_000);
    spec = {
      serviceAccount: { namespace, name: account, ...(rejoin ? { issuedBefore } : {}) },
      ...(rejoin ? { expiresAt: time(now + forgetAfterMs) } : {}),
    };
    what = rejoin ? `certificates of ${namespace}/${account} issued so far` : `${namespace}/${account}`;
  } else {
    const token = readToken(tokenFile as string);
    spec = { tokenSha256: createHash("sha256").update(token.split(".").slice(0, 2).join(".")).digest("hex"), ...endOfToken(token, time) };
    what = `the token in ${tokenFile}`;
  }
  const name = (account ?? (serial === undefined ? "token" : "certificate")).slice(0, 50);
  const object = await client.json<Revocation>(revocations, {
    method: "POST",
    body: { metadata: { generateName: `${name}-` }, spec: { ...spec, ...(reason === undefined ? {} : { reason }) } },
  });
  if (await printed(terminal, args.text("output"), { name: object.metadata.name, ...object.spec })) return 0;
  terminal.out(`${object.metadata.name}: refused from now on: ${what}\n`);
  if (account !== undefined)
    terminal.err(
      "# Proxies of other makes that check certificates themselves learn of single certificates only; for those revoke the serial numbers too (weft logs shows what was issued)\n",
    );
  return 0;
}

function readToken(file: string): string {
  let text: string;
  try {
    text = readFileSync(file, "utf8").trim();
  } catch (cause) {
    throw new CliFailure(`--token-file ${file} cannot be read (${(cause as NodeJS.ErrnoException).code ?? String(cause)})`);
  }
  // A kubeconfig of weft token create has it behind `token:`.
  const found = /^[\w-]+\.[\w-]+\.[\w-]+$/.test(text) ? text : /^\s*token:\s*["']?([\w-]+\.[\w-]+\.[\w-]+)["']?\s*$/m.exec(text)?.[1];
  if (found === undefined) throw new CliFailure(`--token-file ${file} holds no join token, and is no kubeconfig with one`);
  return found;
}

function endOfToken(token: string, time: (ms: number) => string): { expiresAt?: string } {
  try {
    const { exp } = JSON.parse(Buffer.from(token.split(".")[1] ?? "", "base64url").toString()) as { exp?: unknown };
    return typeof exp === "number" ? { expiresAt: time(exp * 1000 + 600_000) } : {};
  } catch {
    return {};
  }
}

async function list(invocation: Invocation): Promise<number> {
  const { args, terminal } = invocation;
  const { client } = openSession(invocation);
  const { items } = await client.json<{ items: Revocation[] }>(revocations);
  const facts = items.map(({ metadata, spec }) => ({ name: metadata.name, ...spec, createdAt: metadata.creationTimestamp }));
  if (await printed(terminal, args.text("output"), { revocations: facts })) return 0;
  if (facts.length === 0) {
    terminal.err("nobody is revoked\n");
    return 0;
  }
  const rows = facts.map((fact) => [
    fact.name,
    fact.serial !== undefined
      ? `certificate ${fact.serial}`
      : fact.serviceAccount !== undefined
        ? `${fact.serviceAccount.namespace}/${fact.serviceAccount.name}${fact.serviceAccount.issuedBefore === undefined ? "" : ` issued before ${fact.serviceAccount.issuedBefore}`}`
        : `token ${fact.tokenSha256?.slice(0, 12) ?? ""}`,
    fact.reason ?? "",
    fact.expiresAt ?? "never",
    ageOf(fact.createdAt, Date.now()),
  ]);
  terminal.out(table(["NAME", "REFUSES", "REASON", "FORGOTTEN", "AGE"], rows, terminal.colour));
  return 0;
}

async function lift(invocation: Invocation, names: readonly string[]): Promise<number> {
  const { client } = openSession(invocation);
  if (names.length === 0) throw new UsageFailure("weft ca lift needs a NAME, as weft ca revocations lists them");
  for (const name of names) {
    await remove(client, name);
    invocation.terminal.out(`${name} lifted\n`);
  }
  return 0;
}

async function remove(client: Client, name: string): Promise<void> {
  try {
    await client.json(`${revocations}/${encodeURIComponent(name)}`, { method: "DELETE" });
  } catch (error) {
    if (error instanceof ApiFailure && error.code === 404)
      throw new CliFailure(`there is no revocation ${name}; weft ca revocations lists them`);
    throw error;
  }
}
