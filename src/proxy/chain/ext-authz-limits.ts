// Owns: the limits of asking others whether a request may pass (ext-authz.ts). docs/reference/limits.md is the same table for users.

/** Of a request's body that is told to a service, in bytes: it is held in memory meanwhile. Envoy has no bound of its own. */
export const mostCheckBody = 1_048_576;

/** Of a service's answer, in bytes: a refusal's body is passed on to the client in one piece, which must fit where heads are written. */
export const mostCheckAnswer = 32_768;
