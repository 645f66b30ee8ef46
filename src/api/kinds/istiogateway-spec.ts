// Owns: the shape of Istio's Gateway, and what it is in Gateway API's words: a listener for each host of each server. So both are opened by one code.

import type { KubeObject } from "../meta.ts";
import { builtInClass, type GatewayListener, type GatewayObject, type ListenerProtocol, tlsFiles } from "./gateway-spec.ts";

export interface IstioServer {
  readonly name?: string;
  readonly port?: { readonly number?: number; readonly name?: string; readonly protocol?: string };
  readonly hosts?: readonly string[];
  readonly tls?: {
    readonly mode?: "PASSTHROUGH" | "SIMPLE" | "MUTUAL" | "AUTO_PASSTHROUGH" | "ISTIO_MUTUAL";
    readonly credentialName?: string;
    readonly serverCertificate?: string;
    readonly privateKey?: string;
  };
}

export interface IstioGatewayObject extends KubeObject {
  spec?: { selector?: Readonly<Record<string, string>>; servers?: readonly IstioServer[] };
}

/** Istio's names of protocols, as listeners have them. */
const protocols: Readonly<Record<string, ListenerProtocol>> = {
  HTTP: "HTTP",
  HTTP2: "HTTP",
  GRPC: "HTTP",
  "GRPC-WEB": "HTTP",
  HTTPS: "HTTPS",
  TLS: "TLS",
  TCP: "TCP",
  MONGO: "TCP",
};

export const serverProtocols = Object.keys(protocols);

/** undefined = Istio has no such protocol. */
export function serverProtocol(text: string | undefined): ListenerProtocol | undefined {
  const name = (text ?? "").toUpperCase();
  return Object.hasOwn(protocols, name) ? protocols[name] : undefined;
}

/** `NAMESPACE/HOST` or `HOST`; the namespace (`*` = any, `.` = the Gateway's) says whose VirtualServices are taken. */
export function splitHost(text: string): { readonly namespace: string; readonly host: string } {
  const at = text.indexOf("/");
  return at < 0 ? { namespace: "*", host: text } : { namespace: text.slice(0, at), host: text.slice(at + 1) };
}

/** In Gateway API's words. */
export function inGatewayApi(object: IstioGatewayObject): GatewayObject {
  const listeners = (object.spec?.servers ?? []).flatMap((server, n) =>
    (server.hosts ?? []).map((host, at): GatewayListener => listenerOf(server, host, `${server.name ?? server.port?.name ?? n}-${at}`)),
  );
  return { ...object, spec: { gatewayClassName: builtInClass, listeners } } as GatewayObject;
}

function listenerOf({ port, tls }: IstioServer, text: string, name: string): GatewayListener {
  const { namespace, host } = splitHost(text);
  const own = serverProtocol(port?.protocol) ?? "TCP";
  // HTTPS that is not decrypted here is TLS.
  const protocol = own === "HTTPS" && tls?.mode === "PASSTHROUGH" ? "TLS" : own;
  const named = protocol !== "TCP" && host !== "*" ? { hostname: host } : {};
  return {
    name,
    port: port?.number ?? 0,
    protocol,
    ...named,
    ...(protocol === "HTTPS" || protocol === "TLS" ? { tls: tlsOf(tls) } : {}),
    allowedRoutes: { namespaces: takenFrom(namespace) },
  };
}

function tlsOf(tls: IstioServer["tls"]): NonNullable<GatewayListener["tls"]> {
  if (tls?.mode === "PASSTHROUGH") return { mode: "Passthrough" };
  if (tls?.credentialName !== undefined) return { mode: "Terminate", certificateRefs: [{ name: tls.credentialName }] };
  const options = { [tlsFiles.certificate]: tls?.serverCertificate ?? "", [tlsFiles.privateKey]: tls?.privateKey ?? "" };
  return { mode: "Terminate", options };
}

function takenFrom(namespace: string): NonNullable<NonNullable<GatewayListener["allowedRoutes"]>["namespaces"]> {
  if (namespace === "*") return { from: "All" };
  if (namespace === ".") return { from: "Same" };
  return { from: "Selector", selector: { matchLabels: { "kubernetes.io/metadata.name": namespace } } };
}
