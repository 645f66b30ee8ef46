// Owns: the list of HTTP stages in the order in which they run, after the route is found and the request is authorized (DESIGN rules 3 and 13). A stage
// that a chain does not name is not there; a route can replace its configuration or switch it off (Envoy's `typed_per_filter_config`).

import type { ExtAuthzConfig, GlobalRateLimitConfig, RouteStages, StageConfigs, StageName } from "../config.ts";
import type { BuildContext } from "../runtime/build.ts";
import type { Stage, StageFamily } from "./stage.ts";

/** Loaded with the first configuration that has one: most proxies have none of them, and what is loaded is memory. */
export const stageFamilies: { readonly [Name in StageName]: () => StageFamily<StageConfigs[Name]> } = {
  cors: () => (require("./cors.ts") as typeof import("./cors.ts")).corsFamily,
  fault: () => (require("./fault.ts") as typeof import("./fault.ts")).faultFamily,
  extAuthz: () => (require("./ext-authz.ts") as typeof import("./ext-authz.ts")).extAuthzFamily,
  session: () => (require("./session.ts") as typeof import("./session.ts")).sessionFamily,
  rateLimit: () => (require("./rate-limit.ts") as typeof import("./rate-limit.ts")).rateLimitFamily,
  globalRateLimit: () => (require("./global-rate-limit.ts") as typeof import("./global-rate-limit.ts")).globalRateLimitFamily,
  admission: () => (require("./admission.ts") as typeof import("./admission.ts")).admissionFamily,
};

/** First to last. Envoy runs filters in the order of its list; ours is fixed, and the decoder refuses a list in another order. */
export const stageOrder: readonly StageName[] = ["cors", "fault", "extAuthz", "session", "rateLimit", "globalRateLimit", "admission"];

function build<Name extends StageName>(name: Name, config: StageConfigs[Name], where: string, context: BuildContext): Stage | null {
  // Nothing in the chain, for routes that may have something.
  return config === null ? null : stageFamilies[name]().build(config, where, context);
}

/** What a route says where it only adds to what its chain says. */
function within<Name extends StageName>(name: Name, own: StageConfigs[Name], config: StageConfigs[Name]): StageConfigs[Name] {
  if (name === "extAuthz" && own !== config)
    return { ...(own as ExtAuthzConfig), off: false, route: (config as ExtAuthzConfig).route } as StageConfigs[Name];
  if (name !== "globalRateLimit" || own === config) return config;
  const [filter, route] = [own, config] as [GlobalRateLimitConfig, GlobalRateLimitConfig];
  return { ...filter, route: route.route } as StageConfigs[Name];
}

/** The stages of a chain, with the overrides of one route if it has any; null: none, nor can a route have any. */
export function buildStages(
  chain: Partial<StageConfigs>,
  route: RouteStages | null,
  where: string,
  context: BuildContext,
): readonly Stage[] | null {
  const stages: Stage[] = [];
  for (const name of stageOrder) {
    const own = chain[name];
    if (own === undefined) {
      // A route that is to be asked about never goes unasked because its listener has lost its filter first.
      const alone = name === "extAuthz" ? route?.extAuthz : undefined;
      const refusing = alone === undefined || alone === "off" ? null : build(name, alone as StageConfigs[typeof name], where, context);
      if (refusing !== null) stages.push(refusing);
      continue;
    }
    const config = route?.[name] ?? own;
    const stage = config === "off" ? null : build(name, within(name, own, config), where, context);
    if (stage !== null) stages.push(stage);
  }
  // An empty list stands for a chain whose routes may have stages of their own.
  return stages.length === 0 && Object.keys(chain).length === 0 ? null : stages;
}
