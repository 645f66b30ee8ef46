// Owns: the state-of-the-world variant of the discovery protocol (Envoy docs, "xDS protocol: Basic protocol overview") on one stream.

import { pushOrder, type StreamType, typeUrl } from "../../wire/xds-types.ts";
import { decodeBinary } from "./proto/binary.ts";
import { encodeBinary } from "./proto/encode.ts";
import { messageType } from "./proto/message.ts";
import { DiscoveryRequest, DiscoveryResponse } from "./proto/types.ts";
import { type AdsHost, type AdsSession, rejection, subscribedType } from "./session.ts";
import type { Incoming } from "./store.ts";

/** A message with nothing but a string in field 1. */
const nameOnly = messageType<{ readonly identifier: string }>("envoy.config.core.v3.ControlPlane");

interface Asked {
  /** null for a wildcard. */
  names: ReadonlySet<string> | null;
  /** Version of the last response that was accepted on this stream. */
  version: string;
  lastNonce: string;
}

export class SotwSession implements AdsSession {
  readonly #host: AdsHost;
  readonly #asked = new Map<StreamType, Asked>();
  #first = true;

  constructor(host: AdsHost) {
    this.#host = host;
  }

  subscribe(): void {
    for (const type of pushOrder) {
      const wanted = this.#host.wanted(type);
      if (wanted === null) continue;
      const asked = this.#asked.get(type);
      if (wanted === "all") {
        if (asked !== undefined) continue;
        this.#asked.set(type, { names: null, version: "", lastNonce: "" });
      } else {
        if (asked === undefined ? wanted.size === 0 : sameNames(asked.names, wanted)) continue;
        if (asked === undefined) this.#asked.set(type, { names: new Set(wanted), version: "", lastNonce: "" });
        else asked.names = new Set(wanted);
      }
      this.#request(type);
    }
  }

  receive(bytes: Uint8Array): void {
    const response = decodeBinary(DiscoveryResponse, bytes, () => {});
    const type = subscribedType(this.#host, response.typeUrl);
    if (type === undefined) {
      this.#send({
        typeUrl: response.typeUrl,
        responseNonce: response.nonce,
        errorDetail: rejection([`${response.typeUrl} was not asked for`]),
      });
      return;
    }
    const asked = this.#asked.get(type) ?? { names: null, version: "", lastNonce: "" };
    const problems: string[] = [];
    const resources: Incoming[] = [];
    for (const one of response.resources) {
      if (one.typeUrl !== response.typeUrl) {
        problems.push(`a ${type} response holds ${one.typeUrl}`);
        continue;
      }
      const name = nameOf(one.value);
      if (resources.some((other) => other.name === name)) problems.push(`${type} ${name}: is there twice`);
      else resources.push({ name, version: response.versionInfo, bytes: one.value });
    }
    // Listeners and clusters: what a response leaves out is gone. Endpoints and routes: it merely did not change.
    const there = new Set(resources.map((one) => one.name));
    const { held, rejected } = this.#host.store.types[type];
    const removed =
      type === "cluster" || type === "listener"
        ? [...new Set([...held.keys(), ...rejected.keys()])].filter((name) => !there.has(name))
        : [];
    problems.push(...this.#host.take(type, resources, removed));
    asked.lastNonce = response.nonce;
    if (problems.length === 0) asked.version = response.versionInfo;
    this.#request(type, problems);
    this.#host.answered(type);
    this.subscribe();
  }

  tellLate(type: StreamType, problems: readonly string[]): void {
    if (this.#asked.get(type)?.lastNonce) this.#request(type, problems);
  }

  #request(type: StreamType, problems: readonly string[] = []): void {
    const asked = this.#asked.get(type);
    this.#send({
      typeUrl: typeUrl[type],
      versionInfo: asked?.version ?? "",
      responseNonce: asked?.lastNonce ?? "",
      resourceNames: [...(asked?.names ?? [])],
      ...(problems.length === 0 ? {} : { errorDetail: rejection(problems) }),
    });
  }

  #send(request: object): void {
    this.#host.send(encodeBinary(DiscoveryRequest, this.#first ? { ...request, node: this.#host.node } : request));
    this.#first = false;
  }
}

function sameNames(one: ReadonlySet<string> | null, other: ReadonlySet<string>): boolean {
  if (one === null || one.size !== other.size) return false;
  for (const name of other) if (!one.has(name)) return false;
  return true;
}

/** All four types carry their name in field 1, so it can be had even of a resource that will be rejected; empty if it cannot. */
function nameOf(bytes: Uint8Array): string {
  try {
    return decodeBinary(nameOnly, bytes, () => {}).identifier;
  } catch {
    return "";
  }
}
