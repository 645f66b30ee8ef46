// Owns: names that programs with gRPC's own xDS (no proxy beside them) and the control plane must agree on.

/** Node id of a gRPC program: `grpc~NAMESPACE~NAME`. NAME is that of its WorkloadEntry, if it serves; else any. */
export function grpcNodeId(namespace: string, name: string): string {
  return `grpc~${namespace}~${name}`;
}

export function parseGrpcNodeId(id: string): { namespace: string; workload: string } | undefined {
  const [kind, namespace, workload, extra] = id.split("~");
  if (kind !== "grpc" || !namespace || !workload || extra !== undefined) return undefined;
  return { namespace, workload };
}

/** `server_listener_resource_name_template` of a bootstrap (gRFC A36): gRPC puts the address it listens on in the place of `%s`. */
export const grpcServerTemplate = "grpc/server?xds.resource.listening_address=%s";

/** The listener of a server at this address. */
export function grpcServerName(host: string, port: number): string {
  return grpcServerTemplate.replace("%s", host.includes(":") ? `[${host}]:${port}` : `${host}:${port}`);
}

/** Files of `weft agent`'s folder. */
export const agentFiles = { socket: "agent.sock", certificate: "cert.pem", key: "key.pem", roots: "roots.pem" } as const;
