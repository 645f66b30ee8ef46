// Owns: random objects for this room's property tests: few names, so that they refer to each other often. Every one of them is valid.

import fc from "fast-check";
import { fetchedKeysName, writeFetchedKeys } from "../../api/kinds/fetched-keys.ts";
import type { KubeObject } from "../../api/meta.ts";
import { keyOf, sourceId } from "../objects.ts";

const name = fc.constantFrom("a", "b", "c");
const namespace = fc.constantFrom("n1", "n2", "weft-system");
const port = fc.constantFrom(80, 8080);
const labels = fc.dictionary(fc.constantFrom("app", "version"), fc.constantFrom("x", "y"), { maxKeys: 2 });
const meta = fc.record({ name, namespace });

const service = fc
  .record({
    metadata: meta,
    selector: labels,
    protocol: fc.constantFrom("http", "tcp", "dns"),
    ports: fc.uniqueArray(port, { minLength: 1 }),
  })
  .map(({ metadata, selector, protocol, ports }) => ({
    apiVersion: "v1",
    kind: "Service",
    metadata,
    spec: {
      selector,
      ports: ports.map((number) => ({
        name: `${protocol}-${number}`,
        port: number,
        ...(protocol === "dns" ? { protocol: "UDP" } : {}),
      })),
    },
  }));

const entry = fc
  .record({
    metadata: meta,
    labels,
    mutual: fc.boolean(),
    healthy: fc.boolean(),
    port: fc.integer({ min: 1, max: 9 }),
    account: name,
    forward: fc.boolean(),
    upstreams: fc.constantFrom("", "a=9001,b.n1=9002,a:8080=9003", "c=9001,a.n2=9002/udp"),
  })
  .map((given) => ({
    apiVersion: "networking.istio.io/v1",
    kind: "WorkloadEntry",
    metadata: {
      ...given.metadata,
      labels: { ...given.labels, ...(given.mutual ? { "security.istio.io/tlsMode": "istio" } : {}) },
      annotations: {
        "weft.dev/inbound": "http-80=8000,tcp-80=8001",
        ...(given.forward ? { "weft.dev/http-proxy-port": "41001" } : {}),
        "weft.dev/upstreams": given.upstreams,
      },
    },
    spec: { address: "127.0.0.1", ports: { "http-80": 40000 + given.port, "tcp-80": 41000 + given.port }, serviceAccount: given.account },
    status: { conditions: [{ type: "Healthy", status: given.healthy ? "True" : "False", reason: "Test", message: "" }] },
  }));

const route = fc
  .record({
    metadata: meta,
    parent: name,
    parentNamespace: namespace,
    path: fc.constantFrom("/", "/x", "/x/y"),
    backends: fc.uniqueArray(fc.tuple(name, fc.integer({ min: 1, max: 3 })), { minLength: 1, maxLength: 2, selector: ([of]) => of }),
  })
  .map((given) => ({
    apiVersion: "gateway.networking.k8s.io/v1",
    kind: "HTTPRoute",
    metadata: given.metadata,
    spec: {
      parentRefs: [{ group: "", kind: "Service", name: given.parent, namespace: given.parentNamespace }],
      rules: [
        { matches: [{ path: { value: given.path } }], backendRefs: given.backends.map(([of, weight]) => ({ name: of, port: 80, weight })) },
      ],
    },
  }));

const policy = fc
  .record({
    metadata: meta,
    matchLabels: labels,
    action: fc.constantFrom("ALLOW", "DENY"),
    methods: fc.option(fc.constant(["GET"])),
    principal: name,
  })
  .map((given) => ({
    apiVersion: "security.istio.io/v1",
    kind: "AuthorizationPolicy",
    metadata: given.metadata,
    spec: {
      selector: { matchLabels: given.matchLabels },
      action: given.action,
      rules: [
        {
          from: [{ source: { principals: [`cluster.local/ns/n1/sa/${given.principal}`] } }],
          ...(given.methods === null ? {} : { to: [{ operation: { methods: given.methods } }] }),
        },
      ],
    },
  }));

const telemetry = fc.record({ metadata: meta, disabled: fc.boolean() }).map((given) => ({
  apiVersion: "telemetry.istio.io/v1",
  kind: "Telemetry",
  metadata: given.metadata,
  spec: { accessLogging: [{ disabled: given.disabled }] },
}));

const peers = fc
  .record({ metadata: meta, matchLabels: labels, mode: fc.constantFrom("STRICT", "PERMISSIVE", "DISABLE") })
  .map(({ metadata, matchLabels, mode }) => ({
    apiVersion: "security.istio.io/v1",
    kind: "PeerAuthentication",
    metadata,
    spec: { ...(Object.keys(matchLabels).length === 0 ? {} : { selector: { matchLabels } }), mtls: { mode } },
  }));

const keys = '{"keys":[{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}';
const keysUri = "https://issuer.test/keys";

const tokens = fc
  .record({ metadata: meta, matchLabels: labels, issuer: fc.constantFrom("i", "j"), fetched: fc.boolean() })
  .map(({ metadata, matchLabels, issuer, fetched }) => ({
    apiVersion: "security.istio.io/v1",
    kind: "RequestAuthentication",
    metadata,
    spec: { selector: { matchLabels }, jwtRules: [{ issuer, ...(fetched ? { jwksUri: keysUri } : { jwks: keys }) }] },
  }));

/** What the control plane has fetched. */
const fetchedKeys = fc.constantFrom("", keys).map((text) => ({
  apiVersion: "v1",
  kind: "ConfigMap",
  metadata: { name: fetchedKeysName(keysUri), namespace: "weft-system" },
  data: writeFetchedKeys(keysUri, text === "" ? { error: "away" } : { keys: text }),
}));

const slice = fc
  .record({ metadata: meta, service: name, mutual: fc.boolean(), address: fc.constantFrom("10.1.0.1", "10.1.0.2"), ready: fc.boolean() })
  .map(({ metadata, service: of, mutual, address, ready }) => ({
    apiVersion: "discovery.k8s.io/v1",
    kind: "EndpointSlice",
    metadata: {
      ...metadata,
      labels: { "kubernetes.io/service-name": of, ...(mutual ? { "security.istio.io/tlsMode": "istio" } : {}) },
      ...(mutual ? { annotations: { "weft.dev/service-accounts": "a" } } : {}),
    },
    addressType: "IPv4",
    ports: [{ name: "http-80", port: 8080 }],
    endpoints: [{ addresses: [address], conditions: { ready } }],
  }));

export const anyObject = fc.oneof(
  { arbitrary: service, weight: 3 },
  { arbitrary: entry, weight: 3 },
  { arbitrary: route, weight: 2 },
  policy,
  telemetry,
  peers,
  tokens,
  fetchedKeys,
  slice,
) as fc.Arbitrary<KubeObject>;

export function idOf(object: KubeObject): string {
  return `${sourceId(object)} ${keyOf(object)}`;
}

export const mesh = fc.uniqueArray(anyObject, { maxLength: 25, selector: idOf });
