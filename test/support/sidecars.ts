// Owns: finding the sidecar processes of a `weft run`, for tests that kill them.

import { readFileSync } from "node:fs";
import type { Running } from "./mesh.ts";

function textOf(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return ""; // it has ended
  }
}

/** Pids of the children of `weft run` that are sidecars; more than one while one takes another's place. */
export function sidecarsOf(of: Running): number[] {
  const { pid } = of.workload.child;
  const children = textOf(`/proc/${pid}/task/${pid}/children`).trim().split(" ").filter(Boolean).map(Number);
  return children.filter((each) => argumentsOf(each).includes("--bootstrap"));
}

export function argumentsOf(pid: number): string[] {
  return textOf(`/proc/${pid}/cmdline`).split("\0");
}
