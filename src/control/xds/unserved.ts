// Owns: what is said of types of Envoy's that this control plane does not serve on its discovery streams, and what serves in their place. Words only.

const instead: Readonly<Record<string, string>> = {
  "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret":
    "SDS: keys never travel; `weft agent` serves certificate, key and roots at its socket, and this port serves roots by envoy.service.secret.v3.SecretDiscoveryService",
  "type.googleapis.com/envoy.service.runtime.v3.Runtime":
    "RTDS: nothing of the mesh is a runtime value; put what an Envoy needs into a static layer of its bootstrap",
  "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig": "ECDS: filters come with their listeners",
  "type.googleapis.com/envoy.config.route.v3.ScopedRouteConfiguration": "SRDS: route tables come whole, by RDS",
  "type.googleapis.com/envoy.config.route.v3.VirtualHost": "VHDS needs the delta variant of the stream",
};

/** "" = a type that nobody here knows. */
export function insteadOf(typeUrl: string): string {
  return instead[typeUrl] ?? "";
}
