// Owns: the limits of a connection before its first request: how much is looked at, and how long. docs/reference/limits.md shows them to users.

export const netLimits = {
  /** A TLS handshake from ClientHello to Finished. Ones that take longer are attacks or dead peers. */
  handshakeMs: 10_000,
  /** A ClientHello that is read for its server name. Real ones take 0.3 to 2 KiB; Envoy's inspector allows as much. */
  clientHelloBytes: 16 * 1024,
  /** The request line that tells HTTP/1 from an opaque protocol. */
  requestLineBytes: 8 * 1024,
  /** PROXY protocol version 1, section 2.1: the longest line with its CRLF. */
  proxyLineBytes: 107,
  /** PROXY protocol version 2: what may follow the 16 fixed bytes. Load balancers put certificates there, so more than addresses. */
  proxyBlockBytes: 16 * 1024,
} as const;
