// Owns: finding the authorities that this host trusts, as its distribution keeps them. Never decides whether they may be used.

/** Where distributions keep the bundle; Go's crypto/x509 looks in the same places. */
export const systemRootFiles: readonly string[] = [
  "/etc/ssl/certs/ca-certificates.crt",
  "/etc/pki/tls/certs/ca-bundle.crt",
  "/etc/ssl/ca-bundle.pem",
  "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
  "/etc/ssl/cert.pem",
];

/** The first bundle there is, with its name; undefined: this host has none. */
export function readSystemRoots(readFile: (path: string) => Uint8Array): { readonly path: string; readonly pem: Uint8Array } | undefined {
  for (const path of systemRootFiles) {
    try {
      return { path, pem: readFile(path) };
    } catch {
      // The next place.
    }
  }
  return undefined;
}
