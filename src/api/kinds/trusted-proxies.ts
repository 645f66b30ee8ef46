// Owns: how a Gateway of either kind is told how many proxies stand before it: an annotation, ours or Istio's. What cannot be followed is refused here:
// how many are believed decides whom policies on addresses let in. Never decides who the client is.

import type { KubeObject, Violation } from "../meta.ts";
import { isRecord, notImplemented, show } from "../schema.ts";

/** How many proxies (load balancers, CDNs) every request has passed before it comes to the Gateway; without it 0. */
export const trustedProxiesAnnotation = "weft.dev/trusted-proxies";

/** Istio's, as YAML; of it `gatewayTopology.numTrustedProxies` alone. */
export const istioProxyConfig = "proxy.istio.io/config";

/** No request passes more: a larger number is a mistake, and each one too many lets clients say who they are. */
export const mostTrustedProxies = 16;

/** 0 where none is said; of an object that `trustedProxiesRules` has let pass. */
export function trustedProxies(object: KubeObject): number {
  const own = object.metadata.annotations?.[trustedProxiesAnnotation];
  if (own !== undefined) return Number(own);
  const text = object.metadata.annotations?.[istioProxyConfig];
  const read = text === undefined ? 0 : ofIstio(text);
  return typeof read === "number" ? read : 0;
}

export function trustedProxiesRules(object: KubeObject): Violation[] {
  const annotations = object.metadata.annotations ?? {};
  const [own, text] = [annotations[trustedProxiesAnnotation], annotations[istioProxyConfig]];
  const at = (name: string, message: string): Violation => ({ path: `metadata.annotations["${name}"]`, message });
  const out: Violation[] = [];
  if (own !== undefined && (!/^\d{1,2}$/.test(own) || Number(own) > mostTrustedProxies))
    out.push(at(trustedProxiesAnnotation, `must be a whole number from 0 to ${mostTrustedProxies}, got ${show(own)}`));
  if (text === undefined) return out;
  const read = ofIstio(text);
  if (typeof read === "string") out.push(at(istioProxyConfig, read));
  else if (own !== undefined && read !== Number(own))
    out.push(at(istioProxyConfig, `says ${read}, and ${trustedProxiesAnnotation} says ${show(own)}; remove one of them`));
  return out;
}

/** The number, or what is wrong. */
function ofIstio(text: string): number | string {
  let config: unknown;
  try {
    config = Bun.YAML.parse(text);
  } catch {
    config = undefined;
  }
  const topology = isRecord(config) ? config.gatewayTopology : undefined;
  if (!isRecord(config) || !isRecord(topology)) return `must be YAML like "gatewayTopology: {numTrustedProxies: 1}", got ${show(text)}`;
  const other = [...Object.keys(config), ...Object.keys(topology).map((key) => `gatewayTopology.${key}`)].find(
    (key) => key !== "gatewayTopology" && key !== "gatewayTopology.numTrustedProxies",
  );
  if (other !== undefined) return notImplemented(`field ${show(other)}`, "at a Gateway only gatewayTopology.numTrustedProxies is read");
  const number = topology.numTrustedProxies;
  if (typeof number === "number" && Number.isInteger(number) && number >= 0 && number <= mostTrustedProxies) return number;
  return `gatewayTopology.numTrustedProxies must be a whole number from 0 to ${mostTrustedProxies}, got ${show(number)}`;
}
