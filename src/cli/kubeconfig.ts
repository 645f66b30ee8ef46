// Owns: finding and reading the file that says how to reach the control plane (a kubeconfig, as kubectl has it). Reads files; never writes.

import { readFileSync } from "node:fs";
import { dirname, resolve } from "node:path";
import { CliFailure, reasonOf } from "./failure.ts";

export type Environment = Readonly<Record<string, string | undefined>>;

export interface Access {
  /** Without a trailing slash. */
  readonly server: string;
  /** PEM; undefined: the system's roots. */
  readonly ca: string | undefined;
  readonly token: string | undefined;
  /** PEM texts of a client certificate and its key; undefined: none is shown. */
  readonly certificate?: { readonly cert: string; readonly key: string } | undefined;
  readonly namespace: string;
  /** Name to check the server's certificate against, when it is not the host in `server`. */
  readonly serverName: string | undefined;
  readonly skipVerify: boolean;
  /** The file, for messages. */
  readonly file: string;
}

/** Where the kubeconfig is looked for; the first of flag, environment, data folder, home. */
export function kubeconfigPath(flag: string | undefined, env: Environment): string {
  if (flag !== undefined) return flag;
  if (env.WEFT_KUBECONFIG) return env.WEFT_KUBECONFIG;
  if (env.WEFT_DATA) return `${env.WEFT_DATA}/admin.kubeconfig`;
  return `${env.HOME ?? "~"}/.weft/admin.kubeconfig`;
}

/** The file is not there (yet): `weft run` waits for it, the other verbs give up. */
export class NoKubeconfig extends CliFailure {}

export function readAccess(file: string): Access {
  let text: string;
  try {
    text = readFileSync(file, "utf8");
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code;
    if (code === "ENOENT") {
      throw new NoKubeconfig(
        `there is no kubeconfig at ${file}. Start a control plane with "weft up", or name the file with --kubeconfig or $WEFT_KUBECONFIG.`,
      );
    }
    throw new CliFailure(`the kubeconfig ${file} cannot be read (${code ?? reasonOf(error)})`);
  }
  let document: unknown;
  try {
    // Bun's own parser: a kubeconfig is short and ours, so that line numbers are not worth loading the yaml library for.
    document = Bun.YAML.parse(text);
  } catch (error) {
    throw new CliFailure(`the kubeconfig ${file} is not YAML: ${reasonOf(error)}`);
  }
  return accessFrom(document, file);
}

type Named = { name?: unknown; [key: string]: unknown };

/** Pure but for files that the kubeconfig itself names. */
export function accessFrom(document: unknown, file: string): Access {
  const fault = (what: string) => new CliFailure(`the kubeconfig ${file} ${what}`);
  if (!isRecord(document)) throw fault("is empty or no mapping");
  const currentName = document["current-context"];
  if (typeof currentName !== "string" || currentName === "") throw fault("names no current-context");
  const context = named(document.contexts, currentName)?.context;
  if (!isRecord(context)) throw fault(`has no context "${currentName}"`);
  const cluster = named(document.clusters, context.cluster)?.cluster;
  if (!isRecord(cluster) || typeof cluster.server !== "string") throw fault(`has no cluster "${String(context.cluster)}" with a server`);
  const user = named(document.users, context.user)?.user;
  const near = (path: unknown): string => readNear(file, String(path));

  let token: string | undefined;
  let certificate: Access["certificate"];
  if (isRecord(user)) {
    if (typeof user.token === "string") token = user.token;
    else if (user.tokenFile !== undefined) token = near(user.tokenFile).trim();
    const pem = (name: string): string | undefined => {
      const data = user[`${name}-data`];
      if (typeof data === "string") return Buffer.from(data, "base64").toString("utf8");
      return user[name] === undefined ? undefined : near(user[name]);
    };
    const [cert, key] = [pem("client-certificate"), pem("client-key")];
    if ((cert === undefined) !== (key === undefined)) throw fault("has one of client-certificate and client-key; both are needed");
    if (cert !== undefined && key !== undefined) certificate = { cert, key };
    const unusable = ["exec", "auth-provider", "username"].find((name) => user[name] !== undefined);
    if (token === undefined && certificate === undefined && unusable !== undefined)
      throw fault(`signs in by "${unusable}"; weft knows token, tokenFile and client-certificate with client-key`);
  }
  let ca: string | undefined;
  if (typeof cluster["certificate-authority-data"] === "string")
    ca = Buffer.from(cluster["certificate-authority-data"], "base64").toString("utf8");
  else if (cluster["certificate-authority"] !== undefined) ca = near(cluster["certificate-authority"]);
  return {
    server: cluster.server.replace(/\/+$/, ""),
    ca,
    token,
    certificate,
    namespace: typeof context.namespace === "string" && context.namespace !== "" ? context.namespace : "default",
    serverName: typeof cluster["tls-server-name"] === "string" ? cluster["tls-server-name"] : undefined,
    skipVerify: cluster["insecure-skip-tls-verify"] === true,
    file,
  };
}

export interface TokenClaims {
  readonly namespace: string;
  readonly serviceAccount: string;
  /** ms since the epoch; undefined: no expiry in it. */
  readonly expiresAt: number | undefined;
}

/** What a join token says of itself, unverified (the server verifies); undefined for an opaque token such as the administrator's. */
export function joinClaims(token: string | undefined): TokenClaims | undefined {
  const body = token?.split(".")[1];
  if (body === undefined) return undefined;
  try {
    const claims = JSON.parse(Buffer.from(body, "base64url").toString("utf8")) as { sub?: unknown; exp?: unknown };
    const match = typeof claims.sub === "string" ? /^system:serviceaccount:([^:]+):([^:]+)$/.exec(claims.sub) : null;
    if (match === null) return undefined;
    return {
      namespace: match[1] as string,
      serviceAccount: match[2] as string,
      expiresAt: typeof claims.exp === "number" ? claims.exp * 1000 : undefined,
    };
  } catch {
    return undefined;
  }
}

/** A complete kubeconfig as YAML text, everything inline, so that it can be carried to another machine. JSON strings are YAML strings. */
export function formatKubeconfig(access: Pick<Access, "server" | "ca" | "token" | "certificate" | "namespace">, user: string): string {
  const q = JSON.stringify;
  const lines = [
    "apiVersion: v1",
    "kind: Config",
    "current-context: weft",
    "clusters:",
    "- name: weft",
    "  cluster:",
    `    server: ${q(access.server)}`,
  ];
  if (access.ca !== undefined) lines.push(`    certificate-authority-data: ${Buffer.from(access.ca).toString("base64")}`);
  lines.push("users:", `- name: ${q(user)}`, "  user:");
  const base64 = (text: string): string => Buffer.from(text).toString("base64");
  if (access.certificate === undefined) lines.push(`    token: ${q(access.token ?? "")}`);
  else
    lines.push(`    client-certificate-data: ${base64(access.certificate.cert)}`, `    client-key-data: ${base64(access.certificate.key)}`);
  lines.push(
    "contexts:",
    "- name: weft",
    "  context:",
    "    cluster: weft",
    `    user: ${q(user)}`,
    `    namespace: ${q(access.namespace)}`,
  );
  return `${lines.join("\n")}\n`;
}

function named(list: unknown, name: unknown): Named | undefined {
  return Array.isArray(list) ? (list as Named[]).find((item) => isRecord(item) && item.name === name) : undefined;
}

function readNear(file: string, path: string): string {
  const full = resolve(dirname(file), path);
  try {
    return readFileSync(full, "utf8");
  } catch (error) {
    throw new CliFailure(
      `the kubeconfig ${file} names ${full}, which cannot be read (${(error as NodeJS.ErrnoException).code ?? reasonOf(error)})`,
    );
  }
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
