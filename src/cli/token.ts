// Owns: asking for a join token (authentication.k8s.io/v1 TokenRequest).

import type { Client } from "./client.ts";

export async function requestToken(
  client: Client,
  namespace: string,
  account: string,
  seconds: number,
): Promise<{ token: string; expiresAt: string }> {
  const path = `/api/v1/namespaces/${encodeURIComponent(namespace)}/serviceaccounts/${encodeURIComponent(account)}/token`;
  const body = { apiVersion: "authentication.k8s.io/v1", kind: "TokenRequest", spec: { expirationSeconds: Math.round(seconds) } };
  const answer = await client.json<{ status: { token: string; expirationTimestamp: string } }>(path, { method: "POST", body });
  return { token: answer.status.token, expiresAt: answer.status.expirationTimestamp };
}
