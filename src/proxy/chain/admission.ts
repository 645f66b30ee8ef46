// Owns: how many requests the service beside this proxy is given at once, and what becomes of the others: they wait a moment (resilience/waiting.ts) or are
// refused before they reach it. The number is fixed, or found by measuring (resilience/gradient.ts). Tunnels and upgrades are let through: they are no work.

import type { AdmissionConfig } from "../config.ts";
import { equalsIgnoreCase, latin1, text } from "../http/bytes.ts";
import type { Exchange } from "../http/exchange.ts";
import { type Failure, failures } from "../http/failure.ts";
import { reply } from "../http/finish.ts";
import { fieldNamed } from "../http/grpc.ts";
import type { Head } from "../http1/head.ts";
import { Gradient } from "../resilience/gradient.ts";
import { level, type Waiting, WaitingRoom } from "../resilience/waiting.ts";
import type { BuildContext } from "../runtime/build.ts";
import type { Core } from "../runtime/core.ts";
import { stateOf } from "../runtime/stage-state.ts";
import { type Stage, type StageFamily, verdict } from "./stage.ts";

/** A request's place: with the service since `admittedMs`, or waiting while that is NaN. */
export interface Ticket extends Waiting {
  readonly x: Exchange;
  readonly serial: number;
  admittedMs: number;
}

/** How often those who have waited too long are looked for. A fresh one each time, as the queue of most services is empty most of the time. */
const sweepMs = 5;

class Gate {
  readonly room = new WaitingRoom<Ticket>();
  readonly gradient: Gradient | null;
  readonly fixed: number;
  active = 0;
  pumping = false;
  sweeping = false;

  constructor(config: AdmissionConfig) {
    this.gradient = config.concurrency > 0 ? null : new Gradient(config.maxConcurrency);
    this.fixed = config.concurrency;
  }

  get limit(): number {
    return this.gradient === null ? this.fixed : Math.floor(this.gradient.limit);
  }
}

const critical = latin1("critical");
const sheddable = latin1("sheddable");

export const admissionFamily: StageFamily<AdmissionConfig | null> = {
  build(config, where, context): Stage | null {
    return config === null ? null : admissionStage(config, where, context);
  },
};

function admissionStage(config: AdmissionConfig, where: string, context: BuildContext): Stage {
  const gate = stateOf(context, `admission ${where}`, config, () => new Gate(config));
  const criticality = config.criticalityHeader === null ? null : latin1(config.criticalityHeader.toLowerCase());
  const shareHeader = config.shareBy.kind === "header" ? latin1(config.shareBy.name.toLowerCase()) : null;
  const failure: Failure = { ...failures.shed, status: config.status };

  /** Strangers do not say how much they matter. */
  const levelOf = (x: Exchange, bytes: Uint8Array, head: Head): number => {
    if (criticality === null || (x.chain.inbound && x.down.peer === null)) return level.standard;
    const i = fieldNamed(bytes, head, criticality);
    if (i < 0) return level.standard;
    const from = head.valueFrom[i] as number;
    const to = head.valueTo[i] as number;
    if (equalsIgnoreCase(bytes, from, to, critical)) return level.critical;
    return equalsIgnoreCase(bytes, from, to, sheddable) ? level.sheddable : level.standard;
  };

  const keyOf = (x: Exchange, bytes: Uint8Array, head: Head): string => {
    if (shareHeader !== null) {
      const i = fieldNamed(bytes, head, shareHeader);
      return i < 0 ? "" : text(bytes, head.valueFrom[i] as number, head.valueTo[i] as number);
    }
    return config.shareBy.kind === "peer" ? (x.down.peer?.principal ?? "") : "";
  };

  const targetMs = (): number => config.targetMs || Math.max(1, (gate.gradient?.baseMs ?? 20) / 4);

  const admit = (ticket: Ticket, nowMs: number): void => {
    ticket.gone = true;
    ticket.admittedMs = nowMs;
    gate.active++;
    gate.gradient?.started(gate.active);
  };

  const shed = (ticket: Ticket, why: "queue-full" | "waited"): void => {
    const { x } = ticket;
    if (x.ticket !== ticket) return;
    x.ticket = null;
    x.held = false;
    x.down.core.shedding.shed(where, why);
    reply(x, failure, why === "waited" ? "it waited for as long as helps" : "too many wait already");
  };

  /** Lets in whom there is room for. Never re-entered: who is let in may be over at once, and so ask for the next. */
  const pump = (core: Core): void => {
    if (gate.pumping) return;
    gate.pumping = true;
    while (gate.active < gate.limit && gate.room.size > 0) {
      const nowMs = core.ticker.now();
      for (const late of gate.room.expired(nowMs, targetMs())) shed(late, "waited");
      const next = gate.room.next(nowMs);
      if (next === undefined) break;
      admit(next, nowMs);
      next.x.resume(next.serial);
    }
    gate.pumping = false;
  };

  const sweep = (core: Core): void => {
    gate.sweeping = true;
    core.ticker.after(sweepMs, () => {
      gate.sweeping = false;
      for (const late of gate.room.expired(core.ticker.now(), targetMs())) shed(late, "waited");
      pump(core);
      if (gate.room.size > 0) sweep(core);
    });
  };

  return {
    early: null,
    request(x, bytes, head) {
      if (x.isConnect || head.upgrade >= 0) return verdict.go;
      const { core } = x.down;
      const nowMs = core.ticker.now();
      const open = gate.active < gate.limit && gate.room.size === 0;
      const ticket: Ticket = {
        x,
        serial: x.serial,
        level: open ? level.standard : levelOf(x, bytes, head),
        key: open ? "" : keyOf(x, bytes, head),
        sinceMs: nowMs,
        gone: false,
        admittedMs: Number.NaN,
      };
      x.ticket = ticket;
      if (open) {
        admit(ticket, nowMs);
        return verdict.go;
      }
      const out = gate.room.add(ticket, config.maxQueue || gate.limit, nowMs);
      if (out === ticket) {
        shed(ticket, "queue-full");
        return verdict.replied;
      }
      if (out !== null) shed(out, "queue-full");
      if (!gate.sweeping) sweep(core);
      core.shedding.queued(where);
      return verdict.held;
    },
    answer: null,
    end(x) {
      const ticket = x.ticket;
      if (ticket === null) return;
      x.ticket = null;
      const { core } = x.down;
      if (Number.isNaN(ticket.admittedMs)) {
        gate.room.remove(ticket);
        return;
      }
      gate.active--;
      // Who has gone away, or never got there, tells nothing about how long the service takes.
      if (gate.gradient !== null && x.answerDone && x.endpoint !== null) {
        const nowMs = core.ticker.now();
        gate.gradient.finished(nowMs - ticket.admittedMs, nowMs, core.random);
      }
      core.shedding.at(where, gate.limit, gate.active, gate.room.size);
      if (gate.room.size > 0) pump(core);
    },
  };
}
