// Owns: the few fields that proxyless gRPC reads and a proxy must not meet: written by number, as our subset of Envoy's API does not declare them, so
// that our own proxy refuses a resource that carries one. Field numbers are those of Envoy's API; each has the gRFC that asks for it.

import { type Message, toBinary } from "@bufbuild/protobuf";
import { BinaryWriter, WireType } from "@bufbuild/protobuf/wire";
import { type Any, AnySchema } from "@bufbuild/protobuf/wkt";
import { type StringMatcher, StringMatcherSchema } from "../../wire/gen/envoy/type/matcher/v3/string_pb.ts";

/** The instance of the certificate provider that a gRPC bootstrap must define (gRFC A29); ours is a file watcher over what `weft agent` keeps. */
export const certificateProvider = "default";

const lengthDelimited = (bytes: Uint8Array): Uint8Array => new BinaryWriter().bytes(bytes).finish();

/** Adds a field of type message by its number. */
function put<M extends Message>(message: M, no: number, value: Uint8Array): M {
  message.$unknown = [...(message.$unknown ?? []), { no, wireType: WireType.LengthDelimited, data: lengthDelimited(value) }];
  return message;
}

/** Listener.api_listener.api_listener (A27). */
export function putApiListener<M extends Message>(listener: M, manager: Any): M {
  const inner = toBinary(AnySchema, manager);
  return put(listener, 19, new BinaryWriter().tag(1, WireType.LengthDelimited).bytes(inner).finish());
}

/** ConfigSource.self (5): the server that sent the resource. */
const self = new BinaryWriter().tag(5, WireType.LengthDelimited).bytes(new Uint8Array(0)).finish();

/** Cluster.lrs_server (A27): load is reported to where the cluster came from. */
export function putLoadReports<M extends Message>(cluster: M): M {
  return put(cluster, 42, self);
}

/** Route.non_forwarding_action (A36): the server answers itself. */
export function putNonForwarding<M extends Message>(route: M): M {
  return put(route, 18, new Uint8Array(0));
}

const instance = new BinaryWriter().tag(1, WireType.LengthDelimited).string(certificateProvider).finish();

/** CommonTlsContext.tls_certificate_provider_instance (A29). */
export function putOwnCertificate<M extends Message>(context: M): M {
  return put(context, 14, instance);
}

/** CertificateValidationContext.ca_certificate_provider_instance (A29). */
export function putRoots<M extends Message>(context: M): M {
  return put(context, 13, instance);
}

/** CertificateValidationContext.match_subject_alt_names (A29): of any kind of name; a SPIFFE id is only ever a URI. */
export function putPeerNames<M extends Message>(context: M, names: readonly StringMatcher[]): M {
  for (const name of names) put(context, 9, toBinary(StringMatcherSchema, name));
  return context;
}
