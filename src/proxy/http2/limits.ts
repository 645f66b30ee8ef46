// Owns: every limit of the HTTP/2 engine with its reason (rule 4). Sizes in bytes and times in milliseconds unless the name says otherwise.
// What HTTP/1 limits too (heads, fields, trailers, time-outs) comes from the listener: `HttpLimits` of http1/limits.ts.

export const limits = {
  /** Streams a peer may have open with us (SETTINGS_MAX_CONCURRENT_STREAMS): 100 is the least RFC 9113 6.5.2 recommends, what Envoy recommends at an edge, and the default of HAProxy and Apache. */
  concurrentStreams: 100,
  /** What a stream may receive before we say more: RFC 9113's own default, so the first request needs no SETTINGS. Grows with the bandwidth-delay product. */
  streamWindow: 65_535,
  /** The same of a whole connection. */
  connectionWindow: 262_144,
  /** 4 MiB is 1 Gbit/s over 32 ms; more than that for one stream starves others. */
  largestStreamWindow: 4_194_304,
  largestConnectionWindow: 8_388_608,
  /** Bytes received and not taken by their sinks, over all streams of a connection and beyond the first window of each, before its own window stops growing back: slow readers cannot hold more of our memory. From half of it on, requests go to instances by other connections, so that slow readers hold up nobody who comes after them. */
  heldBytes: 8_388_608,
  /** Our dynamic table for what peers send (SETTINGS_HEADER_TABLE_SIZE), and the most we use of theirs: RFC 7541's default. */
  headerTable: 4_096,
  /** CONTINUATION frames of one header block (CVE-2024-27316 and its kin): with 16 KiB frames this is far beyond any head we take. */
  continuations: 16,
  /** Interim answers before the final one; as HTTP/1. */
  interim: 16,
  /** How long the peer may take to acknowledge our SETTINGS (RFC 9113 6.5.3). */
  settingsAckMs: 10_000,
  /** From a graceful GOAWAY to the final one when the peer does not answer the PING between them (RFC 9113 6.8). */
  goawayMs: 1_000,
  /** After the last frame and our FIN: how long the peer's FIN is waited for. */
  lingerMs: 2_000,
  /** A stream whose peer gives no window while we have something for it is reset: memory must not wait for ever. As Envoy's stream flush timeout would, but shorter than its idle one. */
  stallMs: 60_000,
  /** PING of ours: answered within this, or the connection is dead. */
  pingTimeoutMs: 10_000,
  /** Upstream connections without a stream are let go after this. Longer than HTTP/1's: GOAWAY makes the peer's own closing safe. */
  upstreamIdleMs: 300_000,
  /** After ALPN agreed on HTTP/1.1 where both were offered: how long until a new connection offers HTTP/2 again. A handshake a minute is cheap, and a new version of the instance may have learned it. */
  askAgainMs: 60_000,
  /** Streams we open at once on one upstream connection, whatever more the instance allows: nginx's own bound. Node's server names none and resets what goes beyond its memory for a connection (ENHANCE_YOUR_CALM from about 250 answers on), and streams that share a connection hold each other up. */
  upstreamStreams: 128,
  /** Streams that wait for one connection being made; also what is assumed until the peer's SETTINGS say otherwise (RFC 9113 6.5.2 recommends at least 100). */
  assumedStreams: 100,
  /** Streams on a client connection before it is replaced: ids end at 2^31 - 1 (RFC 9113 5.1.1). */
  lastStreamId: 0x7fff_fff0,
  /** Frames that answer the peer's own (PING, SETTINGS, RST_STREAM) and wait because it does not read; Envoy's `max_outbound_control_frames` is 1 000. */
  controlBacklog: 1_000,
  /** A DATA frame smaller than this that the peer's window made so is a tiny one. */
  tinyData: 128,
  /** The window over which the counts of `floods` are taken. */
  floodWindowMs: 10_000,
} as const;

/**
 * What a peer may do within `limits.floodWindowMs` before its connection is closed with ENHANCE_YOUR_CALM. The names are the values of the label
 * `reason` of `weft_http2_defence_total`. Each bounds work that costs the peer less than us.
 */
export const floods = {
  /** CVE-2023-44487: streams the peer reset before an answer began. Only when they are also more than half of the streams it opened (as Envoy does), so that a client whose calls all time out slowly is spared. */
  rapid_reset: 200,
  /** CVE-2025-8671: streams we had to reset because of the peer's frames. */
  made_you_reset: 200,
  /** DATA without payload that does not end its stream (CVE-2019-9518). */
  empty_data: 200,
  /** SETTINGS, each of which asks for an acknowledgement (CVE-2019-9515). */
  settings: 100,
  /** PING, each of which asks for an answer (CVE-2019-9512). Measuring peers send a few a second. */
  ping: 1_000,
  /** PRIORITY, PRIORITY_UPDATE, unknown types, and frames on streams that are over (CVE-2019-9513); beyond four for each stream, as nginx resets each that it answers unread. */
  ignored: 5_000,
  /** WINDOW_UPDATE beyond ten for each DATA frame we sent, as Envoy counts (CVE-2019-9517). */
  window_update: 2_000,
  /** DATA frames that the peer's windows held below `limits.tinyData` (slow reading), where they are also more than half of all. */
  tiny_window: 1_000,
} as const;
