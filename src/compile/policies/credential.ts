// Owns: what `credentialName` of a DestinationRule leads to: the Secret of the rule's namespace, the authorities in it and the caller's certificate.
// Never decides who gets a private key: ./destinationrule.ts does, and gives it to callers of the Secret's own namespace alone.

import type { SecretObject } from "../../api/kinds/gateway-secret.ts";
import { secretSource } from "../route-sources.ts";
import { derived, equal } from "../world.ts";
import { authoritiesProblem, namesOfPair } from "./pem.ts";

export interface Credential {
  /** PEM; undefined = there is none that can be used. */
  readonly authorities: string | undefined;
  readonly authoritiesProblem: string;
  readonly certificate: { readonly chain: string; readonly key: string } | undefined;
  readonly certificateProblem: string;
}

/** Names of a Secret's entries: of `kubernetes.io/tls` and of Istio's generic Secrets. */
const entries = {
  pairs: [
    ["cert", "key"],
    ["tls.crt", "tls.key"],
  ],
  authorities: ["cacert", "ca.crt"],
  revoked: ["crl", "ca.crl"],
} as const;

/** By `NS/NAME`. As in Istio the authorities come from the Secret NAME-cacert where there is one, else from NAME itself. */
export const credentialOf = derived<Credential>((world, key) => {
  const secrets = world.objects(secretSource);
  return readCredential(key, secrets.get(key), secrets.get(`${key}-cacert`));
}, equal);

/** `beside`: the Secret NAME-cacert. */
export function readCredential(key: string, own: SecretObject | undefined, beside: SecretObject | undefined): Credential {
  const [authorities, authoritiesWrong] = authoritiesIn(beside ?? own, beside === undefined ? key : `${key}-cacert`);
  const [certificate, certificateWrong] = pairIn(own, key);
  return { authorities, authoritiesProblem: authoritiesWrong, certificate, certificateProblem: certificateWrong };
}

type Found<T> = readonly [found: T | undefined, problem: string];

function authoritiesIn(secret: SecretObject | undefined, key: string): Found<string> {
  if (secret === undefined) return [undefined, `there is no Secret ${key}`];
  // Believed without the list, a server would pass that its authority has taken back.
  const list = entries.revoked.find((name) => secret.data?.[name] !== undefined);
  if (list !== undefined)
    return [undefined, `Secret ${key}: ${list}: revocation lists of foreign authorities are not enforced; take the entry out`];
  const name = entries.authorities.find((each) => secret.data?.[each] !== undefined);
  if (name === undefined) return [undefined, `Secret ${key} has no entry ca.crt (or cacert)`];
  const pem = text(secret, name);
  const wrong = authoritiesProblem(pem, `${name} of Secret ${key}`);
  return wrong === undefined ? [pem, ""] : [undefined, wrong];
}

function pairIn(secret: SecretObject | undefined, key: string): Found<NonNullable<Credential["certificate"]>> {
  if (secret === undefined) return [undefined, `there is no Secret ${key}`];
  const pair = entries.pairs.find((names) => names.some((name) => secret.data?.[name] !== undefined));
  const missing = (pair ?? entries.pairs[1]).find((name) => secret.data?.[name] === undefined);
  if (pair === undefined || missing !== undefined) return [undefined, `Secret ${key} has no entry ${missing}`];
  const [chain, privateKey] = [text(secret, pair[0]), text(secret, pair[1])];
  const wrong = namesOfPair(chain, privateKey, pair);
  return typeof wrong === "string" ? [undefined, `Secret ${key}: ${wrong}`] : [{ chain, key: privateKey }, ""];
}

function text(secret: SecretObject, name: string): string {
  return Buffer.from(secret.data?.[name] ?? "", "base64").toString("utf8");
}

/** What keeps a mode of TLS from a credential, or empty. `unchecked`: the server's certificate is not looked at. */
export function credentialProblem(found: Credential, mutual: boolean, unchecked: boolean): string {
  return [
    ...new Set([unchecked || found.authorities !== undefined ? "" : found.authoritiesProblem, mutual ? found.certificateProblem : ""]),
  ]
    .filter((each) => each !== "")
    .join("; ");
}
