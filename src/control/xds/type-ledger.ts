// Owns: the account of one stream and one resource type: what the client asked for, what it was sent, what it accepted, what it rejected
// and why. Pure bookkeeping: no socket, no clock. Never offers a rejected version again until the content changes, and never has more than
// one response under way, so a client that does not answer costs one response of memory and skips what it would have missed.
// One file of more than 400 lines: every method reads and writes the same dozen fields, and the rules between them are the file's subject.
// Protocol: https://www.envoyproxy.io/docs/envoy/latest/api-docs/xds_protocol (sections are named where a branch follows them).

import type { StreamType, XdsResource } from "../../wire/xds-types.ts";
import { changedNames, emptyResources, type ResourceMap, versionOf } from "./versions.ts";

export type Mode = "delta" | "sotw";

/** What goes out, in the terms of both variants. State of the world carries no `removed`. */
export interface Offer {
  readonly type: StreamType;
  readonly nonce: string;
  readonly version: string;
  readonly resources: readonly XdsResource[];
  readonly removed: readonly string[];
  /** Virtual hosts that were asked for, and there are none: of other types these are among the removed. */
  readonly absent?: readonly string[];
}

export interface Rejection {
  readonly type: StreamType;
  readonly version: string;
  readonly reason: string;
  /** Names that are put aside until their content changes. */
  readonly names: readonly string[];
}

export interface Quarantined {
  readonly name: string;
  readonly version: string;
  readonly reason: string;
}

/** How one resource stands with a client. `resource` is what it runs. */
export type AccountEntry =
  /** Asked for; sent and not answered, or about to be sent. */
  | { readonly state: "requested"; readonly resource?: undefined }
  /** Asked for by name, and there is none. */
  | { readonly state: "absent"; readonly resource?: undefined }
  | { readonly state: "accepted"; readonly resource: XdsResource }
  | { readonly state: "rejected"; readonly version: string; readonly reason: string; readonly resource?: XdsResource };

/** What a request turned out to be. */
export type Receipt =
  | { readonly kind: "subscribed" }
  | { readonly kind: "accepted"; readonly version: string }
  | { readonly kind: "rejected"; readonly rejection: Rejection }
  /** Answers a response that a newer one has replaced; not an answer at all ("Resource updates"). */
  | { readonly kind: "stale" }
  | { readonly kind: "too-many-names"; readonly limit: number }
  | { readonly kind: "names-too-long"; readonly limit: number };

/** Names a client may subscribe to by name, per type. A mesh of this size has other problems first; an endless list is an attack. */
export const maxNames = 65_536;

/** Virtual hosts that a client asks for one by one: each costs the compiler a look whenever the mesh changes. A proxy that needs more uses the whole mesh. */
export const maxDemandedHosts = 4_096;

/** Characters of all names that a client subscribes to by name, per type: 128 for each of the most. A message bounds only one request. */
export const maxNameChars = 8 * 1024 * 1024;

/** Stands for the bytes of a resource that only a reconnecting delta client's word says it holds. */
const unseen = new Uint8Array(0);

interface Names {
  has(name: string): boolean;
}

interface InFlight {
  readonly offer: Offer;
  /** Those of `offer.resources` that the client did not hold in this version. */
  readonly changed: readonly XdsResource[];
  /** State of the world: names the client loses with this response. */
  readonly dropped: readonly string[];
}

/** Listeners and clusters: a state-of-the-world response carries all of them, and absence is removal ("Deleting resources"). */
const carriesAll: Readonly<Record<StreamType, boolean>> = { cluster: true, listener: true, endpoint: false, route: false, host: false };

export class TypeLedger {
  readonly type: StreamType;
  readonly mode: Mode;
  readonly #nextNonce: () => string;
  #subscribed: boolean = false;
  #wildcard = false;
  /** A client that once named resources means "none" when its list is empty ("How the client specifies what resources to return"). */
  #everNamed = false;
  readonly #names = new Set<string>();
  #nameChars = 0;
  #target: ResourceMap = emptyResources;
  #targetKnown = false;
  #judged: Names | undefined;
  /** Version a reconnecting state-of-the-world client says it holds; looked at once, when the target is known. */
  #claimed = "";
  /** The snapshot's own records, shared by all streams. */
  readonly #held = new Map<string, XdsResource>();
  /** Names whose held and wanted versions may differ. Everything else is settled, so work grows with what changed. */
  readonly #dirty = new Set<string>();
  readonly #rejected = new Map<string, { readonly version: string; readonly reason: string }>();
  /** Rejected on an earlier stream, until it is about to be offered or has changed. */
  readonly #recalled = new Map<string, Quarantined>();
  /** Names rejected after they had been accepted. */
  readonly #late = new Set<string>();
  /** Names to send once more, even if the response under way has them. */
  readonly #renew = new Set<string>();
  /** Delta: names the client asked for and was told do not exist. */
  readonly #toldAbsent = new Set<string>();
  /** A response must go out even if it is empty: the client waits for one. */
  #owed = false;
  #inFlight: InFlight | undefined;
  #lastNonce = "";
  #sent = "";
  #accepted = "";

  constructor(type: StreamType, mode: Mode, nextNonce: () => string) {
    this.type = type;
    this.mode = mode;
    this.#nextNonce = nextNonce;
  }

  get subscribed(): boolean {
    return this.#subscribed;
  }

  get wildcard(): boolean {
    return this.#wildcard;
  }

  get awaitingAnswer(): boolean {
    return this.#inFlight !== undefined;
  }

  get hasRejected(): boolean {
    return this.#rejected.size > 0;
  }

  /** Asked for by name. */
  get named(): ReadonlySet<string> {
    return this.#names;
  }

  get rejectedCount(): number {
    return this.#rejected.size;
  }

  /** Version accepted last, version sent last, and how many resources the client holds. */
  status(): { readonly accepted: string; readonly sent: string; readonly resources: number } {
    return { accepted: this.#accepted, sent: this.#sent, resources: this.#held.size };
  }

  /** What was rejected and is not offered again until it changes. */
  *quarantined(): Generator<Quarantined> {
    for (const [name, { version, reason }] of this.#rejected) yield { name, version, reason };
  }

  /**
   * What a later stream of this client should not be offered again. Not what it accepted and could not put into force after all: that lies in its
   * surroundings (a port in use), and it says so again.
   */
  *remembered(): Generator<Quarantined> {
    for (const each of this.quarantined()) if (!this.#late.has(each.name)) yield each;
    for (const each of this.#recalled.values()) if (this.#target.get(each.name)?.version === each.version) yield each;
  }

  /** Takes what an earlier stream of this client has rejected. What has changed since, or is not asked for, does not count. */
  recall(rejected: readonly Quarantined[]): void {
    // A response of all resources without this one would take away the good version before it, which only a delta client names.
    if (this.mode === "sotw" && carriesAll[this.type]) return;
    for (const each of rejected) if (!this.#rejected.has(each.name)) this.#recalled.set(each.name, each);
  }

  /** Every resource the client holds, waits for or has rejected, by name; for those who ask what a client runs (CSDS). */
  account(): ReadonlyMap<string, AccountEntry> {
    const out = new Map<string, AccountEntry>();
    for (const name of this.#names) {
      const open = this.#target.has(name) || !this.#targetKnown || this.#judged?.has(name) === false;
      out.set(name, { state: open ? "requested" : "absent" });
    }
    for (const resource of this.#inFlight?.changed ?? []) out.set(resource.name, { state: "requested" });
    for (const [name, held] of this.#held) out.set(name, { state: "accepted", resource: held });
    for (const [name, { version, reason }] of this.#rejected) {
      const held = this.#held.get(name);
      out.set(name, { state: "rejected", version, reason, ...(held === undefined ? {} : { resource: held }) });
    }
    return out;
  }

  /** Nothing to send, nothing awaited, nothing put aside. A type the client never asked for is settled. */
  settled(): boolean {
    if (!this.#subscribed) return true;
    return (
      this.#targetKnown && this.#inFlight === undefined && this.#rejected.size === 0 && !this.wantsAdditions() && !this.wantsRemovals()
    );
  }

  wants(name: string): boolean {
    return this.#subscribed && (this.#wildcard || this.#names.has(name));
  }

  /** A name that the client asked for has not been looked for yet. */
  get undecided(): boolean {
    if (this.#judged === undefined) return false;
    for (const name of this.#names) if (!this.#judged.has(name)) return true;
    return false;
  }

  /** The client has accepted exactly this. */
  holds(name: string, version: string): boolean {
    return this.#held.get(name)?.version === version;
  }

  // ---- what should be -------------------------------------------------------------------------------------------------

  /** `judged`: a name that is neither in `target` nor among these is not known to be absent: it has not been looked for yet. Default: all are. */
  setTarget(target: ResourceMap, judged?: Names): void {
    const first = !this.#targetKnown;
    this.#targetKnown = true;
    if (judged !== undefined || this.#judged !== undefined) {
      this.#judged = judged;
      for (const name of this.#names) if (this.#isAbsence(name) || this.#isRemoval(name)) this.#dirty.add(name);
    }
    if (target === this.#target && !first) return;
    for (const name of changedNames(this.#target, target)) {
      const rejected = this.#rejected.get(name);
      if (rejected !== undefined && rejected.version !== target.get(name)?.version) {
        this.#rejected.delete(name);
        this.#late.delete(name);
      }
      if (this.wants(name) || this.#held.has(name)) this.#dirty.add(name);
    }
    this.#target = target;
    if (first) for (const name of this.#held.keys()) this.#dirty.add(name);
    this.#creditClaim();
  }

  /** Sends this name again although the client holds it: what refers to it was replaced and asks anew. */
  refresh(name: string): void {
    this.#renew.add(name);
    this.#dirty.add(name);
  }

  // ---- what the client says -------------------------------------------------------------------------------------------

  /** One state-of-the-world DiscoveryRequest. */
  receiveState(names: readonly string[], versionInfo: string, nonce: string, error: string | undefined): Receipt {
    if (names.length > maxNames) return { kind: "too-many-names", limit: maxNames };
    if (lengthOf(names) > maxNameChars) return { kind: "names-too-long", limit: maxNameChars };
    if (!this.#subscribed) {
      // First of its type on this stream; a nonce would be one of an earlier stream and means nothing here.
      this.#subscribed = true;
      this.#owed = true;
      this.#claimed = error === undefined ? versionInfo : "";
      this.#resubscribe(names);
      this.#creditClaim();
      return { kind: "subscribed" };
    }
    if (nonce !== this.#lastNonce) return { kind: "stale" };
    const receipt = this.#settle(error) ?? this.#reconsider(error);
    this.#resubscribe(names);
    return receipt ?? { kind: "subscribed" };
  }

  /** One DeltaDiscoveryRequest: it may change the subscription, answer a response, or both. */
  receiveDelta(
    subscribe: readonly string[],
    unsubscribe: readonly string[],
    initialVersions: Readonly<Record<string, string>>,
    nonce: string,
    error: string | undefined,
  ): Receipt {
    const limit = this.type === "host" ? maxDemandedHosts : maxNames;
    if (this.#names.size + subscribe.length > limit) return { kind: "too-many-names", limit };
    if (this.#nameChars + lengthOf(subscribe) > maxNameChars) return { kind: "names-too-long", limit: maxNameChars };
    const first = !this.#subscribed;
    this.#subscribed = true;
    // Answers count before subscriptions, so that a name asked for again is not marked as held by the answer it came with.
    let receipt: Receipt = { kind: "subscribed" };
    if (!first && nonce !== "")
      receipt = nonce === this.#lastNonce ? (this.#settle(error) ?? this.#reconsider(error) ?? receipt) : { kind: "stale" };
    for (const name of unsubscribe) this.#forget(name);
    for (const name of subscribe) {
      this.#everNamed = true;
      if (name === "*") this.#becomeWildcard();
      else this.#ask(name);
    }
    if (first) {
      this.#owed = true;
      // "How the client specifies what resources to return": no names in the first request of listeners or clusters means all.
      if (!this.#everNamed && carriesAll[this.type]) this.#becomeWildcard();
      for (const [name, version] of Object.entries(initialVersions)) {
        if (!this.wants(name)) continue;
        this.#held.set(name, { type: this.type, name, version, value: unseen });
        this.#renew.delete(name);
        this.#dirty.add(name);
      }
    }
    return receipt;
  }

  // ---- what goes out --------------------------------------------------------------------------------------------------

  /** Something new or changed, or a response that is owed, waits to be sent. */
  wantsAdditions(): boolean {
    if (!this.#subscribed || !this.#targetKnown) return false;
    if (this.#owed) return true;
    for (const name of this.#dirty) if (this.#isAddition(name) || this.#isAbsence(name)) return true;
    return false;
  }

  /** The client holds something that should be gone. */
  wantsRemovals(): boolean {
    if (!this.#subscribed || !this.#targetKnown) return false;
    for (const name of this.#dirty) if (this.#isRemoval(name)) return true;
    return false;
  }

  /** Everything new or changed, as one response. Call only when `wantsAdditions()` and not `awaitingAnswer`. */
  offerAdditions(): Offer {
    const changed: XdsResource[] = [];
    const absent: string[] = [];
    let kept = false;
    for (const name of this.#dirty) {
      if (this.#isRemoval(name)) {
        kept = true;
        continue;
      }
      if (this.#isAddition(name)) changed.push(this.#target.get(name) as XdsResource);
      else if (this.#isAbsence(name)) absent.push(name);
      this.#dirty.delete(name);
      this.#renew.delete(name);
    }
    this.#owed = false;
    for (const name of absent) this.#toldAbsent.add(name);
    const resources = this.mode === "sotw" && carriesAll[this.type] ? this.#wholeState(true) : changed;
    if (this.type !== "host") return this.#send(resources, changed, absent, [], kept);
    const offer = { ...this.#send(resources, changed, [], [], kept), absent };
    this.#inFlight = { offer, changed, dropped: [] };
    return offer;
  }

  /** Everything that should be gone. State of the world has no such response for endpoints and routes: undefined, and the account is closed. */
  offerRemovals(): Offer | undefined {
    const removed: string[] = [];
    for (const name of this.#dirty) {
      if (!this.#isRemoval(name)) continue;
      removed.push(name);
      this.#dirty.delete(name);
    }
    if (this.mode === "delta") return this.#send([], [], removed, removed, false);
    if (!carriesAll[this.type]) {
      for (const name of removed) this.#held.delete(name);
      return undefined;
    }
    return this.#send(this.#wholeState(false), [], [], removed, false);
  }

  // ---- inside ---------------------------------------------------------------------------------------------------------

  #isAddition(name: string): boolean {
    const wanted = this.#target.get(name);
    if (wanted === undefined || !this.wants(name)) return false;
    const recalled = this.#recalled.get(name);
    if (recalled !== undefined) {
      this.#recalled.delete(name);
      // It may hold by now, by the word of its first request, what it once rejected.
      if (recalled.version === wanted.version && this.#held.get(name)?.version !== wanted.version) this.#rejected.set(name, recalled);
    }
    if (this.#rejected.get(name)?.version === wanted.version) return false;
    return this.#held.get(name)?.version !== wanted.version || this.#renew.has(name);
  }

  #isRemoval(name: string): boolean {
    return this.#held.has(name) && !this.#target.has(name) && this.#judged?.has(name) !== false;
  }

  /** Delta, "Subscribing to resources": a name that does not exist is answered as removed. */
  #isAbsence(name: string): boolean {
    return (
      this.mode === "delta" &&
      this.#names.has(name) &&
      !this.#target.has(name) &&
      !this.#held.has(name) &&
      !this.#toldAbsent.has(name) &&
      this.#judged?.has(name) !== false
    );
  }

  /** All that a client should hold: a rejected resource is stood for by the version that was accepted before it. */
  #wholeState(withRemoved: boolean): XdsResource[] {
    const resources: XdsResource[] = [];
    for (const [name, resource] of this.#target) {
      if (!this.wants(name)) continue;
      if (this.#rejected.get(name)?.version !== resource.version) resources.push(resource);
      else {
        const before = this.#held.get(name);
        if (before !== undefined) resources.push(before);
      }
    }
    if (withRemoved) {
      for (const [name, held] of this.#held) if (!this.#target.has(name)) resources.push(held);
    }
    return resources;
  }

  #send(
    resources: readonly XdsResource[],
    changed: readonly XdsResource[],
    removed: readonly string[],
    dropped: readonly string[],
    interim: boolean,
  ): Offer {
    const nonce = this.#nextNonce();
    // A version that a client may present after a reconnect must stand for exactly the target.
    const version = versionOf(this.#target) + (interim || this.#rejected.size > 0 ? `~${nonce}` : "");
    const offer: Offer = { type: this.type, nonce, version, resources, removed };
    this.#inFlight = { offer, changed, dropped };
    this.#lastNonce = nonce;
    this.#sent = version;
    return offer;
  }

  #settle(error: string | undefined): Receipt | undefined {
    const flight = this.#inFlight;
    if (flight === undefined) return undefined;
    this.#inFlight = undefined;
    for (const name of flight.dropped) {
      this.#held.delete(name);
      if (this.#target.has(name)) this.#dirty.add(name);
    }
    const bad = error === undefined ? undefined : blamed(flight.changed, error);
    for (const resource of flight.changed) {
      if (!this.wants(resource.name)) continue;
      if (bad?.has(resource.name)) {
        this.#rejected.set(resource.name, { version: resource.version, reason: error as string });
        // What was wanted while the answer was under way may be something else again.
        if (this.#target.get(resource.name)?.version !== resource.version) this.#rejected.delete(resource.name);
        this.#dirty.add(resource.name);
      } else {
        this.#held.set(resource.name, resource);
        if (this.#target.get(resource.name)?.version !== resource.version) this.#dirty.add(resource.name);
      }
    }
    if (error === undefined) {
      this.#accepted = flight.offer.version;
      return { kind: "accepted", version: flight.offer.version };
    }
    return { kind: "rejected", rejection: { type: this.type, version: flight.offer.version, reason: error, names: [...(bad ?? [])] } };
  }

  /**
   * A second answer to a response that was accepted: the client could not put it into force after all (a port in use), or can now.
   * What it names stays held, for its removal must still be told, but counts as rejected until its content changes or a later answer does not name it.
   */
  #reconsider(error: string | undefined): Receipt | undefined {
    const before = new Set(this.#late);
    for (const name of before) this.#rejected.delete(name);
    this.#late.clear();
    if (error === undefined) return undefined;
    const names: string[] = [];
    for (const [name, { version }] of this.#held) {
      if (!mentions(error, name)) continue;
      names.push(name);
      this.#late.add(name);
      this.#rejected.set(name, { version, reason: error });
    }
    // Each response is followed by what stands: no news, and no event.
    if (names.length > 0 && names.every((name) => before.has(name))) return undefined;
    return { kind: "rejected", rejection: { type: this.type, version: this.#sent, reason: error, names } };
  }

  #resubscribe(names: readonly string[]): void {
    const explicit = names.filter((name) => name !== "*");
    if (names.length > 0) this.#everNamed = true;
    const wildcard = names.includes("*") || (names.length === 0 && !this.#everNamed && carriesAll[this.type]);
    if (wildcard) this.#becomeWildcard();
    else this.#leaveWildcard();
    const next = new Set(explicit);
    for (const name of [...this.#names]) if (!next.has(name)) this.#forget(name);
    for (const name of next) {
      if (this.#names.has(name)) continue;
      this.#addName(name);
      this.#dirty.add(name);
      // Absence from a complete list is the answer to a name that does not exist, so there must be a list.
      if (carriesAll[this.type]) this.#owed = true;
    }
  }

  #becomeWildcard(): void {
    if (this.#wildcard) return;
    this.#wildcard = true;
    for (const name of this.#target.keys()) this.#dirty.add(name);
  }

  #leaveWildcard(): void {
    if (!this.#wildcard) return;
    this.#wildcard = false;
    for (const name of [...this.#held.keys()]) if (!this.#names.has(name)) this.#drop(name);
  }

  /** Delta: a name that is asked for again is sent again, whatever we believe the client holds. */
  #ask(name: string): void {
    this.#addName(name);
    this.#toldAbsent.delete(name);
    this.refresh(name);
  }

  #forget(name: string): void {
    if (name === "*") {
      this.#leaveWildcard();
      return;
    }
    if (this.#names.delete(name)) this.#nameChars -= name.length;
    this.#toldAbsent.delete(name);
    if (!this.#wildcard) this.#drop(name);
  }

  #addName(name: string): void {
    if (this.#names.has(name)) return;
    this.#names.add(this.#ownCopy(name));
    this.#nameChars += name.length;
  }

  #drop(name: string): void {
    this.#held.delete(name);
    this.#rejected.delete(name);
    this.#late.delete(name);
    this.#renew.delete(name);
    this.#dirty.delete(name);
  }

  /** The snapshot's own string where there is one: a thousand streams then share it. */
  #ownCopy(name: string): string {
    return this.#target.get(name)?.name ?? name;
  }

  /** A reconnecting client that holds exactly what it should is not sent it again. */
  #creditClaim(): void {
    if (this.#claimed === "" || !this.#targetKnown || !this.#subscribed) return;
    const claimed = this.#claimed;
    this.#claimed = "";
    if (this.mode !== "sotw" || !carriesAll[this.type] || !this.#wildcard || claimed !== versionOf(this.#target)) return;
    for (const [name, resource] of this.#target) this.#held.set(name, resource);
    this.#dirty.clear();
    this.#owed = false;
    this.#sent = claimed;
    this.#accepted = claimed;
  }
}

/**
 * The names a rejection is about. Envoy and our proxy decode each resource alone, apply the good ones and name the bad ones; where the
 * text names none of what was sent, all of it is taken to be rejected.
 */
function blamed(changed: readonly XdsResource[], error: string): Set<string> {
  const named = new Set<string>();
  for (const { name } of changed) if (mentions(error, name)) named.add(name);
  return named.size > 0 ? named : new Set(changed.map((r) => r.name));
}

function lengthOf(names: readonly string[]): number {
  let sum = 0;
  for (const name of names) sum += name.length;
  return sum;
}

const nameCharacter = /[A-Za-z0-9_|.-]/;

function mentions(text: string, name: string): boolean {
  for (let at = text.indexOf(name); at >= 0; at = text.indexOf(name, at + 1)) {
    const before = text[at - 1];
    const after = text[at + name.length];
    // A name ends where its alphabet ends; a full stop may also end the sentence.
    if (
      (before === undefined || !nameCharacter.test(before)) &&
      (after === undefined || !nameCharacter.test(after) || /^\.(\s|$)/.test(text.slice(at + name.length)))
    )
      return true;
  }
  return false;
}
