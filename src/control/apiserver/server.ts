// Owns: the way of one request through the API server: open paths, credentials, permission, then the right handler.
// Never knows a kind: everything about kinds comes from the table in `deps`.

import type { ApiServer, ApiServerDeps } from "./deps.ts";

/** Builds the API server: a function from Request to Response. Listening is `listen.ts`. */
export function createApiServer(_deps: ApiServerDeps): ApiServer {
  throw new Error("the API server is not built yet");
}
