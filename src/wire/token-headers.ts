// Owns: which header fields claims of a token never become. Asked where a rule is written and again where a proxy takes it, which must say the same.

/** Fields that HTTP itself reads, or that only proxies write. */
const reserved: ReadonlySet<string> = new Set([
  "host",
  "connection",
  "content-length",
  "expect",
  "keep-alive",
  "proxy-connection",
  "te",
  "trailer",
  "transfer-encoding",
  "upgrade",
  "x-forwarded-client-cert",
  "x-request-id",
]);

/** `name` in lower case. */
export function isForTokens(name: string): boolean {
  return !reserved.has(name) && !name.startsWith("x-weft-");
}
