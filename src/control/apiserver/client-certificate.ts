// Owns: who a client certificate says that somebody is: the user is its common name, the groups are its organizations, as in Kubernetes. Reads one file.
// Never checks the chain: TLS has, against the authorities of `--client-ca`.

import { X509Certificate } from "node:crypto";
import { readFileSync } from "node:fs";
import { callerNamed } from "../identity/access.ts";
import { IdentityError } from "../identity/failure.ts";
import type { Authentication } from "./deps.ts";

/** As Node and Bun show a peer's certificate, as far as it is read. */
export interface ShownCertificate {
  readonly subject?: { readonly CN?: string | readonly string[]; readonly O?: string | readonly string[] };
  readonly valid_to?: string;
}

export interface CertificateVerdict {
  readonly answer: Authentication;
  /** A connection may outlive its certificate. */
  readonly notAfterMs: number;
}

/** The group whose members are administrators, as in Kubernetes: whoever may sign for it is one. */
const administrators = "system:masters";

export function judgeCertificate(shown: ShownCertificate, trouble: string | undefined): CertificateVerdict {
  const no = (reason: string): CertificateVerdict => ({ answer: { ok: false, reason }, notAfterMs: Number.POSITIVE_INFINITY });
  if (trouble !== undefined)
    return no(`the client certificate is not good here: ${trouble}; it must be signed for client use by an authority of --client-ca`);
  const { CN, O = [] } = shown.subject ?? {};
  if (typeof CN !== "string" || CN === "")
    return no("the client certificate names nobody: its subject needs one common name (CN), which is the user");
  const groups = typeof O === "string" ? [O] : [...O];
  if (CN === "admin" && !groups.includes(administrators))
    return no(`the name admin is the administrator's; a certificate of theirs is of organization ${administrators}`);
  const caller = callerNamed(CN, groups);
  if (caller === undefined) return no(`there is nobody called ${JSON.stringify(CN)}`);
  const notAfterMs = Date.parse(shown.valid_to ?? "");
  if (!Number.isFinite(notAfterMs)) return no("the client certificate does not say how long it is good");
  return { answer: { ok: true, caller }, notAfterMs };
}

/** The file of `--client-ca`. Throws IdentityError, which names it and the way out. */
export function readClientCa(path: string, nowMs: number): string {
  let text: string;
  try {
    text = readFileSync(path, "utf8");
  } catch (cause) {
    throw new IdentityError(`--client-ca ${path} cannot be read (${(cause as NodeJS.ErrnoException).code ?? String(cause)})`);
  }
  const blocks = text.match(/-----BEGIN CERTIFICATE-----[^-]*-----END CERTIFICATE-----/g) ?? [];
  if (blocks.length === 0) throw new IdentityError(`--client-ca ${path} holds no certificate; it takes PEM: -----BEGIN CERTIFICATE-----`);
  for (const [at, block] of blocks.entries()) {
    const which = `certificate ${at + 1} in --client-ca ${path}`;
    let certificate: X509Certificate;
    try {
      certificate = new X509Certificate(block);
    } catch {
      throw new IdentityError(`${which} cannot be read as X.509`);
    }
    if (!certificate.ca)
      throw new IdentityError(`${which} (${certificate.subject.replaceAll("\n", ", ")}) is no authority's: it may not sign others`);
    if (certificate.validToDate.getTime() <= nowMs)
      throw new IdentityError(
        `${which} (${certificate.subject.replaceAll("\n", ", ")}) has expired on ${certificate.validToDate.toISOString()}`,
      );
  }
  return `${blocks.join("\n")}\n`;
}
