// Owns: what becomes of TrafficShift objects: steps, waiting, going back. All state is in the objects, so that a restart, or another control plane, goes on
// where this one stood; weights and status change in one transaction. Runs on one control plane at a time (its store is fenced where there are several).

import { httpRouteKind } from "../../api/kinds/httproute.ts";
import {
  type ShiftBaseline,
  type ShiftPhase,
  type ShiftStep,
  shiftIntervalMs,
  type TrafficShiftObject,
  trafficShiftKind,
} from "../../api/kinds/trafficshift.ts";
import { type KubeObject, resourceOf } from "../../api/meta.ts";
import type { Clock } from "../../base/clock.ts";
import type { Logger } from "../../base/log.ts";
import { emptyTotals, ringSeconds, type Totals } from "../../insight/window.ts";
import type { Happening } from "../events.ts";
import { Rounds } from "../rounds.ts";
import type { ObjectKey, Store } from "../store/store.ts";
import { baselineOf, fault } from "./judge.ts";
import { percentOf, withPercent } from "./weights.ts";

/** The name under which its writes stand in the history. */
export const shifterName = "system:traffic-shift";

export interface ShifterDeps {
  readonly store: Store;
  readonly clock: Clock;
  readonly log: Logger;
  readonly record: (happening: Happening) => void;
  /** What the backend (a Service) did from second `from` up to but not `to`, in Unix time; as callers report it, else as its own sidecars do. */
  readonly traffic: (namespace: string, service: string, from: number, to: number) => Totals;
}

const lookMs = 1_000;
/** A new weight reaches the proxies, and the requests under way with the old one end. */
const settleSeconds = 1;
const maxSteps = 100;
const shifts = resourceOf(trafficShiftKind);
const routes = resourceOf(httpRouteKind);

export class Shifter {
  readonly #deps: ShifterDeps;
  readonly #rounds: Rounds;

  constructor(deps: ShifterDeps) {
    this.#deps = deps;
    this.#rounds = new Rounds(deps.clock, lookMs, () => this.look());
  }

  /** Ends, with the write under way. */
  stop(): Promise<void> {
    return this.#rounds.stop();
  }

  /** One round over all shifts. Never rejects. */
  async look(): Promise<void> {
    try {
      const { items } = await this.#deps.store.list(shifts);
      for (const item of items) {
        if (this.#rounds.stopped) return;
        await this.#one(item as TrafficShiftObject);
      }
    } catch (cause) {
      this.#deps.log.error({ cause }, "Traffic shifts could not be looked at; they are tried again");
    }
  }

  async #one(shift: TrafficShiftObject): Promise<void> {
    const { spec, status, metadata } = shift;
    if (metadata.deletionTimestamp !== undefined || (status !== undefined && over(status.phase))) return;
    const key: ObjectKey = { resource: routes, namespace: metadata.namespace ?? "", name: spec.route };
    const route = await this.#deps.store.get(key);
    if (route === undefined) return this.#say(shift, "Stopped", `HTTPRoute ${spec.route} is not there`);
    const now = percentOf(route, spec.from, spec.to);
    if (typeof now === "string") return this.#say(shift, "Stopped", now);
    if (status === undefined) {
      if (now >= spec.targetPercent) return this.#say(shift, "Succeeded", `${spec.to} has ${now} % already`, now);
      const next = Math.min(now + spec.stepPercent, spec.targetPercent);
      if (spec.paused) return this.#say(shift, "Paused", "spec.paused is set", now);
      return this.#step(shift, key, route, now, next, "Shifting", `begins at ${now} %`);
    }
    if (now !== status.percent)
      return this.#say(
        shift,
        "Stopped",
        `somebody else has changed the weights: ${spec.to} has ${now} %, and was given ${status.percent} %`,
      );
    if (spec.paused) return status.phase === "Paused" ? undefined : this.#say(shift, "Paused", "spec.paused is set");
    return this.#judge(shift, key, route, status);
  }

  async #judge(
    shift: TrafficShiftObject,
    key: ObjectKey,
    route: KubeObject,
    status: NonNullable<TrafficShiftObject["status"]>,
  ): Promise<void> {
    const { spec, metadata } = shift;
    const nowMs = this.#deps.clock.now();
    const second = Math.floor(nowMs / 1000);
    const sinceMs = nowMs - Date.parse(status.stepAt);
    const from = Math.max(Math.ceil(Date.parse(status.stepAt) / 1000) + settleSeconds, second - ringSeconds + 1);
    const namespace = metadata.namespace ?? "";
    const [older, newer] = [spec.from, spec.to].map((service) =>
      from < second ? this.#deps.traffic(namespace, service, from, second) : emptyTotals([]),
    ) as [Totals, Totals];
    const current = baselineOf(older, Number(spec.maxLatencyFactor));
    const enough = older.requests >= spec.minRequests;
    const baseline: ShiftBaseline = enough || status.baseline === undefined ? { ...current } : status.baseline;
    const problem = fault(newer, baseline, Number.parseFloat(spec.maxErrorRate) / 100);
    if (problem !== undefined) return this.#step(shift, key, route, status.percent, status.startPercent, "RolledBack", problem, baseline);
    if (sinceMs < (shiftIntervalMs(spec.interval) ?? 0)) {
      if (status.phase !== "Shifting" && status.phase !== "Waiting") await this.#say(shift, "Shifting", "goes on");
      return;
    }
    if (newer.requests < spec.minRequests) {
      const message = `${spec.to} has answered fewer than the ${spec.minRequests} requests that a step needs; waiting for more`;
      return status.phase === "Waiting" ? undefined : this.#say(shift, "Waiting", message);
    }
    const facts = `${spec.to} answered ${Math.round(newer.requests)} requests, ${Math.round(newer.failures)} failed`;
    if (status.percent >= spec.targetPercent) return this.#say(shift, "Succeeded", `${facts}; it has ${status.percent} % now`);
    const next = Math.min(status.percent + spec.stepPercent, spec.targetPercent);
    return this.#step(shift, key, route, status.percent, next, "Shifting", facts, baseline);
  }

  /** New weights and the status that tells of them, in one transaction. Lost to somebody else's write: looked at again. */
  async #step(
    shift: TrafficShiftObject,
    key: ObjectKey,
    route: KubeObject,
    before: number,
    percent: number,
    phase: ShiftPhase,
    why: string,
    baseline?: ShiftBaseline,
  ): Promise<void> {
    const { spec } = shift;
    const message = phase === "RolledBack" ? `back to ${percent} %: ${why}` : `${before} % to ${percent} %: ${why}`;
    const status = this.#status(shift, phase, percent, message, { at: this.#now(), percent, message });
    if (shift.status === undefined) status.startPercent = before;
    status.stepAt = this.#now();
    if (baseline !== undefined) status.baseline = baseline;
    const result = await this.#deps.store.transact(
      [
        { verb: "update", key, object: withPercent(route, spec.from, spec.to, percent), expected: Number(route.metadata.resourceVersion) },
        { verb: "update", key: this.#keyOf(shift), object: { ...shift, status }, expected: Number(shift.metadata.resourceVersion) },
      ],
      shifterName,
    );
    if (result.ok) this.#tell(shift, phase, message);
  }

  async #say(shift: TrafficShiftObject, phase: ShiftPhase, message: string, percent?: number): Promise<void> {
    const status = this.#status(shift, phase, percent ?? shift.status?.percent ?? 0, message);
    const result = await this.#deps.store.update(
      this.#keyOf(shift),
      { ...shift, status },
      Number(shift.metadata.resourceVersion),
      shifterName,
    );
    if (result.ok) this.#tell(shift, phase, message);
  }

  #status(
    shift: TrafficShiftObject,
    phase: ShiftPhase,
    percent: number,
    message: string,
    step?: ShiftStep,
  ): NonNullable<TrafficShiftObject["status"]> {
    const before = shift.status;
    return {
      startPercent: before?.startPercent ?? percent,
      stepAt: before?.stepAt ?? this.#now(),
      ...(before?.baseline !== undefined && { baseline: before.baseline }),
      phase,
      percent,
      message,
      steps: [...(before?.steps ?? []), ...(step === undefined ? [] : [step])].slice(-maxSteps),
    };
  }

  #tell(shift: TrafficShiftObject, phase: ShiftPhase, message: string): void {
    const { apiVersion, kind, metadata } = shift;
    const type = phase === "RolledBack" || phase === "Stopped" ? "Warning" : "Normal";
    this.#deps.record({ regarding: { apiVersion, kind, metadata }, type, reason: phase, message });
    this.#deps.log.info({ shift: `${metadata.namespace}/${metadata.name}`, phase, message }, "Traffic shift");
  }

  #keyOf(shift: TrafficShiftObject): ObjectKey {
    return { resource: shifts, namespace: shift.metadata.namespace ?? "", name: shift.metadata.name };
  }

  #now(): string {
    return new Date(this.#deps.clock.now()).toISOString();
  }
}

export function over(phase: ShiftPhase): boolean {
  return phase === "Succeeded" || phase === "RolledBack" || phase === "Stopped";
}
