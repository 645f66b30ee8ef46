// Owns: the incremental variant of the discovery protocol (Envoy docs, "xDS protocol: Incremental xDS") on one stream. State of resources is the
// store's; here is only what this stream has asked for.

import { pushOrder, type StreamType, typeUrl } from "../../wire/xds-types.ts";
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
  readonly #asked = new Map<StreamType, Asked>();
  #first = true;

  constructor(host: AdsHost) {
    this.#host = host;
  }

  subscribe(): void {
    // First, so that a server which has forgotten what was asked for does not take away the clusters behind it.
    this.#subscribe("host");
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
    const removed = [...response.removedResources];
    const resources = response.resources.flatMap((one) => {
      // VHDS: a virtual host that there is not is told as a resource without content.
      if (one.resource === undefined && type === "host") {
        removed.push(...(one.aliases.length === 0 ? [one.name] : one.aliases));
        return [];
      }
      if (one.resource === undefined || one.resource.typeUrl !== response.typeUrl) {
        problems.push(`${type} ${one.name}: holds ${one.resource?.typeUrl ?? "nothing"} instead of ${response.typeUrl}`);
        return [];
      }
      const { value: bytes } = one.resource;
      // VHDS: what was asked for by one name may come under another that says which it answers.
      const names = type === "host" && one.aliases.length > 0 ? one.aliases : [one.name];
      return names.map((name) => ({ name, version: one.version, bytes }));
    });
    problems.push(...this.#host.take(type, resources, removed));
    const asked = this.#asked.get(type);
    if (asked !== undefined) asked.lastNonce = response.nonce;
    this.#send({
      typeUrl: response.typeUrl,
      responseNonce: response.nonce,
      ...(problems.length === 0 ? {} : { errorDetail: rejection(problems) }),
    });
    this.#host.answered(type);
    this.subscribe();
  }

  tellLate(type: StreamType, problems: readonly string[]): void {
    const asked = this.#asked.get(type);
    if (asked === undefined || asked.lastNonce === "") return;
    const errorDetail = problems.length === 0 ? {} : { errorDetail: rejection(problems) };
    this.#send({ typeUrl: typeUrl[type], responseNonce: asked.lastNonce, ...errorDetail });
  }

  #subscribe(type: StreamType): void {
    const wanted = this.#host.wanted(type);
    if (wanted === null) return;
    // Nothing is on demand before something is.
    if (type === "host" && this.#asked.get(type) === undefined && wanted !== "all" && wanted.size === 0) return;
    const asked = this.#asked.get(type);
    if (wanted === "all") {
      if (asked !== undefined) return;
      this.#asked.set(type, { names: null, lastNonce: "" });
      // An empty first subscription is a wildcard; naming what we hold spares the server sending it again.
      this.#send({ typeUrl: typeUrl[type], initialResourceVersions: this.#host.versions(type) });
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
      ...(asked === undefined ? { initialResourceVersions: this.#host.versions(type) } : {}),
    });
  }

  #send(request: object): void {
    this.#host.send(encodeBinary(DeltaDiscoveryRequest, this.#first ? { ...request, node: this.#host.node } : request));
    this.#first = false;
  }
}
