// Owns: HTTP/2 error codes (RFC 9113 section 7) and how a parser returns one: as the negative of (code + 1). No behaviour beyond that.

export const noError = 0x0;
export const protocolError = 0x1;
export const internalError = 0x2;
export const flowControlError = 0x3;
export const settingsTimeout = 0x4;
export const streamClosed = 0x5;
export const frameSizeError = 0x6;
export const refusedStream = 0x7;
export const cancel = 0x8;
export const compressionError = 0x9;
export const connectError = 0xa;
export const enhanceYourCalm = 0xb;
export const http11Required = 0xd;

const names = [
  "NO_ERROR",
  "PROTOCOL_ERROR",
  "INTERNAL_ERROR",
  "FLOW_CONTROL_ERROR",
  "SETTINGS_TIMEOUT",
  "STREAM_CLOSED",
  "FRAME_SIZE_ERROR",
  "REFUSED_STREAM",
  "CANCEL",
  "COMPRESSION_ERROR",
  "CONNECT_ERROR",
  "ENHANCE_YOUR_CALM",
  "INADEQUATE_SECURITY",
  "HTTP_1_1_REQUIRED",
];

export function errorName(code: number): string {
  return names[code] ?? `error ${code}`;
}

/** A parser's negative answer for an error code. */
export function refuse(code: number): number {
  return -(code + 1);
}

/** The error code behind a parser's negative answer. */
export function refusal(answer: number): number {
  return -answer - 1;
}
