// Owns: the bytes of responses. Each resource is wrapped once and the wrapping is shared by every stream that sends it, so a push costs a
// copy. Field numbers are those of envoy/service/discovery/v3/discovery.proto. Never decides what is sent.

import { BinaryWriter, WireType } from "@bufbuild/protobuf/wire";
import { typeUrl, type XdsResource } from "../../wire/xds-types.ts";
import type { Offer } from "./type-ledger.ts";

const anyType = 1;
const anyValue = 2;

/** google.protobuf.Any */
function any(resource: XdsResource): Uint8Array {
  return new BinaryWriter()
    .tag(anyType, WireType.LengthDelimited)
    .string(typeUrl[resource.type])
    .tag(anyValue, WireType.LengthDelimited)
    .bytes(resource.value)
    .finish();
}

const states = new WeakMap<XdsResource, Uint8Array>();
const deltas = new WeakMap<XdsResource, Uint8Array>();

/** DiscoveryResponse.resources entry. */
function stateEntry(resource: XdsResource): Uint8Array {
  let bytes = states.get(resource);
  if (bytes === undefined) {
    bytes = any(resource);
    states.set(resource, bytes);
  }
  return bytes;
}

/** DeltaDiscoveryResponse.resources entry (message Resource). */
function deltaEntry(resource: XdsResource): Uint8Array {
  let bytes = deltas.get(resource);
  if (bytes === undefined) {
    bytes = new BinaryWriter()
      .tag(1, WireType.LengthDelimited)
      .string(resource.version)
      .tag(2, WireType.LengthDelimited)
      .bytes(any(resource))
      .tag(3, WireType.LengthDelimited)
      .string(resource.name)
      .finish();
    deltas.set(resource, bytes);
  }
  return bytes;
}

/** DiscoveryResponse. `identifier` names the control plane in Envoy's config dump. */
export function encodeState(offer: Offer, identifier: string): Uint8Array {
  const writer = new BinaryWriter().tag(1, WireType.LengthDelimited).string(offer.version);
  for (const resource of offer.resources) writer.tag(2, WireType.LengthDelimited).bytes(stateEntry(resource));
  return writer
    .tag(4, WireType.LengthDelimited)
    .string(typeUrl[offer.type])
    .tag(5, WireType.LengthDelimited)
    .string(offer.nonce)
    .tag(6, WireType.LengthDelimited)
    .bytes(controlPlane(identifier))
    .finish();
}

/** DeltaDiscoveryResponse. */
export function encodeDelta(offer: Offer, identifier: string): Uint8Array {
  const writer = new BinaryWriter().tag(1, WireType.LengthDelimited).string(offer.version);
  for (const resource of offer.resources) writer.tag(2, WireType.LengthDelimited).bytes(deltaEntry(resource));
  writer.tag(4, WireType.LengthDelimited).string(typeUrl[offer.type]).tag(5, WireType.LengthDelimited).string(offer.nonce);
  for (const name of offer.absent ?? []) writer.tag(2, WireType.LengthDelimited).bytes(nothing(name));
  for (const name of offer.removed) writer.tag(6, WireType.LengthDelimited).string(name);
  return writer.tag(7, WireType.LengthDelimited).bytes(controlPlane(identifier)).finish();
}

/** A virtual host that there is not: a Resource without content, and with the name as its alias (Envoy, "VHDS"; else requests wait for it). */
function nothing(name: string): Uint8Array {
  return new BinaryWriter().tag(3, WireType.LengthDelimited).string(name).tag(4, WireType.LengthDelimited).string(name).finish();
}

function controlPlane(identifier: string): Uint8Array {
  return new BinaryWriter().tag(1, WireType.LengthDelimited).string(identifier).finish();
}
