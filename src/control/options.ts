// Owns: the options of `weft up`, from flags, environment and configuration file, in this order. Refuses with a sentence that names the word
// and the way out. Files are read by what it is given.

import { isIP } from "node:net";
import type { LogLevel } from "../base/log.ts";
import type { GivenFiles } from "./identity/given.ts";
import { parseStore, type StoreAddress } from "./store/address.ts";

export interface UpOptions {
  readonly dataDir: string;
  readonly listen: string;
  /** undefined = that of the last run on this folder, else the default; 0 = any free one. */
  readonly apiPort: number | undefined;
  readonly xdsPort: number | undefined;
  readonly dashboardPort: number | undefined;
  readonly trustDomain: string | undefined;
  /** The user's own certificate authority; undefined = Weft's. */
  readonly caFiles: GivenFiles | undefined;
  /** Roots to trust beside those of Weft's own authority. */
  readonly caRootFile: string | undefined;
  /** Of the authority's key. */
  readonly caPassphraseFile: string | undefined;
  /** The same from `$WEFT_CA_PASSPHRASE`, which counts where no file is named. */
  readonly caPassphrase: string | undefined;
  /** Unix socket at which programs of this machine join; undefined = none. */
  readonly joinSocket: string | undefined;
  /** As whom users of this machine may join; undefined = only whoever runs the control plane, as anybody. */
  readonly joinUsers: string | undefined;
  /** Authorities whose client certificates are credentials at the API, or `own`; undefined = none are. */
  readonly clientCaFile: string | undefined;
  /** Requests a second of one credential; undefined = the default, 0 = no limit. */
  readonly apiRate: number | undefined;
  readonly store: StoreAddress;
  /** File that seals what the control planes on one etcd share; undefined = it stands there as it is. */
  readonly storeKey: string | undefined;
  /** What one request of etcd may hold; undefined = etcd's default. */
  readonly etcdRequestBytes: number | undefined;
  /** `host:port` that proxies are told; undefined = the address listened on. */
  readonly xdsAddress: string | undefined;
  readonly logLevel: LogLevel;
  readonly logFormat: "json" | "text";
}

export class UsageError extends Error {
  override readonly name = "UsageError";
}

export const usage = `Usage: weft up [--data DIR] [--listen ADDRESS] [--api-port N] [--xds-port N] [--dashboard-port N]
               [--trust-domain NAME] [--ca-cert FILE --ca-key FILE] [--ca-root FILE] [--ca-passphrase-file FILE] [--client-ca FILE] [--api-rate N] [--config FILE] [--log-level LEVEL] [--log-format FORMAT]
               [--store STORE [--store-key FILE] [--etcd-ca FILE] [--etcd-cert FILE --etcd-key FILE]
                [--etcd-user NAME --etcd-password-file FILE] [--etcd-max-request-bytes N]] [--xds-address HOST:PORT]

Starts the control plane: API, xDS, identity, analysis and dashboard in one process.

  --data DIR            folder for all state (default $WEFT_DATA, then ~/.weft)
  --listen ADDRESS      IP address to listen on (default 127.0.0.1)
  --api-port N          REST API over HTTPS (default 7443; 0 = any free port)
  --xds-port N          configuration, identity, metrics and access logs of sidecars (default 7444)
  --dashboard-port N    dashboard on the loopback address (default 7445)
  --trust-domain NAME   trust domain of the mesh's identities, fixed at the first start (default cluster.local)
  --ca-cert FILE        certificate authority to issue from, PEM: issuing certificate first, then those above it (default: one of its own)
  --ca-key FILE         its private key, PEM
  --ca-root FILE        roots to trust, beside Weft's own or where the file of --ca-cert does not end in one; several while one replaces another
  --ca-passphrase-file FILE  passphrase of the authority's key (or $WEFT_CA_PASSPHRASE); Weft's own key is encrypted with it;
                        --passphrase-file means the same
  --client-ca FILE      authorities (PEM) whose client certificates are credentials at the API: common name = user, organizations = groups;
                        own: an authority of Weft's, from which weft user certificate NAME takes them
  --join-socket PATH    Unix socket at which programs of this machine get join tokens for being who they are (Linux)
  --join-users RULES    who may join there as whom: USER=NAMESPACE/ACCOUNT,USER=NAMESPACE/*,USER=* (default: this user alone)
  --api-rate N          requests a second that one user or service account may make (default 200; 0 = no limit)
  --store STORE         sqlite (default, in the data folder), or etcd://HOST:PORT,HOST:PORT/PREFIX, which several control planes
                        share; etcds:// by TLS (prefix /weft if none is named)
  --store-key FILE      etcd: seals the mesh's keys there; the same file, 32 bytes or more, for every control plane
  --etcd-ca FILE        etcd: roots that its certificate is checked against (PEM)
  --etcd-cert FILE      etcd: client certificate, with --etcd-key FILE
  --etcd-user NAME      etcd: user to log in as, with --etcd-password-file FILE or $WEFT_ETCD_PASSWORD
  --etcd-max-request-bytes N  etcd: what its flag of that name says (default 1572864)
  --xds-address HOST:PORT     address that proxies are told to connect to (default: the one listened on)
  --config FILE         YAML with these flags as keys (api-port: 7443)
  --log-level LEVEL     debug, info, warn, error or silent (default info)
  --log-format FORMAT   text or json (default text), on standard error

On a restart the ports of the last run are taken again, so that sidecars find it.

A flag goes before the environment ($WEFT_DATA, $WEFT_LISTEN, $WEFT_API_PORT, ...: the flag's name in capitals), that before the
file ($WEFT_CONFIG names it too), that before the default.

Example: weft up --data ./mesh
`;

const levels: readonly LogLevel[] = ["debug", "info", "warn", "error", "silent"];

/** What a file and, in capitals behind `WEFT_`, the environment may say too. */
const settings = [
  "data",
  "listen",
  "api-port",
  "xds-port",
  "dashboard-port",
  "trust-domain",
  "ca-cert",
  "ca-key",
  "ca-root",
  "ca-passphrase-file",
  "join-socket",
  "join-users",
  "client-ca",
  "api-rate",
  "store",
  "store-key",
  "etcd-ca",
  "etcd-cert",
  "etcd-key",
  "etcd-user",
  "etcd-password-file",
  "etcd-max-request-bytes",
  "xds-address",
  "log-level",
  "log-format",
];

/** Reads the file that `--config` names: keys of `known` only. Throws an Error in words. */
export type ReadConfig = (path: string, known: readonly string[]) => ReadonlyMap<string, string>;

/** Reads the arguments after `up`. `"help"` = the user asked for it. Throws UsageError. `readConfig` is asked only when a file is named. */
export function parseOptions(
  argv: readonly string[],
  env: Readonly<Record<string, string | undefined>>,
  readConfig?: ReadConfig,
): UpOptions | "help" {
  const given = new Map<string, string>();
  /** Where a value that is not a flag's comes from, for messages. */
  const source = new Map<string, string>();
  const known = [...settings, "config"];
  for (let at = 0; at < argv.length; at++) {
    const word = argv[at] as string;
    if (word === "--help" || word === "-h") return "help";
    const [, written, , inline] = /^--([a-z-]+)(=(.*))?$/s.exec(word) ?? [];
    // As weft ca encrypt and decrypt call it.
    const name = written === "passphrase-file" ? "ca-passphrase-file" : written;
    if (name === undefined) throw new UsageError(`weft up takes no ${JSON.stringify(word)}; see weft up --help`);
    if (!known.includes(name)) throw new UsageError(`weft up has no flag --${name}; it knows ${known.map((k) => `--${k}`).join(", ")}`);
    const value = inline ?? argv[++at];
    if (value === undefined || value === "") throw new UsageError(`--${written} needs a value`);
    given.set(name, value);
  }
  for (const name of known) {
    const variable = `WEFT_${name.toUpperCase().replaceAll("-", "_")}`;
    const value = env[variable];
    if (value === undefined || value === "" || given.has(name)) continue;
    given.set(name, value);
    source.set(name, `$${variable}`);
  }
  const file = given.get("config");
  if (file !== undefined && readConfig !== undefined) {
    try {
      for (const [name, value] of readConfig(file, settings)) {
        if (given.has(name)) continue;
        given.set(name, value);
        source.set(name, `${name} in ${file}`);
      }
    } catch (cause) {
      throw new UsageError(cause instanceof Error ? cause.message : String(cause));
    }
  }
  const called = (name: string) => source.get(name) ?? `--${name}`;

  const port = (name: string): number | undefined => {
    const text = given.get(name);
    if (text === undefined) return undefined;
    if (!/^\d{1,5}$/.test(text) || Number(text) > 65_535)
      throw new UsageError(`${called(name)} takes a port from 0 to 65535 (0 = any free one), not ${JSON.stringify(text)}`);
    return Number(text);
  };
  const oneOf = <T extends string>(name: string, values: readonly T[], otherwise: T): T => {
    const text = given.get(name) ?? otherwise;
    const found = values.find((v) => v === text);
    if (found === undefined) throw new UsageError(`${called(name)} is one of ${values.join(", ")}, not ${JSON.stringify(text)}`);
    return found;
  };
  const listen = given.get("listen") ?? "127.0.0.1";
  if (isIP(listen) === 0) throw new UsageError(`${called("listen")} takes an IP address, not ${JSON.stringify(listen)}`);
  const trustDomain = given.get("trust-domain");
  if (trustDomain !== undefined && !/^[a-z0-9]([a-z0-9._-]{0,253}[a-z0-9])?$/.test(trustDomain)) {
    throw new UsageError(
      `${called("trust-domain")} takes lower-case letters, digits, dots, dashes and underscores (SPIFFE), not ${JSON.stringify(trustDomain)}`,
    );
  }
  const [caCert, caKey, caRoot] = [given.get("ca-cert"), given.get("ca-key"), given.get("ca-root")];
  if (caCert === undefined && caKey !== undefined)
    throw new UsageError(`${called("ca-key")} is the key of an authority; give its certificate too, with --ca-cert FILE`);
  if (caCert !== undefined && caKey === undefined)
    throw new UsageError(`${called("ca-cert")} is an authority to issue from; give its private key too, with --ca-key FILE`);
  if (given.has("join-users") && !given.has("join-socket"))
    throw new UsageError(`${called("join-users")} is for the socket at which they join; name it with --join-socket PATH`);
  const home = env.HOME;
  const dataDir = given.get("data") ?? (home === undefined ? undefined : `${home}/.weft`);
  if (dataDir === undefined || dataDir === "") throw new UsageError("no folder for the state: name one with --data DIR or $WEFT_DATA");
  const rate = given.get("api-rate");
  if (rate !== undefined && !/^\d{1,6}$/.test(rate))
    throw new UsageError(`${called("api-rate")} takes a whole number (0 = no limit), not ${JSON.stringify(rate)}`);
  const storeText = given.get("store") ?? "sqlite";
  let store: StoreAddress;
  try {
    store = parseStore(storeText, called("store"), {
      caFile: given.get("etcd-ca"),
      certificateFile: given.get("etcd-cert"),
      keyFile: given.get("etcd-key"),
      user: given.get("etcd-user"),
      passwordFile: given.get("etcd-password-file"),
      password: env.WEFT_ETCD_PASSWORD,
    });
  } catch (cause) {
    throw new UsageError(cause instanceof Error ? cause.message : String(cause));
  }
  if (store.kind === "sqlite") {
    if (store.dir !== undefined)
      throw new UsageError(`${called("store")} sqlite is in the data folder; name that with --data ${store.dir}`);
    const odd = [...given.keys()].find((name) => name.startsWith("etcd-") || name === "store-key");
    if (odd !== undefined)
      throw new UsageError(`${called(odd)} is for a store in etcd; give --store etcd://HOST:PORT too, or leave it out`);
  }
  if (given.get("client-ca") === "own" && store.kind !== "sqlite")
    throw new UsageError(
      `${called("client-ca")} own is an authority in one data folder; several control planes on one store take a file: ${called("client-ca")} FILE`,
    );
  const requestBytes = given.get("etcd-max-request-bytes");
  if (requestBytes !== undefined && !/^[1-9]\d{4,8}$/.test(requestBytes))
    throw new UsageError(`${called("etcd-max-request-bytes")} takes a number of bytes, 10000 or more, not ${JSON.stringify(requestBytes)}`);
  const xdsAddress = given.get("xds-address");
  if (xdsAddress !== undefined && !/^(\[[0-9a-fA-F:]+\]|[^:\s,]+):\d{1,5}$/.test(xdsAddress))
    throw new UsageError(`${called("xds-address")} takes HOST:PORT, not ${JSON.stringify(xdsAddress)}`);
  return {
    dataDir,
    store,
    storeKey: given.get("store-key"),
    etcdRequestBytes: requestBytes === undefined ? undefined : Number(requestBytes),
    xdsAddress,
    clientCaFile: given.get("client-ca"),
    apiRate: rate === undefined ? undefined : Number(rate),
    listen,
    apiPort: port("api-port"),
    xdsPort: port("xds-port"),
    dashboardPort: port("dashboard-port"),
    trustDomain,
    caFiles: caCert === undefined || caKey === undefined ? undefined : { certificateFile: caCert, keyFile: caKey, rootFile: caRoot },
    caRootFile: caCert === undefined ? caRoot : undefined,
    joinSocket: given.get("join-socket"),
    joinUsers: given.get("join-users"),
    caPassphraseFile: given.get("ca-passphrase-file"),
    caPassphrase: env.WEFT_CA_PASSPHRASE === "" ? undefined : env.WEFT_CA_PASSPHRASE,
    logLevel: oneOf("log-level", levels, "info"),
    logFormat: oneOf("log-format", ["text", "json"] as const, "text"),
  };
}
