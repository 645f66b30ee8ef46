// Owns: the list of proxies that are or lately were connected, as the API shows them (`weft.dev/v1alpha1` Proxy). Never touches a stream.

import { liveGroup, liveVersion, type ProxyObject, type ProxyTypeStatus, type XdsTypeName } from "../../api/live.ts";
import type { Clock, Timer } from "../../base/clock.ts";
import { formatIdentity } from "../../wire/spiffe.ts";
import { pushOrder, streamOrder } from "../../wire/xds-types.ts";
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

/** What a connected proxy has taken out of its balance, and which limits refuse. */
export type CircuitsOf = (key: string) =>
  | {
      readonly ejected: readonly { cluster: string; endpoint: string; workload: string | undefined; reason: string }[];
      readonly open: readonly { cluster: string; limit: string }[];
    }
  | undefined;

interface Slot {
  /** Newest last: a proxy that reconnects before its old stream is known to be dead has two. */
  readonly sessions: Session[];
  /** Its WorkloadEntry was taken back in order: what ends then is not lost. */
  unregistered: boolean;
}

interface Lost {
  readonly object: ProxyObject;
  readonly atMs: number;
}

export class ProxyList {
  readonly #clock: Clock;
  /** Of those with a stream. */
  readonly #slots = new Map<string, Slot>();
  /** In the order of loss. */
  readonly #lost = new Map<string, Lost>();
  readonly #listeners = new Set<() => void>();
  #announcement: Timer | undefined;

  readonly #shortfalls: ShortfallsOf;
  readonly #circuits: CircuitsOf;

  /** `shortfalls`: what a resource that a session holds leaves undone. */
  constructor(clock: Clock, shortfalls: ShortfallsOf = () => [], circuits: CircuitsOf = () => undefined) {
    this.#clock = clock;
    this.#shortfalls = shortfalls;
    this.#circuits = circuits;
  }

  /** Streams open now. */
  get connected(): number {
    return this.#slots.size;
  }

  /** Resources that connected proxies have rejected and that are not offered again until they change. */
  get quarantined(): number {
    let count = 0;
    for (const { sessions } of this.#slots.values()) {
      const ledger = sessions.at(-1)?.ledger;
      for (const type of streamOrder) if (ledger?.type(type).hasRejected === true) count += ledger.type(type).rejectedCount;
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
    return this.#slots.has(key);
  }

  add(session: Session): void {
    const key = session.node?.key;
    if (key === undefined) return;
    const slot = this.#slots.get(key) ?? { sessions: [], unregistered: false };
    slot.sessions.push(session);
    slot.unregistered = false;
    this.#lost.delete(key);
    this.#slots.set(key, slot);
    this.touch();
  }

  /** The workload said goodbye (its entry was deleted while its proxy was there): it is forgotten with its last stream. */
  unregister(key: string): void {
    const slot = this.#slots.get(key);
    if (slot === undefined && !this.#lost.delete(key)) return;
    if (slot !== undefined) slot.unregistered = true;
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
      this.#slots.delete(key);
      if (!slot.unregistered) {
        this.#lost.set(key, { object: describe(session, false, this.#shortfalls), atMs: this.#clock.now() });
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
      if (session !== undefined) objects.push(describe(session, true, this.#shortfalls, this.#circuits));
    }
    for (const { object } of this.#lost.values()) objects.push(object);
    return objects;
  }

  subscribe(onChange: () => void): () => void {
    this.#listeners.add(onChange);
    return () => this.#listeners.delete(onChange);
  }

  #forgetOld(): void {
    const now = this.#clock.now();
    for (const [key, { atMs }] of this.#lost) {
      if (now - atMs < rememberLostMs && this.#lost.size <= maxLost) break;
      this.#lost.delete(key);
    }
  }
}

function describe(session: Session, connected: boolean, shortfalls: ShortfallsOf, circuits?: CircuitsOf): ProxyObject {
  const node = session.node;
  if (node === undefined) throw new Error("a session without a node is not in the list");
  const types = {} as Record<XdsTypeName, ProxyTypeStatus>;
  for (const type of pushOrder) types[type] = session.ledger.type(type).status();
  const rejection = session.lastRejection;
  const quarantine: NonNullable<ProxyObject["status"]["quarantine"]> = [];
  for (const type of streamOrder)
    for (const each of session.ledger.type(type).quarantined()) if (quarantine.length < mostListed) quarantine.push({ type, ...each });
  const notEnforced = shortfalls(session).slice(0, mostListed);
  const stands = circuits?.(node.key);
  const ejected = (stands?.ejected ?? []).slice(0, mostListed).map(({ cluster, endpoint, workload, reason }) => ({
    cluster,
    endpoint,
    ...(workload === undefined ? {} : { workload }),
    reason,
  }));
  const open = (stands?.open ?? []).slice(0, mostListed).map(({ cluster, limit }) => ({ cluster, limit }));
  const unknownTypes = [...session.unknownTypes];
  const hosts = session.ledger.type("host");
  const connectedAt = new Date(session.openedAtMs).toISOString();
  const { certificate } = session;
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
      ...(certificate === undefined
        ? {}
        : {
            certificate: {
              notBefore: new Date(certificate.notBeforeMs).toISOString(),
              notAfter: new Date(certificate.notAfterMs).toISOString(),
            },
          }),
      ...(quarantine.length === 0 ? {} : { quarantine }),
      ...(notEnforced.length === 0 ? {} : { notEnforced }),
      ...(ejected.length === 0 ? {} : { ejected }),
      ...(open.length === 0 ? {} : { openCircuits: open }),
      ...(hosts.subscribed ? { hosts: { asked: hosts.named.size, held: hosts.status().resources } } : {}),
      ...(unknownTypes.length === 0 ? {} : { unknownTypes }),
    },
  };
}
