// Where datagrams go and where they do not; the whole shape of the resources is in testdata/udp.

import { describe, expect, test } from "bun:test";
import { httpRouteKind } from "../api/kinds/httproute.ts";
import { serviceKind } from "../api/kinds/service.ts";
import { type Condition, resourceOf } from "../api/meta.ts";
import { admit } from "./admit.ts";
import { buildWorld, compileAll } from "./compile.ts";
import { resourceToJson } from "./decode.ts";
import { effects } from "./effects.ts";
import { endpointResource } from "./resources.ts";
import { objectsOf } from "./testing/objects.ts";

const service = (more = "selector: {app: dns}") => `
apiVersion: v1
kind: Service
metadata: {name: dns, namespace: shop}
spec: {${more}, ports: [{name: dns, port: 53, protocol: UDP}]}
`;
const entry = (labels: string, more = "") => `
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: dns-1, namespace: shop, labels: {app: dns${labels}}${more}}
spec: {address: 10.0.0.1, ports: {dns: 5353}}
`;
const sidecar = ', security.istio.io/tlsMode: "istio"';
const slice = (labels = "", more = "") => `
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: dns-1, namespace: shop, labels: {kubernetes.io/service-name: dns${labels}}${more}}
addressType: IPv4
ports: [{name: dns, port: 5353, protocol: UDP}]
endpoints: [{addresses: [10.0.0.1]}]
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: onlooker, namespace: shop}
spec: {address: 10.0.0.7}
`;
const peers = (namespace: string, mode: string) => `
---
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: all, namespace: ${namespace}}
spec: {mtls: {mode: ${mode}}}
`;
const policy = (spec: string, namespace = "shop") => `
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: guard, namespace: ${namespace}}
spec: ${spec}
`;

const cluster = "outbound|53|udp|dns.shop.svc.cluster.local";

/** Who gets datagrams, and what the Service says of it. */
function told(yaml: string): [addresses: string[], reason: string | undefined] {
  const world = buildWorld(objectsOf(yaml), "cluster.local");
  const { statuses } = compileAll(world);
  const assignment = resourceToJson(endpointResource(world, cluster)!) as {
    endpoints?: {
      lb_endpoints: { endpoint: { address: { socket_address: { address: string; port_value: number; protocol: string } } } }[];
    }[];
  };
  const addresses = (assignment.endpoints ?? []).flatMap((each) =>
    each.lb_endpoints.map(({ endpoint }) => {
      const { address, port_value, protocol } = endpoint.address.socket_address;
      return `${protocol} ${address}:${port_value}`;
    }),
  );
  const status = statuses.find((each) => each.resource === resourceOf(serviceKind))?.status as { conditions: Condition[] } | undefined;
  return [addresses, status?.conditions[0]?.reason];
}

const carried = [["UDP 10.0.0.1:5353"], "Carried"];
const accounts = ', annotations: {weft.dev/service-accounts: "dns"}';

describe("datagrams go", () => {
  test.each([
    ["to a program without sidecar, as TCP does", service() + entry(""), carried],
    ["not past a sidecar: the mesh is STRICT", service() + entry(sidecar), [[], "StrictMutualTLS"]],
    ["past one that is PERMISSIVE", service() + entry(sidecar) + peers("shop", "PERMISSIVE"), carried],
    ["past one that is DISABLE, by the mesh's own word", service() + entry(sidecar) + peers("weft-system", "DISABLE"), carried],
    ["to an EndpointSlice", service("selector: {}") + slice(), carried],
    ["not to one with sidecars", service("selector: {}") + slice(sidecar, accounts), [[], "StrictMutualTLS"]],
    ["to one with sidecars that are PERMISSIVE", service("selector: {}") + slice(sidecar, accounts) + peers("shop", "PERMISSIVE"), carried],
    ["not where a policy of the namespace asks", service("selector: {}") + slice() + policy("{}"), [[], "AuthorizationPolicy"]],
    ["not where a policy of the mesh asks", service() + entry("") + policy("{}", "weft-system"), [[], "AuthorizationPolicy"]],
    [
      "not where one denies by address",
      service() + entry("") + policy('{action: DENY, rules: [{from: [{source: {ipBlocks: ["10.0.0.0/8"]}}]}]}'),
      [[], "AuthorizationPolicy"],
    ],
    [
      "not where one denies by path: nothing is left of the test",
      service() + entry("") + policy("{action: DENY, rules: [{to: [{operation: {paths: [/x]}}]}]}"),
      [[], "AuthorizationPolicy"],
    ],
    [
      "where a DENY is about another port",
      service() + entry("") + policy('{action: DENY, rules: [{to: [{operation: {ports: ["8080"]}}]}]}'),
      carried,
    ],
    [
      "not where an ALLOW is about another port",
      service() + entry("") + policy('{rules: [{to: [{operation: {ports: ["8080"]}}]}]}'),
      [[], "AuthorizationPolicy"],
    ],
    [
      "where an ALLOW lets everybody use the port",
      service() + entry("") + policy('{rules: [{to: [{operation: {ports: ["5353"]}}]}]}'),
      carried,
    ],
    ["where a policy selects others", service() + entry("") + policy("{selector: {matchLabels: {app: other}}}"), carried],
    [
      "nowhere while the instance is ill",
      `${service()}${entry("")}status: {conditions: [{type: Healthy, status: "False"}]}\n`,
      [[], "Carried"],
    ],
  ])("%s", (_what, yaml, expected) => {
    expect(told(yaml as string)).toEqual(expected as [string[], string]);
  });

  test("to the application, where a sidecar takes the same port of TCP", () => {
    const both = `${service().replace("protocol: UDP}", "protocol: UDP, targetPort: both}, {name: dns-tcp, port: 53, targetPort: both}")}
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata:
  name: dns-1
  namespace: shop
  labels: {app: dns${sidecar}}
  annotations: {weft.dev/inbound: "both=5353"}
spec: {address: 10.0.0.1, ports: {both: 40001}}
${peers("shop", "PERMISSIVE")}`;
    expect(told(both)).toEqual(carried as [string[], string]);
  });
});

test("a Service that loses its UDP port loses what its status said of it", () => {
  const [object] = objectsOf(service().replace(", protocol: UDP", ""));
  object!.status = { conditions: [{ type: "UDPCarried", status: "True", reason: "Carried", message: "" }] };
  const { statuses } = compileAll(buildWorld([object!], "cluster.local"));
  expect(statuses).toEqual([{ resource: resourceOf(serviceKind), namespace: "shop", name: "dns", status: { conditions: [] } }]);
});

test("Services that say TCP and UDP of one port do not contradict each other", () => {
  const world = buildWorld(objectsOf(service() + entry("")), "cluster.local");
  const [other] = objectsOf(service().replace("name: dns,", "name: dns-tcp,").replace(", protocol: UDP", ""));
  expect(admit(world, other!)).toEqual([]);
});

test("an HTTPRoute does not attach to a UDP port, and says so", () => {
  const route = `
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: dns, namespace: shop}
spec: {parentRefs: [{group: "", kind: Service, name: dns}], rules: [{backendRefs: [{name: dns, port: 53}]}]}
`;
  const { statuses } = compileAll(buildWorld(objectsOf(service() + route), "cluster.local"));
  const said = statuses.find((each) => each.resource === resourceOf(httpRouteKind))!.status as { parents: { conditions: Condition[] }[] };
  expect(said.parents[0]!.conditions[0]).toMatchObject({ status: "False", reason: "NoMatchingParent" });
  expect(said.parents[0]!.conditions[0]!.message).toContain("speaks no HTTP there (dns:53/udp)");
});

test("a change tells who gets datagrams and who does not", () => {
  const world = (yaml: string) => buildWorld(objectsOf(yaml), "cluster.local");
  const before = service() + entry(sidecar, ', annotations: {weft.dev/http-proxy-port: "4000"}');
  expect(effects(world(before), world(before + peers("shop", "PERMISSIVE"))).map(({ change, what }) => `${change} ${what}`)).toEqual([
    "appears shop/dns:53/udp at 10.0.0.1:5353, plain text",
    "vanishes shop/dns:53/udp at port 5353 of shop/dns-1 gets no datagrams (StrictMutualTLS)",
  ]);
});
