// Owns: the order in which the types of one stream travel: make before break. Additions go cluster, endpoint, listener, route; removals in
// reverse, and only when what might still refer to them has been accepted ("Eventual consistency considerations"). Pure.

import { httpProxyRoutes } from "../../wire/names.ts";
import { hostOfDemand, pushOrder, type StreamType, streamOrder, type XdsSnapshot } from "../../wire/xds-types.ts";
import { type Mode, type Offer, type Receipt, TypeLedger } from "./type-ledger.ts";
import { emptyResources, type ResourceMap } from "./versions.ts";

const removalOrder = [...streamOrder].reverse();

export class Ledger {
  readonly mode: Mode;
  readonly #types: Readonly<Record<StreamType, TypeLedger>>;
  #nonces = 0;
  /**
   * New clusters that a wildcard client was sent, whose endpoints it has not asked for yet. Listeners and routes wait for them, or a
   * route would point to a cluster that is still empty. `release` ends the wait for a client that never asks.
   */
  readonly #expected = new Set<string>();
  #endpoints: ResourceMap = emptyResources;

  constructor(mode: Mode) {
    this.mode = mode;
    const nonce = () => (++this.#nonces).toString(36);
    const make = (type: StreamType) => new TypeLedger(type, mode, nonce);
    this.#types = {
      cluster: make("cluster"),
      endpoint: make("endpoint"),
      listener: make("listener"),
      route: make("route"),
      host: make("host"),
    };
  }

  type(type: StreamType): TypeLedger {
    return this.#types[type];
  }

  setTarget(snapshot: XdsSnapshot): void {
    for (const type of pushOrder) this.#types[type].setTarget(snapshot.resources[type]);
    const { asked, found } = snapshot.hosts ?? { asked: [], found: emptyResources };
    const known = new Set(asked);
    // Of other tables nothing is ever looked for: what they lack is absent.
    const judged = { has: (name: string) => known.has(name) || hostOfDemand(httpProxyRoutes, name) === undefined };
    this.#types.host.setTarget(found, snapshot.hosts === undefined ? undefined : judged);
    for (const name of [...this.#expected]) if (!snapshot.resources.endpoint.has(name)) this.#expected.delete(name);
    this.#endpoints = snapshot.resources.endpoint;
  }

  /** A state-of-the-world request. */
  receiveState(type: StreamType, names: readonly string[], versionInfo: string, nonce: string, error: string | undefined): Receipt {
    return this.#note(type, this.#types[type].receiveState(names, versionInfo, nonce, error));
  }

  /** A delta request. */
  receiveDelta(
    type: StreamType,
    subscribe: readonly string[],
    unsubscribe: readonly string[],
    initialVersions: Readonly<Record<string, string>>,
    nonce: string,
    error: string | undefined,
  ): Receipt {
    return this.#note(type, this.#types[type].receiveDelta(subscribe, unsubscribe, initialVersions, nonce, error));
  }

  /** Listeners and routes wait for endpoints the client has not asked for. */
  get waitsForEndpoints(): boolean {
    return this.#expected.size > 0;
  }

  /** Ends that wait. */
  release(): void {
    this.#expected.clear();
  }

  /** The next response that should go out now, or undefined when there is none or the client must answer first. Call until undefined. */
  next(): Offer | undefined {
    for (const type of streamOrder) {
      const ledger = this.#types[type];
      if (this.#expected.size > 0 && type !== "cluster" && type !== "endpoint") return undefined;
      if (!ledger.wantsAdditions()) continue;
      // One response of a type under way at most; what comes later in the order may depend on what waits here.
      if (ledger.awaitingAnswer) return undefined;
      const offer = ledger.offerAdditions();
      if (type === "cluster") this.#followUp(offer);
      return offer;
    }
    // A client that comes back asks for its virtual hosts anew; what they lead to is not taken away before they have been looked for.
    let unsettled = this.#types.host.undecided;
    for (const type of removalOrder) {
      const ledger = this.#types[type];
      while (ledger.wantsRemovals() && !ledger.awaitingAnswer && !unsettled) {
        const offer = ledger.offerRemovals();
        if (offer !== undefined) return offer;
      }
      // A client that has not accepted the new routes still runs the old ones: what they point to stays.
      if (ledger.awaitingAnswer || ledger.hasRejected) unsettled = true;
    }
    return undefined;
  }

  /** Everything sent is accepted and nothing waits. */
  settled(): boolean {
    return streamOrder.every((type) => this.#types[type].settled());
  }

  #note(type: StreamType, receipt: Receipt): Receipt {
    if (type === "endpoint") for (const name of [...this.#expected]) if (this.#types.endpoint.wants(name)) this.#expected.delete(name);
    if (receipt.kind === "rejected" && type === "cluster") for (const name of receipt.rejection.names) this.#expected.delete(name);
    return receipt;
  }

  #followUp(offer: Offer): void {
    const { cluster, endpoint } = this.#types;
    for (const { name, version } of offer.resources) {
      if (!this.#endpoints.has(name) || cluster.holds(name, version)) continue;
      if (endpoint.wants(name)) {
        // A cluster that is replaced warms anew and waits for its endpoints, although its client never stopped asking for them.
        endpoint.refresh(name);
      } else if (cluster.wildcard) {
        this.#expected.add(name);
      }
    }
  }
}
