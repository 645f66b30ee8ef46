// Owns: the text of `admin.kubeconfig`, which kubectl and our own command line both take. Pure. Holds the admin token: write it for the owner alone.

import type { Secret } from "./identity/secret.ts";

/** YAML. All values are quoted as JSON, which YAML includes. */
export function adminKubeconfig(server: string, caPem: string, token: Secret): string {
  const q = JSON.stringify;
  return `# Written by weft up at each start. Holds the administrator's token: keep it private.
apiVersion: v1
kind: Config
clusters:
- name: weft
  cluster:
    server: ${q(server)}
    certificate-authority-data: ${Buffer.from(caPem).toString("base64")}
users:
- name: weft-admin
  user:
    token: ${q(token.reveal())}
contexts:
- name: weft
  context:
    cluster: weft
    user: weft-admin
    namespace: default
current-context: weft
`;
}
