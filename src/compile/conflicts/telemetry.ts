// Owns: two Telemetry objects of one namespace with the same selector that decide differently about the same side's access log.

import { modesOf, type TelemetryObject } from "../../api/kinds/telemetry.ts";
import type { Violation } from "../../api/meta.ts";
import { keyOf, namespaceOf, type World } from "../world.ts";
import { canonical } from "./canonical.ts";

export function telemetryConflicts(world: World, candidate: TelemetryObject): readonly Violation[] {
  const out: Violation[] = [];
  for (const other of world.telemetries.get(namespaceOf(candidate)) ?? []) {
    if (keyOf(other) === keyOf(candidate) || selectorOf(other) !== selectorOf(candidate)) continue;
    for (const [at, entry] of (candidate.spec?.accessLogging ?? []).entries()) {
      for (const side of modesOf(entry)) {
        const theirs = (other.spec?.accessLogging ?? []).findIndex((each) => modesOf(each).includes(side));
        if (theirs < 0) continue;
        const [mine, their] = [entry.disabled === true, other.spec?.accessLogging?.[theirs]?.disabled === true];
        if (mine === their) continue;
        out.push({
          path: `spec.accessLogging[${at}]`,
          message: `turns the access log of side ${side} ${mine ? "off" : "on"} where Telemetry ${keyOf(other)}, spec.accessLogging[${theirs}], turns it ${their ? "off" : "on"} for the same workloads (${workloads(other)}); change that one, or select other workloads`,
        });
        break;
      }
    }
  }
  return out;
}

function selectorOf(telemetry: TelemetryObject): string {
  return canonical(telemetry.spec?.selector?.matchLabels ?? {});
}

function workloads(telemetry: TelemetryObject): string {
  const labels = Object.entries(telemetry.spec?.selector?.matchLabels ?? {});
  return labels.length === 0
    ? `all of namespace ${namespaceOf(telemetry)}`
    : labels
        .map(([key, value]) => `${key}=${value}`)
        .sort()
        .join(",");
}
