// Owns: the running mesh of the quiet cases: `weft up` on a folder of its own and a sidecar that gets its configuration from it.
import type { Cores } from "../machine.ts";
import type { Workshop } from "../proc.ts";

export interface SidecarMemory {
  readonly sidecarMb: number;
  /** `weft run`, which stays beside the application. */
  readonly supervisorMb: number;
}

/** Private memory of an idle sidecar that `weft run` started. */
export async function meshSidecar(_shop: Workshop, _cores: Cores, _settleMs: number): Promise<SidecarMemory> {
  throw new Error("not built");
}

/** exec of `weft up` on a folder it has run on before -> the API server answers /readyz. */
export async function answeringControlPlane(_shop: Workshop, _cores: Cores, _starts: number): Promise<number[]> {
  throw new Error("not built");
}

/** exec of `weft proxy` with a running control plane -> its listener answers. */
export async function sidecarStarts(_shop: Workshop, _cores: Cores, _starts: number): Promise<number[]> {
  throw new Error("not built");
}
