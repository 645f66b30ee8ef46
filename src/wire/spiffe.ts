// Owns: the shape of a workload identity (SPIFFE ID, https://github.com/spiffe/spiffe standards, SPIFFE-ID section 2).

/** `spiffe://TRUSTDOMAIN/ns/NAMESPACE/sa/SERVICEACCOUNT` */
export interface Identity {
  readonly trustDomain: string;
  readonly namespace: string;
  readonly serviceAccount: string;
}

const trustDomainPattern = /^[a-z0-9._-]{1,255}$/;
const namePattern = /^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$/;

export function formatIdentity(id: Identity): string {
  return `spiffe://${id.trustDomain}/ns/${id.namespace}/sa/${id.serviceAccount}`;
}

/** Parses a SPIFFE ID of this mesh's form; undefined for anything else. */
export function parseIdentity(uri: string): Identity | undefined {
  if (!uri.startsWith("spiffe://")) return undefined;
  const parts = uri.slice("spiffe://".length).split("/");
  if (parts.length !== 5) return undefined;
  const [trustDomain, ns, namespace, sa, serviceAccount] = parts as [string, string, string, string, string];
  if (ns !== "ns" || sa !== "sa") return undefined;
  if (!trustDomainPattern.test(trustDomain) || !namePattern.test(namespace) || !namePattern.test(serviceAccount)) return undefined;
  return { trustDomain, namespace, serviceAccount };
}
