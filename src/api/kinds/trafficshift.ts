// Owns: weft.dev TrafficShift: traffic of one HTTPRoute that is moved from one backend to another in steps, as long as the newer one does as well as it
// must. What is done about it stands in control/shift.

import { ageColumn, defineKind, dnsSubdomain, textColumn } from "../define.ts";
import type { KubeObject, Violation } from "../meta.ts";
import { show } from "../schema.ts";

/** `Waiting` is a shift that would go on if more requests came; `Stopped` one that cannot go on and has left the weights as they are. */
export type ShiftPhase = "Shifting" | "Waiting" | "Paused" | "Succeeded" | "RolledBack" | "Stopped";

export interface ShiftStep {
  /** RFC 3339. */
  at: string;
  /** Share of the newer backend from then on. */
  percent: number;
  message: string;
}

/** What the older backend did while it still had traffic enough: what the newer one is compared with. */
export interface ShiftBaseline {
  requests: number;
  failures: number;
  /** Slower than this counts as slow, ms; null: latency is not judged. */
  slowMs: number | null;
  slow: number;
}

export interface TrafficShiftObject extends KubeObject {
  spec: {
    route: string;
    from: string;
    to: string;
    stepPercent: number;
    /** Of Gateway API's form: `1m`, `30s`, `1h30m`. */
    interval: string;
    targetPercent: number;
    maxErrorRate: string;
    maxLatencyFactor: string;
    minRequests: number;
    paused: boolean;
  };
  status?: {
    phase: ShiftPhase;
    percent: number;
    startPercent: number;
    /** When the last step was made, RFC 3339. */
    stepAt: string;
    message: string;
    baseline?: ShiftBaseline;
    steps: ShiftStep[];
  };
}

/** `1m`, `1h30m`, `90s` in milliseconds; undefined: it is none, or zero. */
export function shiftIntervalMs(text: string): number | undefined {
  const parts = /^(?:(\d{1,5})h)?(?:(\d{1,5})m)?(?:(\d{1,5})s)?$/.exec(text);
  if (parts === null) return undefined;
  const [hours, minutes, seconds] = parts.slice(1).map((part) => Number(part ?? 0)) as [number, number, number];
  const ms = ((hours * 60 + minutes) * 60 + seconds) * 1000;
  return ms === 0 ? undefined : ms;
}

/** Proxies report every second, and what is learned in less than that is chance. */
const shortestIntervalMs = 2_000;
const longestIntervalMs = 24 * 3_600_000;

const shift = (object: KubeObject) => object as TrafficShiftObject;

/** One that is held says so at once, before anybody has looked at it again. */
function phaseOf(object: KubeObject): string {
  const { spec, status } = shift(object);
  const phase = status?.phase ?? "";
  return spec?.paused === true && !["Succeeded", "RolledBack", "Stopped"].includes(phase) ? "Paused" : phase;
}

export const trafficShiftKind = defineKind({
  group: "weft.dev",
  versions: ["v1alpha1"],
  kind: "TrafficShift",
  plural: "trafficshifts",
  shortNames: ["shift", "shifts"],
  categories: ["weft"],
  namespaced: true,
  hasStatus: true,
  strictOnly: true,
  requiredFields: ["spec"],
  fields: {
    spec: {
      type: "object",
      description: "Traffic of one HTTPRoute that moves from one backend to another in steps.",
      required: ["route", "from", "to"],
      properties: {
        route: { type: "string", minLength: 1, maxLength: 253, description: "Name of the HTTPRoute, in the own namespace." },
        from: { type: "string", minLength: 1, maxLength: 253, description: "Name of the backend that gives traffic." },
        to: { type: "string", minLength: 1, maxLength: 253, description: "Name of the backend that gets it." },
        stepPercent: { type: "integer", minimum: 1, maximum: 100, default: 10, description: "Size of a step, per cent; 10 by default." },
        interval: { type: "string", maxLength: 16, default: "1m", description: "Least time between steps, 2s to 24h; 1m by default." },
        targetPercent: {
          type: "integer",
          minimum: 1,
          maximum: 100,
          default: 100,
          description: "Share of the newer backend at the end, per cent; 100 by default.",
        },
        maxErrorRate: {
          type: "string",
          pattern: "^(100|\\d{1,2}(\\.\\d{1,3})?)%$",
          default: "1%",
          description: "Share of failures beyond which the traffic goes back, such as 1%, the default.",
        },
        maxLatencyFactor: {
          type: "string",
          pattern: "^\\d{1,3}(\\.\\d{1,2})?$",
          default: "1.5",
          description:
            "A request is slow beyond so many times the older backend's 90th percentile; 1.5 by default, 0: latency is not judged.",
        },
        minRequests: {
          type: "integer",
          minimum: 1,
          maximum: 1_000_000,
          default: 30,
          description: "Answers of the newer backend before the next step; 30 by default.",
        },
        paused: { type: "boolean", default: false, description: "Holds the shift where it is; false by default." },
      },
    },
  },
  rules: (object) => {
    const { spec } = shift(object);
    const out: Violation[] = [];
    for (const field of ["route", "from", "to"] as const)
      if (!dnsSubdomain.test(spec[field])) out.push({ path: `spec.${field}`, message: `${show(spec[field])} is no name of an object` });
    if (spec.from === spec.to)
      out.push({ path: "spec.to", message: `${show(spec.to)} is spec.from too; name the backend that is to get the traffic` });
    const ms = shiftIntervalMs(spec.interval);
    if (ms === undefined) out.push({ path: "spec.interval", message: `${show(spec.interval)} is no time such as 30s, 1m or 1h30m` });
    else if (ms < shortestIntervalMs || ms > longestIntervalMs)
      out.push({ path: "spec.interval", message: `${show(spec.interval)} is not from 2s to 24h` });
    const factor = Number(spec.maxLatencyFactor);
    if (factor > 0 && factor < 1)
      out.push({
        path: "spec.maxLatencyFactor",
        message: `${show(spec.maxLatencyFactor)} would ask the newer backend to be faster; use 1 or more, or 0 not to judge latency`,
      });
    return out;
  },
  notes: [
    "Moves weight within the rules of the HTTPRoute `spec.route` (same namespace) that have both `spec.from` and `spec.to` among their backends, by `stepPercent` each `interval`, up to `targetPercent`. Other backends and rules stay as they are. Made by `weft shift`.",
    "Goes back to where it began as soon as there is evidence (error probability 1 % over the whole step, however often it is looked at) that the newer backend fails more often than `maxErrorRate`, or than the older one where that is worse; or that more of its requests are slow than of the older one's, where slow is `maxLatencyFactor` times the older one's 90th percentile (`0`: not judged).",
    "No step is made before the newer backend has answered `minRequests` since the last one: the shift waits.",
    "Stops, and leaves the weights alone, when somebody else has changed them or the route is gone. Deleting it stops it too. `paused: true` holds it.",
    "The object is kept when it is over; its status tells each step. A new one is needed for a new shift.",
  ],
  columns: [
    textColumn("Route", "Whose traffic moves.", (object) => shift(object).spec?.route ?? ""),
    textColumn("To", "The backend that gets it.", (object) => shift(object).spec?.to ?? ""),
    textColumn("Percent", "What it has now.", (object) => (shift(object).status === undefined ? "" : `${shift(object).status?.percent}%`)),
    textColumn("Phase", "Shifting, Waiting, Paused, Succeeded, RolledBack or Stopped.", phaseOf),
    ageColumn,
    { ...textColumn("Message", "What it says last.", (object) => shift(object).status?.message ?? ""), priority: 1 },
  ],
});
