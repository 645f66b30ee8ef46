// Owns: the incremental variant of the discovery protocol (Envoy docs, "xDS protocol: Incremental xDS") on one stream. State of resources is the
// store's; here is only what this stream has asked for.

import { pushOrder, typeUrl, type XdsType } from "../../wire/xds-types.ts";
import { decodeBinary } from "./proto/binary.ts";
import { encodeBinary } from "./proto/encode.ts";
import { DeltaDiscoveryRequest, DeltaDiscoveryResponse } from "./proto/types.ts";
import { type AdsHost, type AdsSession, rejection, subscribedType } from "./session.ts";

interface Asked {
  /** Names subscribed on this stream; null for a wildcard. */
  readonly names: Set<string> | null;
  lastNonce: string;
}

export class DeltaSession implements AdsSession {
  readonly #host: AdsHost;
  readonly #asked = new Map<XdsType, Asked>();
  #first = true;

  constructor(host: AdsHost) {
    this.#host = host;
  }

  subscribe(): void {
    for (const type of pushOrder) this.#subscribe(type);
  }

  receive(bytes: Uint8Array): void {
    // Fields of the envelope that we do not know (ttl, cache_control) are offers, not demands.
    const response = decodeBinary(DeltaDiscoveryResponse, bytes, () => {});
    const type = subscribedType(this.#host, response.typeUrl);
    if (type === undefined) {
      this.#send({
        typeUrl: response.typeUrl,
        responseNonce: response.nonce,
        errorDetail: rejection([`${response.typeUrl} was not asked for`]),
      });
      return;
    }
    const problems: string[] = [];
    const resources = response.resources.flatMap((one) => {
      if (one.resource === undefined || one.resource.typeUrl !== response.typeUrl) {
        problems.push(`${type} ${one.name}: holds ${one.resource?.typeUrl ?? "nothing"} instead of ${response.typeUrl}`);
        return [];
      }
      return [{ name: one.name, version: one.version, bytes: one.resource.value }];
    });
    problems.push(...this.#host.take(type, resources, response.removedResources));
    const asked = this.#asked.get(type);
    if (asked !== undefined) asked.lastNonce = response.nonce;
    this.#send({
      typeUrl: response.typeUrl,
      responseNonce: response.nonce,
      ...(problems.length === 0 ? {} : { errorDetail: rejection(problems) }),
    });
    this.subscribe();
  }

  complainLate(type: XdsType, reason: string): void {
    const asked = this.#asked.get(type);
    if (asked === undefined || asked.lastNonce === "") return;
    this.#send({ typeUrl: typeUrl[type], responseNonce: asked.lastNonce, errorDetail: rejection([reason]) });
  }

  #subscribe(type: XdsType): void {
    const wanted = this.#host.wanted(type);
    if (wanted === null) return;
    const asked = this.#asked.get(type);
    if (wanted === "all") {
      if (asked !== undefined) return;
      this.#asked.set(type, { names: null, lastNonce: "" });
      // An empty first subscription is a wildcard; naming what we hold spares the server sending it again.
      this.#send({ typeUrl: typeUrl[type], initialResourceVersions: this.#host.store.versions(type) });
      return;
    }
    const before = asked?.names ?? new Set<string>();
    const add = [...wanted].filter((name) => !before.has(name));
    const drop = [...before].filter((name) => !wanted.has(name));
    if (add.length === 0 && drop.length === 0) return;
    this.#asked.set(type, { names: new Set(wanted), lastNonce: asked?.lastNonce ?? "" });
    this.#send({
      typeUrl: typeUrl[type],
      resourceNamesSubscribe: add,
      resourceNamesUnsubscribe: drop,
      ...(asked === undefined ? { initialResourceVersions: this.#host.store.versions(type) } : {}),
    });
  }

  #send(request: object): void {
    this.#host.send(encodeBinary(DeltaDiscoveryRequest, this.#first ? { ...request, node: this.#host.node } : request));
    this.#first = false;
  }
}
