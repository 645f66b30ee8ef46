// Owns: the words of the product that the fleet's objects need, in one place.
import { annotations, tlsModeLabel, tlsModeMutual } from "../../src/wire/names.ts";

export const tlsLabel = { [tlsModeLabel]: tlsModeMutual };

export function sidecarAnnotations(upstreams: readonly string[]): Record<string, string> {
  return { [annotations.inbound]: "http=8080", ...(upstreams.length === 0 ? {} : { [annotations.upstreams]: upstreams.join(",") }) };
}
