// Owns: which endpoints share the requests and in what proportion: priorities with failover, panic, localities by weight or by nearness. Envoy's
// arithmetic (its documentation: "Priority levels", "Panic threshold", "Locality weighted load balancing"). Pure.

import type { ClusterConfig, LocalityConfig } from "../config.ts";
import type { Endpoint } from "./endpoint.ts";

/** Where this proxy is; empty strings = not told. */
export interface OwnLocality {
  readonly region: string;
  readonly zone: string;
  readonly subZone: string;
}

export interface Share {
  /** Keeps its pool across changes. */
  readonly key: string;
  readonly members: readonly Endpoint[];
  /** Above 0. */
  readonly share: number;
}

export interface Layout {
  readonly shares: readonly Share[];
  /** Health was not believed somewhere. */
  readonly panic: boolean;
}

const defaultPanicPercent = 50;
const defaultOverprovisioning = 140;

/** Below this many endpoints nearness does not matter (Envoy's `min_cluster_size`). */
const leastForNearness = 6;

interface Level {
  readonly priority: number;
  readonly all: Endpoint[];
  readonly available: Endpoint[];
  /** 0 to 100 and more: available share times overprovisioning. */
  health: number;
  load: number;
  panic: boolean;
}

export function layout(endpoints: readonly Endpoint[], config: ClusterConfig, own: OwnLocality): Layout {
  const simple = oneLevel(endpoints, config);
  if (simple !== null) return simple;
  const levels = levelsOf(endpoints, priorities(config, own));
  const panicPercent = config.panicPercent ?? defaultPanicPercent;
  let total = 0;
  for (const level of levels) total += level.health;
  // Envoy: while all levels together carry everything, nobody panics.
  if (total < 100) {
    for (const level of levels) level.panic = (level.available.length / level.all.length) * 100 < panicPercent;
  }
  if (total === 0) {
    const count = levels.reduce((sum, level) => sum + (level.panic ? level.all.length : 0), 0);
    for (const level of levels) level.load = level.panic ? level.all.length / count : 0;
  } else {
    let left = 100;
    const scale = total < 100 ? 100 / total : 1;
    for (const level of levels) {
      level.load = Math.min(left, level.health * scale);
      left -= level.load;
    }
  }
  const shares: Share[] = [];
  for (const level of levels) if (level.load > 0) shares.push(...within(level, config, own));
  return { shares, panic: levels.some((level) => level.panic && level.load > 0) };
}

/** By far the most common: one priority, all available, localities do not matter. */
function oneLevel(endpoints: readonly Endpoint[], config: ClusterConfig): Layout | null {
  if (config.localities !== undefined) return null;
  for (let i = 0; i < endpoints.length; i++) {
    const one = endpoints[i] as Endpoint;
    if (one.config.priority !== 0 || !one.available) return null;
  }
  return { shares: endpoints.length === 0 ? [] : [{ key: "0", members: endpoints, share: 1 }], panic: false };
}

/** As configured, or by nearness: this many levels of it within each configured one. */
const nearnesses = 5;

function priorities({ localities }: ClusterConfig, own: OwnLocality): (endpoint: Endpoint) => number {
  if (typeof localities !== "object" || localities.kind !== "near" || own.region === "") return ({ config }) => config.priority;
  const next = localities.failover[own.region];
  return ({ config: { priority, locality } }) => priority * nearnesses + distance(locality, own, next);
}

function distance(locality: LocalityConfig | undefined, own: OwnLocality, next: string | undefined): number {
  if (locality === undefined || locality.region !== own.region) return locality !== undefined && locality.region === next ? 3 : 4;
  if (locality.zone !== own.zone) return 2;
  return locality.subZone === own.subZone ? 0 : 1;
}

function levelsOf(endpoints: readonly Endpoint[], priorityOf: (endpoint: Endpoint) => number): Level[] {
  const byPriority = new Map<number, Level>();
  for (const endpoint of endpoints) {
    const priority = priorityOf(endpoint);
    let level = byPriority.get(priority);
    if (level === undefined) {
      level = { priority, all: [], available: [], health: 0, load: 0, panic: false };
      byPriority.set(priority, level);
    }
    level.all.push(endpoint);
    if (endpoint.available) level.available.push(endpoint);
  }
  const levels = [...byPriority.values()].sort((a, b) => a.priority - b.priority);
  for (const level of levels) {
    const factor = level.all[0]?.config.locality?.overprovisioning ?? defaultOverprovisioning;
    level.health = Math.min(100, (factor * level.available.length) / level.all.length);
  }
  return levels;
}

function within(level: Level, config: ClusterConfig, own: OwnLocality): Share[] {
  const members = level.panic ? level.all : level.available;
  const key = String(level.priority);
  if (members.length === 0) return [];
  const { localities } = config;
  if (localities === "weighted") return weighted(level, key, (locality) => locality?.weight ?? 0);
  if (typeof localities === "object" && localities.kind === "shares") {
    const rule = Object.entries(localities.from).find(([from]) => fits(from, own));
    const shares = rule === undefined ? [] : Object.entries(rule[1]);
    const found =
      shares.length === 0
        ? []
        : weighted(level, key, (locality) => shares.find(([to]) => locality !== undefined && fits(to, locality))?.[1] ?? 0);
    // None of the places named has anybody: better anywhere than nowhere.
    if (found.length > 0) return found;
  }
  if (config.localities === "own" && level.all.length >= leastForNearness && own.zone !== "") return nearest(level, members, key, own);
  return [{ key, members, share: level.load }];
}

/** `region/zone/sub-zone`, whose rest may be left out or `*`. */
function fits(pattern: string, place: OwnLocality): boolean {
  const [region = "", zone = "*", ...rest] = pattern.split("/");
  const subZone = rest.length === 0 ? "*" : rest.join("/");
  const one = (wanted: string, found: string) => wanted === "*" || wanted === found;
  return one(region, place.region) && one(zone, place.zone) && one(subZone, place.subZone);
}

interface Place {
  readonly locality: LocalityConfig | undefined;
  readonly all: Endpoint[];
  readonly usable: Endpoint[];
}

function placesOf(level: Level): Map<string, Place> {
  const places = new Map<string, Place>();
  for (const endpoint of level.all) {
    const { locality } = endpoint.config;
    const name = locality === undefined ? "" : `${locality.region}/${locality.zone}/${locality.subZone}`;
    let place = places.get(name);
    if (place === undefined) {
      place = { locality, all: [], usable: [] };
      places.set(name, place);
    }
    place.all.push(endpoint);
    if (level.panic || endpoint.available) place.usable.push(endpoint);
  }
  return places;
}

/** Envoy: weight times min(1, overprovisioning times the available share); a locality without weight gets nothing. */
function weighted(level: Level, key: string, weightOf: (locality: LocalityConfig | undefined) => number): Share[] {
  const shares: Share[] = [];
  let sum = 0;
  for (const [name, { locality, all, usable }] of placesOf(level)) {
    const weight = weightOf(locality);
    if (weight === 0 || usable.length === 0) continue;
    const factor = (locality?.overprovisioning ?? defaultOverprovisioning) / 100;
    const share = weight * Math.min(1, (factor * usable.length) / all.length);
    sum += share;
    shares.push({ key: `${key}/${name}`, members: usable, share });
  }
  return shares.map((one) => ({ ...one, share: (one.share / sum) * level.load }));
}

/** The own zone takes all that its available endpoints can bear, the rest spills over to the others in proportion to theirs. */
function nearest(level: Level, members: readonly Endpoint[], key: string, own: OwnLocality): Share[] {
  const isOwn = ({ config: { locality } }: Endpoint) =>
    locality !== undefined && locality.region === own.region && locality.zone === own.zone;
  const near = members.filter(isOwn);
  const far = members.filter((endpoint) => !isOwn(endpoint));
  const all = level.all.filter(isOwn).length;
  if (near.length === 0 || far.length === 0) return [{ key, members, share: level.load }];
  const factor = (near[0]?.config.locality?.overprovisioning ?? defaultOverprovisioning) / 100;
  const kept = Math.min(1, (factor * near.length) / all);
  const shares: Share[] = [{ key: `${key}/own`, members: near, share: kept * level.load }];
  if (kept < 1) shares.push({ key: `${key}/other`, members: far, share: (1 - kept) * level.load });
  return shares;
}
