// Owns: what a control plane tells proxies of trust, beside configuration: the names of its secrets and the text of the deny list. Both processes share it.

/** SDS: the service that carries it, as Envoy has it. */
export const secretStreamPath = "/envoy.service.secret.v3.SecretDiscoveryService/StreamSecrets";
export const secretTypeUrl = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret";
/** The deny list: a generic secret whose text `writeDenyList` made. The roots come as `meshRootsSecret`. */
export const denyListSecret = "weft-denied";

/** Who is refused although a root of the mesh vouches for them. */
export interface DenyList {
  /** Serial numbers of certificates: upper-case hexadecimal without leading zeros. */
  readonly serials: readonly string[];
  readonly identities: readonly DeniedIdentity[];
}

export interface DeniedIdentity {
  /** `spiffe://TRUSTDOMAIN/ns/NAMESPACE/sa/NAME` */
  readonly uri: string;
  /** Only certificates issued before this moment, in seconds of Unix time; null: every one, whenever it was issued. */
  readonly issuedBefore: number | null;
}

/** Certificates are good from so long before they were issued, as clocks differ: their notBefore is that much earlier. */
export const backdateMs = 60_000;

/** Entries of one list. Certificates live for a day, so that a longer one is a fault; each proxy holds it. */
export const mostDenied = 10_000;

export const emptyDenyList: DenyList = { serials: [], identities: [] };

/** The same list is the same text. */
export function writeDenyList(list: DenyList): string {
  const serials = [...new Set(list.serials)].sort();
  const identities = [...list.identities].sort((a, b) => (a.uri < b.uri ? -1 : a.uri > b.uri ? 1 : 0));
  return JSON.stringify({ serials, identities });
}

/** Throws with a sentence on anything else than what `writeDenyList` makes: a list that is half understood keeps the wrong ones out. */
export function readDenyList(text: string): DenyList {
  const value = JSON.parse(text) as Partial<DenyList> | null;
  const { serials, identities } = value ?? {};
  if (!Array.isArray(serials) || !Array.isArray(identities)) throw new Error("the deny list lacks serials or identities");
  if (serials.length + identities.length > mostDenied) throw new Error(`the deny list has more than ${mostDenied} entries`);
  for (const serial of serials)
    if (typeof serial !== "string" || !/^[0-9A-F]{1,40}$/.test(serial))
      throw new Error("the deny list has something that is no serial number");
  for (const identity of identities as (Partial<DeniedIdentity> | null)[]) {
    const { uri, issuedBefore } = identity ?? {};
    if (typeof uri !== "string" || (issuedBefore !== null && !Number.isSafeInteger(issuedBefore)))
      throw new Error("the deny list has something that is no identity");
  }
  return { serials, identities };
}

/** As certificates' serial numbers are compared: upper-case hexadecimal without leading zeros. */
export function plainSerial(text: string): string {
  return text
    .replaceAll(":", "")
    .toUpperCase()
    .replace(/^0+(?=.)/, "");
}
