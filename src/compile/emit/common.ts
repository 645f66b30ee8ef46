// Owns: the few protobuf shapes that every emitter needs. Pure constructors, no policy.

import { create, type DescMessage, type MessageInitShape } from "@bufbuild/protobuf";
import type { Any, Duration } from "@bufbuild/protobuf/wkt";
import { anyPack } from "@bufbuild/protobuf/wkt";
import type { PortProtocol } from "../../api/kinds/service.ts";
import type { Address } from "../../wire/gen/envoy/config/core/v3/address_pb.ts";
import { AddressSchema, SocketAddress_Protocol } from "../../wire/gen/envoy/config/core/v3/address_pb.ts";
import {
  ApiConfigSource_ApiType,
  ApiVersion,
  type ConfigSource,
  ConfigSourceSchema,
} from "../../wire/gen/envoy/config/core/v3/config_source_pb.ts";
import { type SdsSecretConfig, SdsSecretConfigSchema } from "../../wire/gen/envoy/extensions/transport_sockets/tls/v3/secret_pb.ts";
import { type StringMatcher, StringMatcherSchema } from "../../wire/gen/envoy/type/matcher/v3/string_pb.ts";
import { FractionalPercent_DenominatorType, type FractionalPercentSchema } from "../../wire/gen/envoy/type/v3/percent_pb.ts";
import type { Transport } from "../../wire/names.ts";
import type { TextMatch } from "../plan/plan.ts";

export function any<D extends DescMessage>(schema: D, init: MessageInitShape<D>): Any {
  return anyPack(schema, create(schema, init));
}

export function transportOf(protocol: PortProtocol): Transport {
  return protocol === "udp" ? "udp" : "tcp";
}

export function duration(ms: number): Duration {
  return { $typeName: "google.protobuf.Duration", seconds: BigInt(Math.floor(ms / 1000)), nanos: (ms % 1000) * 1_000_000 };
}

export function address(host: string, port: number, transport: Transport = "tcp"): Address {
  const protocol = transport === "udp" ? SocketAddress_Protocol.UDP : SocketAddress_Protocol.TCP;
  return create(AddressSchema, {
    address: { case: "socketAddress", value: { protocol, address: host, portSpecifier: { case: "portValue", value: port } } },
  });
}

/** Over the aggregated stream that the resource itself came on. */
export const overAds: ConfigSource = create(ConfigSourceSchema, {
  configSourceSpecifier: { case: "ads", value: {} },
  resourceApiVersion: ApiVersion.V3,
});

/** Istio's name for the local source of secrets; the proxy serves them from its own identity. */
const secretCluster = "sds-grpc";

export function secret(name: string): SdsSecretConfig {
  return create(SdsSecretConfigSchema, {
    name,
    sdsConfig: {
      configSourceSpecifier: {
        case: "apiConfigSource",
        value: {
          apiType: ApiConfigSource_ApiType.GRPC,
          transportApiVersion: ApiVersion.V3,
          grpcServices: [{ targetSpecifier: { case: "envoyGrpc", value: { clusterName: secretCluster } } }],
          setNodeOnFirstMessageOnly: true,
        },
      },
      initialFetchTimeout: duration(0),
      resourceApiVersion: ApiVersion.V3,
    },
  });
}

/** A share of requests. Whole percents are written as such: that is how people read them. */
export function perMillion(share: number): MessageInitShape<typeof FractionalPercentSchema> {
  return share % 10_000 === 0
    ? { numerator: share / 10_000, denominator: FractionalPercent_DenominatorType.HUNDRED }
    : { numerator: share, denominator: FractionalPercent_DenominatorType.MILLION };
}

/** `present` has no StringMatcher of its own; what it stands for is any value of at least one character. */
export function stringMatcher(match: TextMatch | { readonly kind: "contains"; readonly value: string }, ignoreCase = false): StringMatcher {
  switch (match.kind) {
    case "exact":
    case "prefix":
    case "suffix":
    case "contains":
      return create(StringMatcherSchema, { matchPattern: { case: match.kind, value: match.value }, ignoreCase });
    case "regex":
      return create(StringMatcherSchema, { matchPattern: { case: "safeRegex", value: { regex: match.value } } });
    case "present":
      return create(StringMatcherSchema, { matchPattern: { case: "safeRegex", value: { regex: ".+" } } });
  }
}
