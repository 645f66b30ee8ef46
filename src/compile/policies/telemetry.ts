// Owns: how Telemetry objects fold into a workload's plan. The most specific level that speaks about a side decides it:
// selector in the workload's namespace, whole namespace, selector in the root namespace, whole mesh. Default: off.

import { rootNamespace } from "../../api/kinds/authorizationpolicy.ts";
import { modesOf, type TelemetryObject } from "../../api/kinds/telemetry.ts";
import { matchesLabels } from "../../api/selector.ts";
import type { AccessLogPlan } from "../plan/plan.ts";
import type { WorkloadModel, World } from "../world.ts";

export function foldAccessLog(world: World, workload: WorkloadModel): AccessLogPlan {
  const own = workload.namespace === rootNamespace ? [] : (world.telemetries.get(workload.namespace) ?? []);
  const root = world.telemetries.get(rootNamespace) ?? [];
  const levels = [selecting(own, workload), unselective(own), selecting(root, workload), unselective(root)];
  return { client: decide(levels, "CLIENT"), server: decide(levels, "SERVER") };
}

function decide(levels: readonly (readonly TelemetryObject[])[], side: "CLIENT" | "SERVER"): boolean {
  for (const level of levels) {
    for (const telemetry of level) {
      const entry = telemetry.spec?.accessLogging?.find((each) => modesOf(each).includes(side));
      if (entry !== undefined) return entry.disabled !== true;
    }
  }
  return false;
}

function selecting(list: readonly TelemetryObject[], workload: WorkloadModel): TelemetryObject[] {
  return list.filter((each) => hasSelector(each) && matchesLabels(each.spec?.selector?.matchLabels ?? {}, workload.labels));
}

function unselective(list: readonly TelemetryObject[]): TelemetryObject[] {
  return list.filter((each) => !hasSelector(each));
}

export function hasSelector(telemetry: TelemetryObject): boolean {
  return Object.keys(telemetry.spec?.selector?.matchLabels ?? {}).length > 0;
}
