// Owns: revocation lists (RFC 5280 section 5) for TLS stacks of others: of each authority whose certificates are alive one, signed by it, naming the same serial
// numbers as the deny list. Our own proxies read the deny list instead. Never decides who is on it.

import { bits, der, integer, objectId, octets, sequence, smallInteger } from "../../base/der.ts";
import { writePem } from "../../base/pem.ts";
import type { LiveIssuer } from "./authority.ts";
import { time } from "./certificate.ts";

/** A list that has had its time makes TLS stacks refuse everybody: longer than any outage, and signed anew each day. */
export const listLifeMs = 30 * 86_400_000;
const dayMs = 86_400_000;

const extension = (id: string, value: Uint8Array): Uint8Array => sequence(objectId(id), octets(value));

/** One list, PEM. `number` must grow. */
export function writeRevocationList(issuer: LiveIssuer, serials: readonly string[], nowMs: number): string {
  const thisUpdate = time(nowMs - 60_000);
  const revoked = serials.map((serial) =>
    sequence(integer(Buffer.from(serial.padStart(serial.length + (serial.length % 2), "0"), "hex")), thisUpdate),
  );
  const number = Buffer.from(
    Math.floor(nowMs / 1000)
      .toString(16)
      .padStart(10, "0"),
    "hex",
  );
  const list = sequence(
    smallInteger(1),
    issuer.key.algorithm,
    issuer.name,
    thisUpdate,
    time(nowMs + listLifeMs),
    ...(revoked.length === 0 ? [] : [sequence(...revoked)]),
    der(0xa0, sequence(extension("2.5.29.35", sequence(der(0x80, issuer.keyIdentifier))), extension("2.5.29.20", integer(number)))),
  );
  return writePem("X509 CRL", sequence(list, issuer.key.algorithm, bits(issuer.key.sign(list))));
}

/** The lists as they are told: none while nothing is revoked, made anew when the serial numbers, the authorities or the day are others. */
export class RevocationLists {
  #for = "";
  #pem = "";

  pem(issuers: readonly LiveIssuer[], serials: readonly string[], nowMs: number): string {
    const what =
      serials.length === 0 ? "" : [Math.floor(nowMs / dayMs), ...issuers.map((one) => one.certificate.fingerprint), ...serials].join(" ");
    if (what === this.#for) return this.#pem;
    this.#pem =
      what === ""
        ? ""
        : issuers
            .filter((issuer) => issuer.certificate.signsLists)
            .map((issuer) => writeRevocationList(issuer, serials, nowMs))
            .join("");
    this.#for = what;
    return this.#pem;
  }
}
