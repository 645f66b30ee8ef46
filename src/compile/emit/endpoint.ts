// Owns: ClusterLoadAssignment resources: who answers for a cluster right now.

import { create } from "@bufbuild/protobuf";
import { plainAllowed, plainMark } from "../../wire/direct.ts";
import { type ClusterLoadAssignment, ClusterLoadAssignmentSchema } from "../../wire/gen/envoy/config/endpoint/v3/endpoint_pb.ts";
import type { Transport } from "../../wire/names.ts";
import type { EndpointPlan, PortPlan } from "../plan/plan.ts";
import { compareText } from "../world.ts";
import { address, transportOf } from "./common.ts";

export function loadAssignment(plan: PortPlan): ClusterLoadAssignment {
  return create(ClusterLoadAssignmentSchema, {
    clusterName: plan.cluster,
    endpoints: [...Map.groupBy(plan.endpoints, (each) => each.priority ?? 0)]
      .sort(([a], [b]) => a - b)
      .flatMap(([priority, ranked]) =>
        [...Map.groupBy(ranked, (each) => each.locality ?? "")]
          .sort(([a], [b]) => compareText(a, b))
          .map(([locality, endpoints]) => ({ priority, locality, endpoints })),
      )
      .map(({ priority, locality, endpoints }) => ({
        ...(locality === "" ? {} : { locality: localityOf(locality) }),
        ...(priority === 0 ? {} : { priority }),
        lbEndpoints: endpoints.map((each) => lbEndpoint(each, transportOf(plan.port.protocol))),
      })),
  });
}

/** `region/zone/sub-zone`, as WorkloadEntries write it. */
function localityOf(text: string) {
  const [region = "", zone = "", ...rest] = text.split("/");
  return { region, zone, subZone: rest.join("/") };
}

function lbEndpoint(endpoint: EndpointPlan, transport: Transport) {
  return {
    hostIdentifier: {
      case: "endpoint" as const,
      value: {
        address: address(endpoint.address, endpoint.port, transport),
        ...(endpoint.hostname === undefined ? {} : { hostname: endpoint.hostname }),
      },
    },
    loadBalancingWeight: endpoint.weight,
    metadata: {
      filterMetadata: {
        ...(endpoint.mutualTls
          ? { "envoy.transport_socket_match": { tlsMode: "istio", ...(endpoint.plainAllowed ? { [plainMark]: plainAllowed } : {}) } }
          : {}),
        istio: { workload: endpoint.workload },
        ...(endpoint.identity === "" ? {} : { "weft.dev": { identity: endpoint.identity } }),
      },
    },
  };
}
