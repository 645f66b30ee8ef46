// Owns: the list of proxies that are or lately were connected, as the API shows them (`weft.dev/v1alpha1` Proxy). Never touches a stream.

import { liveGroup, liveVersion, type ProxyObject, type ProxyTypeStatus, type XdsTypeName } from "../../api/live.ts";
import type { Clock, Timer } from "../../base/clock.ts";
import { formatIdentity } from "../../wire/spiffe.ts";
import { pushOrder } from "../../wire/xds-types.ts";
import type { Session } from "./session.ts";

/** A lost proxy is shown this long, so that one can see what it ran when it went. */
export const rememberLostMs = 600_000;
/** Lost proxies remembered at most; the oldest go first. */
const maxLost = 1_000;
/** Watchers hear of changes at most this often. */
const announceEveryMs = 200;

/** Entries of one list in the status of one proxy. */
const mostListed = 50;

export type ShortfallsOf = (session: Session) => readonly { subject: string; message: string; refused: boolean }[];

interface Slot {
  /** Newest last: a proxy that reconnects before its old stream is known to be dead has two. */
  readonly sessions: Session[];
  /** Its WorkloadEntry was taken back in order: what ends then is not lost. */
  unregistered: boolean;
  lost: { readonly object: ProxyObject; readonly atMs: number } | undefined;
}

export class ProxyList {
  readonly #clock: Clock;
  readonly #slots = new Map<string, Slot>();
  readonly #listeners = new Set<() => void>();
  #announcement: Timer | undefined;

  readonly #shortfalls: ShortfallsOf;

  /** `shortfalls`: what a resource that a session holds leaves undone. */
  constructor(clock: Clock, shortfalls: ShortfallsOf = () => []) {
    this.#clock = clock;
    this.#shortfalls = shortfalls;
  }

  /** Streams open now. */
  get connected(): number {
    let count = 0;
    for (const slot of this.#slots.values()) if (slot.sessions.length > 0) count++;
    return count;
  }

  /** Resources that connected proxies have rejected and that are not offered again until they change. */
  get quarantined(): number {
    let count = 0;
    for (const { sessions } of this.#slots.values()) {
      const ledger = sessions.at(-1)?.ledger;
      for (const type of pushOrder) if (ledger?.type(type).hasRejected === true) count += ledger.type(type).rejectedCount;
    }
    return count;
  }

  /** Connected ones that have not accepted all that is meant for them. */
  get behind(): number {
    let count = 0;
    for (const { sessions } of this.#slots.values()) if (sessions.at(-1)?.ledger.settled() === false) count++;
    return count;
  }

  isConnected(key: string): boolean {
    return (this.#slots.get(key)?.sessions.length ?? 0) > 0;
  }

  add(session: Session): void {
    const key = session.node?.key;
    if (key === undefined) return;
    const slot = this.#slots.get(key) ?? { sessions: [], unregistered: false, lost: undefined };
    slot.sessions.push(session);
    slot.lost = undefined;
    slot.unregistered = false;
    this.#slots.set(key, slot);
    this.touch();
  }

  /** The workload said goodbye (its entry was deleted while its proxy was there): it is forgotten with its last stream. */
  unregister(key: string): void {
    const slot = this.#slots.get(key);
    if (slot === undefined) return;
    slot.unregistered = true;
    if (slot.sessions.length === 0) this.#slots.delete(key);
    this.touch();
  }

  /** True when this was the proxy's last stream. */
  remove(session: Session): boolean {
    const key = session.node?.key;
    const slot = key === undefined ? undefined : this.#slots.get(key);
    if (key === undefined || slot === undefined) return false;
    const at = slot.sessions.indexOf(session);
    if (at < 0) return false;
    slot.sessions.splice(at, 1);
    const last = slot.sessions.length === 0;
    if (last) {
      // Taken out and put back: the map's order is then the order of loss.
      this.#slots.delete(key);
      if (!slot.unregistered) {
        this.#slots.set(key, slot);
        slot.lost = { object: describe(session, false, this.#shortfalls), atMs: this.#clock.now() };
        this.#forgetOld();
      }
    }
    this.touch();
    return last;
  }

  /** Something about a session changed. */
  touch(): void {
    this.#announcement ??= this.#clock.after(announceEveryMs, () => {
      this.#announcement = undefined;
      for (const listener of [...this.#listeners]) listener();
    });
  }

  list(): readonly ProxyObject[] {
    this.#forgetOld();
    const objects: ProxyObject[] = [];
    for (const slot of this.#slots.values()) {
      const session = slot.sessions.at(-1);
      if (session !== undefined) objects.push(describe(session, true, this.#shortfalls));
      else if (slot.lost !== undefined) objects.push(slot.lost.object);
    }
    return objects;
  }

  subscribe(onChange: () => void): () => void {
    this.#listeners.add(onChange);
    return () => this.#listeners.delete(onChange);
  }

  #forgetOld(): void {
    const now = this.#clock.now();
    let lost = 0;
    for (const slot of this.#slots.values()) if (slot.lost !== undefined) lost++;
    for (const [key, slot] of this.#slots) {
      if (slot.lost === undefined) continue;
      if (now - slot.lost.atMs < rememberLostMs && lost <= maxLost) break;
      this.#slots.delete(key);
      lost--;
    }
  }
}

function describe(session: Session, connected: boolean, shortfalls: ShortfallsOf): ProxyObject {
  const node = session.node;
  if (node === undefined) throw new Error("a session without a node is not in the list");
  const types = {} as Record<XdsTypeName, ProxyTypeStatus>;
  for (const type of pushOrder) types[type] = session.ledger.type(type).status();
  const rejection = session.lastRejection;
  const quarantine: NonNullable<ProxyObject["status"]["quarantine"]> = [];
  for (const type of pushOrder)
    for (const each of session.ledger.type(type).quarantined()) if (quarantine.length < mostListed) quarantine.push({ type, ...each });
  const notEnforced = shortfalls(session).slice(0, mostListed);
  const unknownTypes = [...session.unknownTypes];
  const connectedAt = new Date(session.openedAtMs).toISOString();
  return {
    apiVersion: `${liveGroup}/${liveVersion}`,
    kind: "Proxy",
    metadata: { name: node.workload, namespace: node.namespace, creationTimestamp: connectedAt, labels: { ...node.labels } },
    status: {
      connected,
      agent: session.agent,
      identity: formatIdentity(node.identity),
      address: session.peer,
      connectedAt,
      mode: session.mode,
      types,
      synced: connected && session.ledger.settled(),
      lastRejection:
        rejection === undefined
          ? null
          : { type: rejection.type, version: rejection.version, reason: rejection.reason, at: new Date(rejection.atMs).toISOString() },
      ...(quarantine.length === 0 ? {} : { quarantine }),
      ...(notEnforced.length === 0 ? {} : { notEnforced }),
      ...(unknownTypes.length === 0 ? {} : { unknownTypes }),
    },
  };
}
