// Owns: one aggregated stream, from its first request to its end, as a state machine:
//   opening -> checking (first request seen, node being judged) -> serving -> closed
// Late events in `closed` do nothing. Decides nothing about resources: that is the ledger's.

import type { Clock, Timer } from "../../base/clock.ts";
import type { Logger } from "../../base/log.ts";
import { httpProxyRoutes } from "../../wire/names.ts";
import { hostOfDemand, type StreamType, type XdsSnapshot, xdsTypeOf } from "../../wire/xds-types.ts";
import type { Admission, Admitted } from "./admission.ts";
import { Ledger } from "./ledger.ts";
import { type MoreResources, withDemanded } from "./on-demand.ts";
import type { Quarantine } from "./quarantine.ts";
import type { Mode, Offer, Receipt, Rejection } from "./type-ledger.ts";

/** A request of either variant, in one shape. Fields of the other variant are empty. */
export interface StreamRequest {
  readonly nodeId: string;
  /** `envoy/1.40.0` */
  readonly agent: string;
  readonly typeUrl: string;
  readonly nonce: string;
  /** Set = the response with this nonce is rejected. */
  readonly error: string | undefined;
  /** State of the world. */
  readonly names: readonly string[];
  readonly versionInfo: string;
  /** Delta. */
  readonly subscribe: readonly string[];
  readonly unsubscribe: readonly string[];
  readonly initialVersions: Readonly<Record<string, string>>;
}

export type EndCode =
  | "deadline-exceeded"
  | "permission-denied"
  | "unauthenticated"
  | "invalid-argument"
  | "resource-exhausted"
  | "unavailable"
  | "internal";

/** The stream below: bytes out, and its end. */
export interface SessionPort {
  send(offer: Offer): void;
  /** Ends the stream with a status. */
  end(code: EndCode, message: string): void;
}

/** Where snapshots come from. `follow` calls back on each new one, until the function it returned is called. */
export interface SnapshotSource {
  get(key: string): XdsSnapshot | undefined;
  follow(key: string, onSnapshot: (snapshot: XdsSnapshot) => void): () => void;
  /** Clusters of the mesh by name with what they need, for a proxy whose part of it they are not; absent: nobody asks for more. */
  resourcesFor?(key: string, names: Iterable<string>): MoreResources;
  /** The hosts (`HOST` or `HOST:PORT`) that the stream `by` of a followed key asks for one by one; the next snapshots have them. Forgotten with `by`'s follow. */
  demand?(key: string, hosts: readonly string[], by: object): void;
  /** Calls back whenever anything of the mesh was published, until the function it returned is called. */
  onPublished?(run: () => void): () => void;
}

/** What the rest of the control plane hears of a session. */
export interface SessionObserver {
  opened(session: Session): void;
  changed(session: Session): void;
  rejected(session: Session, rejection: Rejection): void;
  /** A response was accepted, so long after it went out. */
  accepted?(session: Session, ackMs: number): void;
  closed(session: Session): void;
  /** One response went out. */
  sent(session: Session, offer: Offer): void;
  /** A type that is not served here; told once per session and type. */
  unknownType(typeUrl: string, agent: string): void;
}

export interface SessionDeps {
  readonly clock: Clock;
  readonly log: Logger;
  readonly snapshots: SnapshotSource;
  readonly observer: SessionObserver;
  /** Judges the node id of the first request. */
  readonly admit: (nodeId: string) => Promise<Admission>;
  /** What clients rejected on earlier streams; absent: it is forgotten with the stream. */
  readonly quarantine?: Quarantine;
  /** `ip:port` of the other side. */
  readonly peer: string;
  /** The time of the newest certificate that the client is known to have; undefined: it has none, or nobody knows. */
  readonly certificate?: () => { readonly notBeforeMs: number; readonly notAfterMs: number } | undefined;
}

export interface LastRejection {
  readonly type: StreamType;
  readonly version: string;
  readonly reason: string;
  readonly atMs: number;
}

type State =
  | { readonly name: "opening" }
  | { readonly name: "checking"; readonly waiting: StreamRequest[] }
  | { readonly name: "serving"; readonly node: Admitted; readonly unfollow: () => void }
  | { readonly name: "closed"; readonly node: Admitted | undefined };

/** Requests held while the node is judged: one per type and a few for impatient clients. */
const maxWaiting = 64;
/** A stream that says nothing by then is no client. Envoy and gRPC send their first request with the stream. */
export const firstRequestMs = 10_000;
/** Unknown types that are told of, per stream. */
const maxUnknown = 16;
/** Of a type's name. */
const mostShown = 200;
/** How long listeners and routes wait for a client to ask for the endpoints of a new cluster. A client that asks does so within a round trip. */
const endpointWaitMs = 250;

export class Session {
  readonly mode: Mode;
  readonly ledger: Ledger;
  readonly peer: string;
  readonly openedAtMs: number;
  readonly #deps: SessionDeps;
  readonly #port: SessionPort;
  #state: State = { name: "opening" };
  #agent = "";
  #lastRejection: LastRejection | undefined;
  readonly #unknown = new Set<string>();
  #wait: Timer | undefined;
  /** The proxy's own part of the mesh. */
  #base: XdsSnapshot | undefined;
  /** Set while the client has asked for more than that. */
  #unwatch: (() => void) | undefined;
  /** The client has said that it goes on with what it held. */
  #continued = false;
  readonly #opening: Timer;
  /** When the last response of each type went out. */
  readonly #sentAtMs = new Map<StreamType, number>();

  constructor(mode: Mode, port: SessionPort, deps: SessionDeps) {
    this.mode = mode;
    this.ledger = new Ledger(mode);
    this.peer = deps.peer;
    this.openedAtMs = deps.clock.now();
    this.#port = port;
    this.#deps = deps;
    this.#opening = deps.clock.after(firstRequestMs, () =>
      this.end("deadline-exceeded", `no request within ${firstRequestMs / 1000} s of the stream's opening`),
    );
  }

  /** Who this is; undefined until the node has been admitted. Stays after the end. */
  get node(): Admitted | undefined {
    return this.#state.name === "serving" || this.#state.name === "closed" ? this.#state.node : undefined;
  }

  /** See `SessionDeps`. */
  get certificate(): { readonly notBeforeMs: number; readonly notAfterMs: number } | undefined {
    return this.#deps.certificate?.();
  }

  get agent(): string {
    return this.#agent;
  }

  /** Types it asked for that nobody here serves. */
  get unknownTypes(): ReadonlySet<string> {
    return this.#unknown;
  }

  get lastRejection(): LastRejection | undefined {
    return this.#lastRejection;
  }

  /** One request, in order of arrival. */
  receive(request: StreamRequest): void {
    const state = this.#state;
    switch (state.name) {
      case "opening":
        this.#opening.cancel();
        this.#state = { name: "checking", waiting: [request] };
        this.#agent = request.agent;
        void this.#check(request.nodeId);
        return;
      case "checking":
        if (state.waiting.length >= maxWaiting)
          this.end("resource-exhausted", `more than ${maxWaiting} requests before the first was answered`);
        else state.waiting.push(request);
        return;
      case "serving":
        this.#serve(request);
        this.#pump();
        return;
      case "closed":
        return;
    }
  }

  /** The stream is over, whoever ended it. Idempotent. */
  close(): void {
    const state = this.#state;
    if (state.name === "closed") return;
    this.#opening.cancel();
    this.#wait?.cancel();
    if (state.name === "serving") {
      this.#deps.snapshots.demand?.(state.node.snapshotKey, [], this);
      state.unfollow();
      this.#deps.quarantine?.remember(state.node.snapshotKey, this.#agent, this.ledger);
    }
    this.#unwatch?.();
    this.#state = { name: "closed", node: state.name === "serving" ? state.node : undefined };
    if (state.name === "serving") this.#deps.observer.closed(this);
  }

  /** Ends the stream from our side. */
  end(code: EndCode, message: string): void {
    if (this.#state.name === "closed") return;
    this.#port.end(code, message);
    this.close();
  }

  async #check(nodeId: string): Promise<void> {
    let verdict: Admission;
    try {
      verdict = await this.#deps.admit(nodeId);
    } catch (cause) {
      this.#deps.log.error({ nodeId, cause }, "A node could not be judged");
      this.end("unavailable", "the control plane cannot read its state just now; try again");
      return;
    }
    const state = this.#state;
    if (state.name !== "checking") return;
    if (!verdict.ok) {
      this.#deps.log.warn({ nodeId, peer: this.peer, reason: verdict.reason }, "A proxy was turned away");
      this.end("permission-denied", verdict.reason);
      return;
    }
    const { node } = verdict;
    const unfollow = this.#deps.snapshots.follow(node.snapshotKey, (snapshot) => {
      this.#base = snapshot;
      this.#aim();
      this.#pump();
      this.#deps.observer.changed(this);
    });
    this.#state = { name: "serving", node, unfollow };
    const now = this.#deps.snapshots.get(node.snapshotKey);
    this.#base = now;
    this.#aim();
    this.#deps.observer.opened(this);
    for (const request of state.waiting) this.#serve(request);
    this.#pump();
  }

  #serve(request: StreamRequest): void {
    const type = xdsTypeOf(request.typeUrl);
    // Virtual hosts are asked for by delta only, as Envoy has it.
    if (type === undefined || (type === "host" && this.mode === "sotw")) {
      // rule 11 of the design: left alone, said once. Other types of the stream go on.
      const url = request.typeUrl.slice(0, mostShown);
      if (!this.#unknown.has(url) && this.#unknown.size < maxUnknown) {
        this.#unknown.add(url);
        this.#deps.observer.unknownType(url, this.#agent);
        this.#deps.observer.changed(this);
      }
      return;
    }
    if (!this.#continued && (request.versionInfo !== "" || Object.keys(request.initialVersions).length > 0)) {
      this.#continued = true;
      // Only the first request of a type tells of an earlier stream; later ones answer this one.
      if (!this.ledger.type(type).subscribed) this.#deps.quarantine?.recall(this.node?.snapshotKey ?? "", this.#agent, this.ledger);
    }
    const receipt: Receipt =
      this.mode === "sotw"
        ? this.ledger.receiveState(type, request.names, request.versionInfo, request.nonce, request.error)
        : this.ledger.receiveDelta(type, request.subscribe, request.unsubscribe, request.initialVersions, request.nonce, request.error);
    if (type === "host") this.#demand(request);
    if (type === "cluster" && (request.subscribe.length > 0 || request.unsubscribe.length > 0)) this.#aim();
    switch (receipt.kind) {
      case "too-many-names":
        this.end("resource-exhausted", `more than ${receipt.limit} resource names of type ${type} on one stream; use the wildcard`);
        return;
      case "names-too-long":
        this.end(
          "resource-exhausted",
          `names of type ${type} of more than ${receipt.limit} characters together on one stream; use the wildcard`,
        );
        return;
      case "rejected": {
        const { rejection } = receipt;
        this.#lastRejection = { type, version: rejection.version, reason: rejection.reason, atMs: this.#deps.clock.now() };
        this.#deps.quarantine?.remember(this.node?.snapshotKey ?? "", this.#agent, this.ledger);
        this.#deps.observer.rejected(this, rejection);
        this.#deps.observer.changed(this);
        return;
      }
      case "accepted": {
        const sentAt = this.#sentAtMs.get(type);
        this.#sentAtMs.delete(type);
        if (sentAt !== undefined) this.#deps.observer.accepted?.(this, this.#deps.clock.mono() - sentAt);
        this.#deps.observer.changed(this);
        return;
      }
      case "subscribed":
        this.#deps.observer.changed(this);
        return;
      case "stale":
        return;
    }
  }

  /** Tells what hosts this client asks for. Of one that has no such table every name is absent, and nothing is told. */
  #demand(request: StreamRequest): void {
    const { node } = this;
    if (node === undefined || (request.subscribe.length === 0 && request.unsubscribe.length === 0)) return;
    if (this.#base?.hosts === undefined) return;
    const hosts: string[] = [];
    for (const name of this.ledger.type("host").named) {
      const host = hostOfDemand(httpProxyRoutes, name);
      if (host !== undefined) hosts.push(host);
    }
    this.#deps.snapshots.demand?.(node.snapshotKey, hosts, this);
  }

  /** What the client should hold: its part of the mesh, and of delta clients what they asked for by name. */
  #aim(): void {
    const base = this.#base;
    if (base === undefined) return;
    const { snapshots } = this.#deps;
    const { node } = this;
    const { named } = this.ledger.type("cluster");
    if (this.mode !== "delta" || node?.client !== "proxy" || named.size === 0 || snapshots.resourcesFor === undefined) {
      this.ledger.setTarget(base);
      return;
    }
    const target = withDemanded(base, named, (names) => snapshots.resourcesFor?.(node.key, names) ?? base.resources);
    this.ledger.setTarget(target);
    // What was asked for by name may come to be, or change, while this proxy's own part stands still.
    this.#unwatch ??= snapshots.onPublished?.(() => {
      this.#aim();
      this.#pump();
    });
  }

  #pump(): void {
    for (;;) {
      if (this.#state.name !== "serving") return;
      const offer = this.ledger.next();
      if (offer === undefined) break;
      this.#port.send(offer);
      this.#sentAtMs.set(offer.type, this.#deps.clock.mono());
      this.#deps.observer.sent(this, offer);
    }
    if (this.ledger.waitsForEndpoints) {
      this.#wait ??= this.#deps.clock.after(endpointWaitMs, () => {
        this.#wait = undefined;
        this.ledger.release();
        this.#pump();
      });
    } else {
      this.#wait?.cancel();
      this.#wait = undefined;
    }
  }
}
