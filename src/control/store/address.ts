// Owns: the text that names a store (`--store`), and the settings that go with one in etcd. Refuses with a sentence. Opens nothing.

import { readFileSync } from "node:fs";
import type { EtcdAddress } from "./etcd/connection.ts";
import { StoreFailure } from "./store.ts";

export interface EtcdSettings {
  readonly caFile?: string | undefined;
  readonly certificateFile?: string | undefined;
  readonly keyFile?: string | undefined;
  readonly user?: string | undefined;
  readonly passwordFile?: string | undefined;
  /** `$WEFT_ETCD_PASSWORD`. */
  readonly password?: string | undefined;
}

export type StoreAddress =
  | { readonly kind: "sqlite"; readonly dir: string | undefined }
  | { readonly kind: "etcd"; readonly address: EtcdAddress };

export const defaultPrefix = "/weft";

/** `sqlite` (the data folder), `sqlite:DIR`, or `etcd://HOST:PORT,HOST:PORT[/PREFIX]` (`etcds://`: by TLS). Throws Error in words. */
export function parseStore(text: string, called: string, settings: EtcdSettings = {}): StoreAddress {
  const [, scheme = "", rest = ""] = /^([a-z]+)(?::(?:\/\/)?(.*))?$/.exec(text) ?? [];
  if (scheme === "sqlite") return { kind: "sqlite", dir: rest === "" ? undefined : rest };
  if (scheme === "kubernetes")
    throw new Error(
      `${called} kubernetes is not there yet: a Kubernetes API cannot be the store. Use sqlite, or etcd://HOST:PORT/PREFIX with an etcd beside the cluster's own.`,
    );
  if (scheme !== "etcd" && scheme !== "etcds")
    throw new Error(
      `${called} takes sqlite, sqlite:DIR or etcd://HOST:PORT,HOST:PORT/PREFIX (etcds:// by TLS), not ${JSON.stringify(text)}`,
    );
  const slash = rest.indexOf("/");
  const members = (slash < 0 ? rest : rest.slice(0, slash)).split(",").filter((each) => each !== "");
  const prefix = slash < 0 ? defaultPrefix : rest.slice(slash).replace(/\/+$/, "") || defaultPrefix;
  if (members.length === 0) throw new Error(`${called} ${text} names no member of etcd; write etcd://HOST:PORT,HOST:PORT`);
  for (const member of members) {
    const [, port] = /^(?:\[[0-9a-fA-F:]+\]|[^:@/\s]+):(\d{1,5})$/.exec(member) ?? [];
    if (port === undefined || Number(port) < 1 || Number(port) > 65_535)
      throw new Error(`${called}: ${JSON.stringify(member)} is not HOST:PORT (a user goes into --etcd-user, its password into a file)`);
  }
  const { caFile, certificateFile, keyFile, user, passwordFile, password } = settings;
  if ((certificateFile === undefined) !== (keyFile === undefined)) throw new Error("--etcd-cert and --etcd-key belong together; give both");
  const byTls = scheme === "etcds" || caFile !== undefined || certificateFile !== undefined;
  if (user !== undefined && passwordFile === undefined && password === undefined)
    throw new Error("--etcd-user needs a password: --etcd-password-file FILE, or $WEFT_ETCD_PASSWORD");
  if (user === undefined && passwordFile !== undefined) throw new Error("--etcd-password-file needs the user it is for: --etcd-user NAME");
  return {
    kind: "etcd",
    address: {
      members,
      prefix,
      tls: byTls ? { caFile, certificateFile, keyFile } : undefined,
      user:
        user === undefined
          ? undefined
          : { name: user, password: () => (passwordFile === undefined ? (password ?? "") : readPassword(passwordFile)) },
    },
  };
}

function readPassword(path: string): string {
  try {
    return readFileSync(path, "utf8").replace(/\r?\n$/, "");
  } catch (cause) {
    throw new StoreFailure(`--etcd-password-file ${path} cannot be read (${(cause as NodeJS.ErrnoException).code ?? String(cause)})`, {
      cause,
    });
  }
}
