// Owns: the bounds of what is read of tokens. docs/reference/limits.md tells of each.

/** Of one token, in bytes. Real ones have 1 to 4 KiB; a head is bounded anyway, and what is longer is read by nobody here. */
export const longestToken = 16_384;
/** Levels of a payload: what policies ask for is one to three deep. */
export const mostClaimDepth = 16;
/** Tokens of one request that one rule looks for: each may cost a signature check. */
export const mostTokens = 8;
/** Checked tokens that each rule of a listener remembers, the longest unused forgotten first. */
export const mostKnownTokens = 1_000;
/** Longer tokens are checked each time: with the above this bounds memory to some 12 MiB for each rule of a listener. */
export const longestKnownToken = 4_096;
/** Of clocks that differ (Envoy's default), in seconds. */
export const defaultSkewS = 60;
