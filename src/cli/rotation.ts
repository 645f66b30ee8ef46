// Owns: the rotation of the authority as the control plane tells it at `/weft/v1alpha1/ca`. Never asks for it.

export interface Rotation {
  readonly phase: "distributing" | "issuing" | "returning" | "finishing";
  readonly startedAt: string;
  readonly switchedAt: string | null;
  readonly waitingFor: readonly string[];
  readonly othersEndAt: string | null;
}
