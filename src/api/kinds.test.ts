// Every kind: what it takes, what it refuses and in which words; and that the tables know all fields of the published standards.

import { describe, expect, test } from "bun:test";
import { join } from "node:path";
import {
  DiscoveryV1EndpointPort,
  V1Endpoint,
  V1EndpointConditions,
  V1EndpointSlice,
  V1ObjectMeta,
  V1ServicePort,
  V1ServiceSpec,
} from "@kubernetes/client-node";
import fc from "fast-check";
import { parse } from "yaml";
import { kindByName, kindByPath, kindByResource, kindOf, kinds } from "./kinds.ts";
import { type KubeObject, resourceOf } from "./meta.ts";

/** `path: message` of everything wrong with a YAML document, after defaults. */
function wrong(yaml: string): string[] {
  const object = parse(yaml) as KubeObject;
  const kind = kindOf(object);
  if (kind === undefined) throw new Error(`no kind for ${object.apiVersion} ${object.kind}`);
  kind.applyDefaults(object);
  return kind.validate(object).map(({ path, message }) => `${path}: ${message}`);
}

const header = (apiVersion: string, kind: string, more = "") =>
  `{apiVersion: ${apiVersion}, kind: ${kind}, metadata: {name: x, namespace: shop${more}}`;
const service = (spec: string) => `${header("v1", "Service")}, spec: ${spec}}`;
const entry = (spec: string, more = "") => `${header("networking.istio.io/v1", "WorkloadEntry", more)}, spec: ${spec}}`;
const slice = (rest: string, more = ", labels: {kubernetes.io/service-name: a}") =>
  `${header("discovery.k8s.io/v1", "EndpointSlice", more)}, ${rest}}`;
const routeSpec = (spec: string) => `${header("gateway.networking.k8s.io/v1", "HTTPRoute")}, spec: ${spec}}`;
const route = (rules: string) => routeSpec(`{parentRefs: [{group: "", kind: Service, name: a}], rules: ${rules}}`);
const api = (kind: string, spec: string, version = "v1") => `${header(`gateway.networking.k8s.io/${version}`, kind)}, spec: ${spec}}`;
const external = (spec: string) => `${header("networking.istio.io/v1", "ServiceEntry")}, spec: ${spec}}`;
const serviceParent = 'parentRefs: [{group: "", kind: Service, name: a}]';
const policy = (spec: string) => `${header("security.istio.io/v1", "AuthorizationPolicy")}, spec: ${spec}}`;
const telemetry = (spec: string) => `${header("telemetry.istio.io/v1", "Telemetry")}, spec: ${spec}}`;

const to = "backendRefs: [{name: a, port: 80}]";
const left = "is not implemented by this version of Weft, and is refused rather than ignored";
const knownConditions =
  "known are source.ip, remote.ip, request.auth.principal, request.auth.audiences, request.auth.presenter and request.auth.claims[NAME]; use from and to";

/** [what, document, what is said]; an empty list: nothing. */
const cases: readonly (readonly [string, string, readonly string[]])[] = [
  // Service
  ["a service", service("{selector: {app: a}, ports: [{name: http, port: 80}]}"), []],
  ["a service without ports", service("{selector: {app: a}}"), ["spec.ports: is required"]],
  [
    "a misspelt field",
    service("{selektor: {app: a}, ports: [{port: 80}]}"),
    ['spec.selektor: unknown field "selektor"; did you mean "selector"?'],
  ],
  ["a field like nothing", service("{frobnicate: 1, ports: [{port: 80}]}"), ['spec.frobnicate: unknown field "frobnicate"']],
  [
    "fields named like Object's own",
    `${header("v1", "Service")}, spec: {ports: [{port: 80, constructor: 1}]}, toString: 1}`,
    ['spec.ports[0].constructor: unknown field "constructor"', 'toString: unknown field "toString"'],
  ],
  ["a port that is text", service('{ports: [{port: "80"}]}'), ['spec.ports[0].port: must be a whole number, got "80"']],
  ["a port out of range", service("{ports: [{port: 70000}]}"), ["spec.ports[0].port: must be at most 65535, got 70000"]],
  [
    "two ports without names",
    service("{ports: [{port: 80}, {port: 81}]}"),
    [
      "spec.ports[0].name: is required when a service has several ports",
      "spec.ports[1].name: is required when a service has several ports",
    ],
  ],
  [
    "one port twice",
    service("{ports: [{name: a, port: 80}, {name: a, port: 80}]}"),
    ["spec.ports[1].port: 80 is taken by spec.ports[0]", 'spec.ports[1].name: "a" is taken by spec.ports[0]'],
  ],
  [
    "a load balancer",
    service("{type: LoadBalancer, ports: [{port: 80}]}"),
    [`spec.type: value "LoadBalancer" ${left}: use ClusterIP; a service of the mesh is reached by name, through the sidecar of the caller`],
  ],
  [
    "an unknown type",
    service("{type: ClusterIp, ports: [{port: 80}]}"),
    ['spec.type: must be one of "ClusterIP", "NodePort", "LoadBalancer", "ExternalName", got "ClusterIp"; did you mean "ClusterIP"?'],
  ],
  [
    "SCTP",
    service("{ports: [{port: 53, protocol: SCTP}]}"),
    [`spec.ports[0].protocol: value "SCTP" ${left}: only TCP and UDP are carried`],
  ],
  [
    "one number of UDP twice",
    service("{ports: [{name: a, port: 53, protocol: UDP}, {name: b, port: 53}, {name: c, port: 53, protocol: UDP}]}"),
    ["spec.ports[2].port: 53 is taken by spec.ports[0]"],
  ],
  [
    "a bad name",
    "{apiVersion: v1, kind: Service, metadata: {name: 1a}, spec: {ports: [{port: 80}]}}",
    [
      "metadata.name: \"1a\" is no name for a Service: use lower-case letters, digits and '-', at most 63, beginning with a letter and ending with a letter or digit",
    ],
  ],
  [
    "bad labels",
    '{apiVersion: v1, kind: Service, metadata: {name: a, labels: {"a b": x, c: "d e"}}, spec: {ports: [{port: 80}]}}',
    [
      "metadata.labels[\"a b\"]: is no label name: [DNS name/]at most 63 letters, digits, '-', '_', '.'",
      "metadata.labels[\"c\"]: \"d e\" is no label value: at most 63 letters, digits, '-', '_', '.', beginning and ending with a letter or digit",
    ],
  ],
  ["no spec", "{apiVersion: v1, kind: Service, metadata: {name: a}}", ["spec: is required"]],
  // WorkloadEntry
  [
    "an entry of `weft run`",
    entry(
      "{address: 127.0.0.1, ports: {http: 40001}, serviceAccount: a}",
      ', annotations: {weft.dev/inbound: "http=8080", weft.dev/http-proxy-port: "41001", weft.dev/upstreams: "cart=9001,ledger.bank:5432=9002"}',
    ),
    [],
  ],
  [
    "an address that is a name",
    entry("{address: db.example.com}"),
    ['spec.address: "db.example.com" is no IP address; host names and unix sockets are not implemented by this version of Weft'],
  ],
  [
    "an inbound port that is nowhere",
    entry("{address: 127.0.0.1, ports: {web: 1}}", ', annotations: {weft.dev/inbound: "http=8080"}'),
    ['metadata.annotations["weft.dev/inbound"]: port "http" is not in spec.ports, where the sidecar\'s own port belongs'],
  ],
  [
    "malformed inbound",
    entry("{address: 127.0.0.1}", ', annotations: {weft.dev/inbound: "http:8080"}'),
    ['metadata.annotations["weft.dev/inbound"]: "http:8080" is not of the form PORTNAME=APPLICATIONPORT'],
  ],
  [
    "malformed upstreams",
    entry("{}", ', annotations: {weft.dev/upstreams: "cart=90010"}'),
    ['metadata.annotations["weft.dev/upstreams"]: "cart=90010": ports must be from 1 to 65535'],
  ],
  [
    "a used service with a bad port",
    entry("{}", ', annotations: {weft.dev/uses: "cart,stock.shop:0"}'),
    ['metadata.annotations["weft.dev/uses"]: "stock.shop:0": the port must be from 1 to 65535'],
  ],
  [
    "one local port twice",
    entry("{}", ', annotations: {weft.dev/upstreams: "cart=9001,stock=9001"}'),
    ['metadata.annotations["weft.dev/upstreams"]: local port 9001 stands there twice'],
  ],
  [
    "tlsMode",
    entry("{}", ", labels: {security.istio.io/tlsMode: maybe}"),
    ['metadata.labels["security.istio.io/tlsMode"]: must be istio or disabled, got "maybe"'],
  ],
  // EndpointSlice
  [
    "a slice",
    slice("addressType: IPv4, endpoints: [{addresses: [10.0.0.1], conditions: {ready: true}}], ports: [{name: http, port: 80}]"),
    [],
  ],
  [
    "a slice of nobody",
    slice("addressType: IPv4, endpoints: []", ""),
    ['metadata.labels["kubernetes.io/service-name"]: is required: without it the slice belongs to no Service'],
  ],
  [
    "an address of the other family",
    slice("addressType: IPv6, endpoints: [{addresses: [10.0.0.1]}]"),
    ['endpoints[0].addresses[0]: "10.0.0.1" is no IPv6 address'],
  ],
  [
    "names as addresses",
    slice("addressType: FQDN, endpoints: [{addresses: [a.example.com]}]"),
    [`addressType: value "FQDN" ${left}: give IP addresses; names are not resolved yet`],
  ],
  [
    "mutual TLS with whom?",
    slice("addressType: IPv4, endpoints: []", ", labels: {kubernetes.io/service-name: a, security.istio.io/tlsMode: istio}"),
    [
      'metadata.labels["security.istio.io/tlsMode"]: needs the annotation weft.dev/service-accounts: callers must know which service accounts to expect',
    ],
  ],
  // HTTPRoute
  ["a route", route(`[{${to}}]`), []],
  [
    "every filter and match",
    route(
      `[{name: all, matches: [{path: {type: Exact, value: /a}, method: GET, headers: [{name: A, value: b}], queryParams: [{name: q, type: RegularExpression, value: "v.*"}]}], filters: [{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: A, value: b}]}}, {type: ResponseHeaderModifier, responseHeaderModifier: {remove: [B]}}, {type: URLRewrite, urlRewrite: {hostname: b.example.com, path: {type: ReplaceFullPath, replaceFullPath: /b}}}], timeouts: {request: 1s, backendRequest: 500ms}, retry: {codes: [503], attempts: 2}, ${to}}]`,
    ),
    [],
  ],
  [
    "no parent",
    routeSpec(`{rules: [{${to}}]}`),
    ["spec.parentRefs: must name at least one Service or Gateway: without a parent the route does nothing"],
  ],
  [
    "a Gateway as parent",
    routeSpec(`{parentRefs: [{name: gw, sectionName: web}], hostnames: [a.example.com, "*.b.example"], rules: [{${to}}]}`),
    [],
  ],
  [
    "a Service in Gateway API's group",
    routeSpec(`{parentRefs: [{kind: Service, name: a}], rules: [{${to}}]}`),
    [
      'spec.parentRefs[0].group: a Service is in the core group: write group: "" (got "gateway.networking.k8s.io", the standard\'s default)',
    ],
  ],
  [
    "hostnames",
    routeSpec(`{parentRefs: [{group: "", kind: Service, name: a}], hostnames: [a.example.com], rules: [{${to}}]}`),
    [
      "spec.hostnames: a route on a Service takes every name of that Service, so hostnames would do nothing; match on headers, or attach the route to a Gateway",
    ],
  ],
  [
    "mirrors",
    route(
      `[{filters: [{type: RequestMirror, requestMirror: {backendRef: {name: b, port: 80}, percent: 5}}, {type: RequestMirror, requestMirror: {backendRef: {name: c}, percent: 5, fraction: {numerator: 3, denominator: 2}}}], ${to}}]`,
    ),
    [
      "spec.rules[0].filters[1].requestMirror.backendRef.port: is required for a Service",
      "spec.rules[0].filters[1].requestMirror: percent and fraction exclude each other; remove one",
      "spec.rules[0].filters[1].requestMirror.fraction: 3 of 2 is more than all",
    ],
  ],
  [
    "filters of one backend",
    route(
      "[{backendRefs: [{name: a, port: 80, filters: [{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: a, value: b}]}}, {type: RequestMirror, requestMirror: {backendRef: {name: b, port: 80}}}, {type: CORS, cors: {allowOrigins: ['*']}}, {type: ExternalAuth, externalAuth: {protocol: HTTP, backendRef: {name: auth, port: 80}, http: {}}}, {type: URLRewrite, urlRewrite: {path: {type: ReplacePrefixMatch, replacePrefixMatch: /x}}}]}, {name: b, port: 80, filters: [{type: RequestRedirect, requestRedirect: {scheme: https}}]}]}]",
    ),
    [],
  ],
  [
    "filters of one backend that contradict each other",
    route(
      "[{matches: [{path: {type: Exact, value: /a}}], filters: [{type: ExternalAuth, externalAuth: {protocol: HTTP, backendRef: {name: auth, port: 80}, http: {}}}], backendRefs: [{name: a, port: 80, filters: [{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: a, value: b}]}}, {type: RequestRedirect, requestRedirect: {scheme: https}}]}, {name: b, port: 80, filters: [{type: ExternalAuth, externalAuth: {protocol: HTTP, backendRef: {name: auth, port: 80}, http: {}}}, {type: URLRewrite, urlRewrite: {path: {type: ReplacePrefixMatch, replacePrefixMatch: /x}}}]}]}]",
    ),
    [
      "spec.rules[0].backendRefs[0].filters[0].type: a backend that redirects forwards nothing; remove the RequestHeaderModifier, or the RequestRedirect filter",
      "spec.rules[0].backendRefs[1].filters[1].urlRewrite.path.type: ReplacePrefixMatch needs every match of the rule to be a PathPrefix",
      `spec.rules[0].backendRefs[1].filters[0].type: ExternalAuth on a rule and on a backend of it ${left}: a request is judged once: put it on one of the two`,
    ],
  ],
  [
    "CORS",
    route(
      `[{filters: [{type: CORS, cors: {allowOrigins: ["https://*.example.com:8443", "shop.example.com"], allowMethods: ["*", GET], allowCredentials: true}}], ${to}}]`,
    ),
    [
      'spec.rules[0].filters[0].cors.allowMethods: "*" means all, so that nothing can stand beside it',
      `spec.rules[0].filters[0].cors.allowMethods: "*" together with allowCredentials ${left}: list the names`,
      'spec.rules[0].filters[0].cors.allowOrigins[1]: "shop.example.com" is no origin: SCHEME://HOST[:PORT], for example https://shop.example.com or https://*.example.com:8443, or "*"',
    ],
  ],
  [
    "external authorization",
    route(`[{filters: [{type: ExternalAuth, externalAuth: {protocol: GRPC, backendRef: {name: auth, port: 9000}, grpc: {}}}], ${to}}]`),
    [],
  ],
  [
    "external authorization that contradicts itself",
    route(
      `[{filters: [{type: ExternalAuth, externalAuth: {protocol: GRPC, backendRef: {name: auth}, http: {path: check}}}], ${to}}, {backendRefs: [{name: a, port: 80, filters: [{type: ExternalAuth, externalAuth: {protocol: HTTP, backendRef: {name: auth}, http: {}}}]}]}, {filters: [{type: ExternalAuth, externalAuth: {protocol: GRPC, backendRef: {name: auth, port: 80}, grpc: {allowedHeaders: [a]}}}], ${to}}]`,
    ),
    [
      "spec.rules[0].filters[0].externalAuth.backendRef.port: is required for a Service",
      "spec.rules[0].filters[0].externalAuth.grpc: is required for protocol GRPC; {} will do",
      "spec.rules[0].filters[0].externalAuth.http: must not be there for protocol GRPC",
      'spec.rules[0].filters[0].externalAuth.http.path: must be a plain path that begins with "/", got "check"',
      "spec.rules[1].backendRefs[0].filters[0].externalAuth.backendRef.port: is required for a Service",
      `spec.rules[2].filters[0].externalAuth.grpc.allowedHeaders: a choice of headers by gRPC ${left}: leave it out: all headers are sent; or use protocol HTTP`,
    ],
  ],
  [
    "a session that idles",
    route(`[{sessionPersistence: {idleTimeout: 1m, absoluteTimeout: 1h}, backendRefs: [{name: a, port: 80}, {name: b, port: 80}]}]`),
    [
      `spec.rules[0].sessionPersistence.idleTimeout: the end of a session after idle time ${left}: use absoluteTimeout with lifetimeType Permanent`,
      `spec.rules[0].sessionPersistence.absoluteTimeout: an absolute timeout other than of a permanent cookie ${left}: set cookieConfig.lifetimeType: Permanent, or remove it`,
      `spec.rules[0].sessionPersistence: sessions across several backends ${left}: give the rule one backend with a weight above 0`,
    ],
  ],
  ["a backend without port", route("[{backendRefs: [{name: a}]}]"), ["spec.rules[0].backendRefs[0].port: is required for a Service"]],
  // The standard takes it: requests are answered with 500.
  ["a split of nothing", route("[{backendRefs: [{name: a, port: 80, weight: 0}, {name: b, port: 80, weight: 0}]}]"), []],
  [
    "a path without slash",
    route(`[{matches: [{path: {value: a}}], ${to}}]`),
    ['spec.rules[0].matches[0].path.value: must begin with "/", got "a"'],
  ],
  [
    "a path with a query",
    route(`[{matches: [{path: {value: "/a?b"}}], ${to}}]`),
    ['spec.rules[0].matches[0].path.value: must be a plain path without query, spaces or unprintable characters, got "/a?b"'],
  ],
  [
    "a bad regular expression",
    route(`[{matches: [{path: {type: RegularExpression, value: "/(a"}}], ${to}}]`),
    [
      'spec.rules[0].matches[0].path.value: "/(a" is not a regular expression in RE2 syntax: error parsing regexp: missing closing ): `/(a`',
    ],
  ],
  [
    "look-ahead, which RE2 has not",
    route(`[{matches: [{path: {type: RegularExpression, value: "/(?=a)"}}], ${to}}]`),
    [
      'spec.rules[0].matches[0].path.value: "/(?=a)" is not a regular expression in RE2 syntax: error parsing regexp: invalid or unsupported Perl syntax: `(?=`',
    ],
  ],
  [
    "a header twice",
    route(`[{matches: [{headers: [{name: A, value: b}, {name: a, value: c}]}], ${to}}]`),
    ['spec.rules[0].matches[0].headers[1].name: "a" is matched by spec.rules[0].matches[0].headers[0] already; only the first would count'],
  ],
  [
    "a redirect that forwards",
    route(`[{filters: [{type: RequestRedirect, requestRedirect: {scheme: https}}], ${to}}]`),
    ["spec.rules[0].backendRefs: a rule that redirects forwards nothing; remove backendRefs or the RequestRedirect filter"],
  ],
  [
    "a filter without its field",
    route(`[{filters: [{type: URLRewrite}], ${to}}]`),
    ["spec.rules[0].filters[0].urlRewrite: is required for type URLRewrite"],
  ],
  [
    "a full path for a prefix",
    route(`[{filters: [{type: URLRewrite, urlRewrite: {path: {type: ReplaceFullPath, replaceFullPath: /b}}}], ${to}}]`),
    [],
  ],
  [
    "a header of the proxy",
    route(`[{filters: [{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: Host, value: b}]}}], ${to}}]`),
    ['spec.rules[0].filters[0].requestHeaderModifier.set[0]: header "Host" belongs to the proxy; use a URLRewrite filter with hostname'],
  ],
  [
    "a smuggled line",
    route(`[{filters: [{type: ResponseHeaderModifier, responseHeaderModifier: {set: [{name: A, value: "b\\r\\nC: d"}]}}], ${to}}]`),
    [
      'spec.rules[0].filters[0].responseHeaderModifier.set[0].value: "b\\r\\nC: d" must not contain line breaks or other control characters',
    ],
  ],
  [
    "a command of Envoy's",
    route(`[{filters: [{type: ResponseHeaderModifier, responseHeaderModifier: {set: [{name: A, value: "%ENVIRONMENT(HOME)%"}]}}], ${to}}]`),
    [],
  ],
  [
    "timeouts the wrong way round",
    route(`[{timeouts: {request: 1s, backendRequest: 1m}, ${to}}]`),
    ["spec.rules[0].timeouts.backendRequest: 1m is longer than timeouts.request, 1s"],
  ],
  [
    "a duration of another kind",
    route(`[{timeouts: {request: 1.5s}, ${to}}]`),
    ['spec.rules[0].timeouts.request: "1.5s" does not match ^([0-9]{1,5}(h|m|s|ms)){1,4}$'],
  ],
  [
    "retry pauses",
    route(`[{retry: {attempts: 2, backoff: 0s}, ${to}}]`),
    ["spec.rules[0].retry.backoff: must be above 0; leave it out to try another instance at once"],
  ],
  // GRPCRoute
  [
    "a gRPC route",
    api(
      "GRPCRoute",
      `{${serviceParent}, rules: [{name: one, matches: [{method: {service: shop.v1.Cart, method: Add}, headers: [{name: x, value: y}]}, {}], ${to}}]}`,
    ),
    [],
  ],
  [
    "a gRPC route that matches badly",
    api(
      "GRPCRoute",
      `{${serviceParent}, rules: [{matches: [{method: {}}, {method: {service: shop/Cart}}, {method: {type: RegularExpression, method: "("}}], ${to}}]}`,
    ),
    [
      "spec.rules[0].matches[0].method: needs a service or a method; leave it out to match every call",
      'spec.rules[0].matches[1].method.service: "shop/Cart" is no name of a gRPC service, like shop.v1.Cart',
      'spec.rules[0].matches[2].method.method: "(" is not a regular expression in RE2 syntax: error parsing regexp: missing closing ): `(`',
    ],
  ],
  // TLSRoute, TCPRoute, UDPRoute
  ["a TLS route", api("TLSRoute", `{${serviceParent}, hostnames: ["*.example.com"], rules: [{${to}}]}`, "v1alpha2"), []],
  [
    "two rules that nothing tells apart",
    api("TCPRoute", `{${serviceParent}, rules: [{${to}}, {${to}}]}`, "v1alpha2"),
    ["spec.rules: has 2 rules, but nothing tells connections apart, so only the first could ever be used; keep one"],
  ],
  [
    "datagrams by weight",
    api("UDPRoute", `{${serviceParent}, rules: [{backendRefs: [{name: a, port: 53}, {name: b, port: 53}]}]}`, "v1alpha2"),
    [`spec.rules[0].backendRefs: a split of datagrams by weight ${left}: give one backend a weight above 0`],
  ],
  // Gateway
  [
    "a gateway",
    api(
      "Gateway",
      "{gatewayClassName: weft, listeners: [{name: web, port: 80, protocol: HTTP}, {name: shop, port: 443, protocol: HTTPS, hostname: shop.example.com, tls: {certificateRefs: [{name: shop}]}}, {name: pass, port: 443, protocol: TLS, hostname: db.example.com, tls: {mode: Passthrough}}]}",
    ),
    [],
  ],
  [
    "listeners that make no sense",
    api(
      "Gateway",
      "{gatewayClassName: weft, listeners: [{name: a, port: 443, protocol: HTTPS}, {name: b, port: 80, protocol: HTTP, tls: {certificateRefs: [{name: x}]}}, {name: b, port: 5432, protocol: TCP, hostname: db.example.com}, {name: c, port: 444, protocol: TLS, tls: {options: {weft.dev/certificate-file: cert.pem}}}, {name: d, port: 80, protocol: HTTP}]}",
    ),
    [
      "spec.listeners[0].tls: is required for protocol HTTPS",
      "spec.listeners[1].tls: must not be there for protocol HTTP; write protocol HTTPS",
      'spec.listeners[2].name: "b" is taken by spec.listeners[1]',
      "spec.listeners[2].hostname: TCP shows no host name; remove it",
      "spec.listeners[3].tls.options: weft.dev/certificate-file and weft.dev/private-key-file go together",
      'spec.listeners[3].tls.options: "cert.pem" must be a path from the root',
      "spec.listeners[4]: has port, protocol and hostname of spec.listeners[1], so that nothing tells them apart; change one of them",
    ],
  ],
  [
    "client certificates at a gateway",
    api(
      "Gateway",
      "{gatewayClassName: weft, listeners: [{name: a, port: 443, protocol: HTTPS, tls: {certificateRefs: [{name: x}], frontendValidation: {caCertificateRefs: []}}}]}",
    ),
    [
      `spec.listeners[0].tls.frontendValidation: field "frontendValidation" ${left}: client certificates are not asked for: use an AuthorizationPolicy on addresses, or a TLS listener with Passthrough`,
    ],
  ],
  [
    "a grant of nothing",
    api("ReferenceGrant", '{from: [{group: "", kind: Pod, namespace: a}], to: [{group: "", kind: Service}]}', "v1beta1"),
    [
      'spec.from[0]: nothing of kind "Pod" in group "" refers to other namespaces; known are HTTPRoute.gateway.networking.k8s.io, GRPCRoute.gateway.networking.k8s.io, TLSRoute.gateway.networking.k8s.io, TCPRoute.gateway.networking.k8s.io, UDPRoute.gateway.networking.k8s.io, Gateway.gateway.networking.k8s.io, ListenerSet.gateway.networking.k8s.io, XListenerSet.gateway.networking.x-k8s.io, RateLimitPolicy.weft.dev',
    ],
  ],
  [
    "a certificate that is none",
    `${header("v1", "Secret")}, type: kubernetes.io/tls, stringData: {tls.crt: hello}}`,
    ['data["tls.crt"]: is not PEM', 'data["tls.key"]: is required for type kubernetes.io/tls'],
  ],
  // ServiceEntry
  [
    "a service entry",
    external("{hosts: [api.example.com], ports: [{number: 443, name: https, protocol: TLS}], resolution: DNS, location: MESH_EXTERNAL}"),
    [],
  ],
  [
    "a service entry with a wildcard",
    external('{hosts: ["*.example.com", api, "*"], ports: [{number: 443, name: https, protocol: QUIC}], resolution: DNS}'),
    [
      'spec.hosts[0]: "*.example.com" has a wildcard, whose addresses nobody knows beforehand: write resolution NONE or DYNAMIC_DNS, or each host',
      'spec.hosts[1]: "api" has no dot, so that it would hide the short name of a Service; use a full name',
      "spec.hosts[2]: would be every host: give the namespace the label weft.dev/outbound: allow-any instead",
      'spec.ports[0].protocol: must be one of HTTP, GRPC-WEB, HTTP2, GRPC, HTTPS, TLS, TCP, MONGO, MYSQL, REDIS, got "QUIC"',
    ],
  ],
  [
    "a service entry that leads anywhere",
    external(
      "{hosts: ['*.example.com'], ports: [{number: 80, name: http, targetPort: 8080}], resolution: NONE, location: MESH_INTERNAL, endpoints: [{address: 192.0.2.1}]}",
    ),
    [
      "spec.endpoints: resolution NONE goes where the request says; write STATIC or DNS for endpoints",
      "spec.ports[0].targetPort: resolution NONE goes to the port that the request names; write STATIC or DNS for another",
      "spec.location: resolution NONE knows no workloads of the mesh; write MESH_EXTERNAL",
    ],
  ],
  [
    "a service entry without anybody",
    external("{hosts: [a.shop.svc.cluster.local], ports: [{number: 80, name: http}], resolution: STATIC, exportTo: ['~']}"),
    [
      'spec.hosts[0]: "a.shop.svc.cluster.local" is in the mesh\'s own domain; a Service without selector and an EndpointSlice makes such a name',
      "spec.endpoints: is required for resolution STATIC, unless workloadSelector names workloads: without either nobody would answer",
      'spec.exportTo[0]: "~" exports to nobody, so that the object would do nothing; delete it instead',
    ],
  ],
  // AuthorizationPolicy
  ["the empty policy", policy("{}"), []],
  ["a policy without spec", `${header("security.istio.io/v1", "AuthorizationPolicy")}}`, []],
  [
    "every matcher",
    policy(
      '{selector: {matchLabels: {app: a}}, action: DENY, rules: [{from: [{source: {principals: ["*"], notPrincipals: ["cluster.local/ns/a/sa/b", "*/sa/x", "td/*"], namespaces: ["a-*"], notNamespaces: [b], ipBlocks: [10.0.0.0/8, "::1"], notIpBlocks: [10.1.0.0/16]}}, {source: {serviceAccounts: [a, b/c]}}], to: [{operation: {hosts: [a], notHosts: ["*.b"], ports: ["80"], notPorts: ["81"], methods: [GET], notMethods: ["P*"], paths: [/a, "/b*", "*/c", "*"], notPaths: [/d]}}]}]}',
    ),
    [],
  ],
  [
    "CUSTOM",
    policy("{action: CUSTOM, provider: {name: x}}"),
    [
      `spec.action: value "CUSTOM" ${left}: there are no external authorizers; use ALLOW or DENY`,
      `spec.provider: field "provider" ${left}: it belongs to action CUSTOM`,
    ],
  ],
  ["AUDIT", policy("{action: AUDIT, rules: [{}]}"), [`spec.action: value "AUDIT" ${left}: use ALLOW or DENY`]],
  [
    "a DENY of nothing",
    policy("{action: DENY}"),
    ["spec.rules: a DENY policy without rules denies nothing; to deny everything write rules: [{}] or an ALLOW policy without rules"],
  ],
  [
    "conditions",
    policy(
      '{rules: [{when: [{key: "request.auth.claims[iss][a]", values: [a, "b*"]}, {key: "request.auth.claims", values: [a]}, {key: "request.auth.claims[]", values: [a]}, {key: request.auth.audiences, values: ["a*b"]}, {key: request.auth.principal, values: [a]}]}]}',
    ),
    [
      `spec.rules[0].when[1].key: condition "request.auth.claims" ${left}: ${knownConditions}`,
      `spec.rules[0].when[2].key: condition "request.auth.claims[]" ${left}: ${knownConditions}`,
      'spec.rules[0].when[3].values[0]: "a*b": "*" may stand alone, at the beginning, or at the end',
      'spec.rules[0].when[4].values[0]: "a" can be nobody: use ISSUER/SUBJECT, for example https://accounts.example.com/1234, or * for any good token',
    ],
  ],
  [
    "tokens",
    policy(
      '{rules: [{from: [{source: {requestPrincipals: ["*", "https://a.test/*", "https://a.test/b"], notRequestPrincipals: ["a/", ""]}}]}]}',
    ),
    [
      'spec.rules[0].from[0].source.notRequestPrincipals[0]: "a/" can be nobody: use ISSUER/SUBJECT, for example https://accounts.example.com/1234, or * for any good token',
      "spec.rules[0].from[0].source.notRequestPrincipals[1]: must not be empty",
    ],
  ],
  [
    "an unknown condition",
    policy("{rules: [{to: [{operation: {method: [GET]}}]}]}"),
    ['spec.rules[0].to[0].operation.method: unknown field "method"; did you mean "methods"?'],
  ],
  ["an empty source", policy("{rules: [{from: [{source: {}}]}]}"), ["spec.rules[0].from[0].source: must hold at least one condition"]],
  [
    "an empty list",
    policy("{rules: [{from: [{source: {principals: []}}]}]}"),
    ["spec.rules[0].from[0].source.principals: must not be empty; remove it, or say what it should match"],
  ],
  ["no sources", policy("{rules: [{from: []}]}"), ["spec.rules[0].from: must not be empty; remove it to mean anyone"]],
  [
    "a principal that is a name",
    policy("{rules: [{from: [{source: {principals: [cart]}}]}]}"),
    [
      'spec.rules[0].from[0].source.principals[0]: "cart" can match no identity: use TRUSTDOMAIN/ns/NAMESPACE/sa/SERVICEACCOUNT, for example cluster.local/ns/shop/sa/cart',
    ],
  ],
  [
    "a principal that is a URI",
    policy("{rules: [{from: [{source: {principals: [spiffe://cluster.local/ns/a/sa/b]}}]}]}"),
    ['spec.rules[0].from[0].source.principals[0]: write it without spiffe://: "cluster.local/ns/a/sa/b"'],
  ],
  [
    "a star in the middle",
    policy('{rules: [{to: [{operation: {paths: ["/a/*/b"]}}]}]}'),
    ['spec.rules[0].to[0].operation.paths[0]: "/a/*/b": "*" may stand alone, at the beginning, or at the end'],
  ],
  [
    "a path template",
    policy('{rules: [{to: [{operation: {paths: ["/a/{**}"]}}]}]}'),
    [
      'spec.rules[0].to[0].operation.paths[0]: "/a/{**}": "*" may stand alone, at the beginning, or at the end',
      'spec.rules[0].to[0].operation.paths[0]: "/a/{**}": path templates ({*}, {**}) are not implemented by this version of Weft; use an exact path, or "*" at the beginning or end',
    ],
  ],
  [
    "a method in lower case",
    policy("{rules: [{to: [{operation: {methods: [get]}}]}]}"),
    ['spec.rules[0].to[0].operation.methods[0]: methods are case-sensitive and upper case by standard: write "GET", got "get"'],
  ],
  [
    "a port that is none",
    policy('{rules: [{to: [{operation: {ports: ["http"]}}]}]}'),
    ['spec.rules[0].to[0].operation.ports[0]: "http" is no port number from 1 to 65535'],
  ],
  [
    "an address block that is none",
    policy("{rules: [{from: [{source: {ipBlocks: [10.0.0.0/33]}}]}]}"),
    ['spec.rules[0].from[0].source.ipBlocks[0]: "10.0.0.0/33" is no IP address or CIDR block'],
  ],
  [
    "the client's address, and conditions",
    policy(
      '{rules: [{from: [{source: {remoteIpBlocks: [10.0.0.0/8, "2001:db8::/32"], notRemoteIpBlocks: [10.1.2.3]}}], when: [{key: remote.ip, values: [10.0.0.0/8], notValues: ["::1"]}, {key: source.ip, notValues: [10.0.0.1]}]}]}',
    ),
    [],
  ],
  [
    "address blocks that can fit no client",
    policy('{rules: [{from: [{source: {remoteIpBlocks: ["::ffff:10.0.0.0/104", "fe80::1%eth0", 010.0.0.1], notRemoteIpBlocks: []}}]}]}'),
    [
      'spec.rules[0].from[0].source.remoteIpBlocks[0]: "::ffff:10.0.0.0/104" is an IPv4 address written as IPv6, which nobody has; write the IPv4 form',
      'spec.rules[0].from[0].source.remoteIpBlocks[1]: "fe80::1%eth0" is no IP address or CIDR block',
      'spec.rules[0].from[0].source.remoteIpBlocks[2]: "010.0.0.1" is no IP address or CIDR block',
      "spec.rules[0].from[0].source.notRemoteIpBlocks: must not be empty; remove it, or say what it should match",
    ],
  ],
  [
    "conditions that cannot be judged",
    policy(
      '{rules: [{when: [{key: "request.headers[x]", values: [a]}, {key: remote.ip}, {values: [a]}, {key: remote.ip, values: [a]}, {key: toString, values: [a]}]}, {when: []}]}',
    ),
    [
      `spec.rules[0].when[0].key: condition "request.headers[x]" ${left}: ${knownConditions}`,
      "spec.rules[0].when[1]: must have values or notValues",
      "spec.rules[0].when[2].key: is required: one of source.ip, remote.ip, request.auth.principal, request.auth.audiences, request.auth.presenter and request.auth.claims[NAME]",
      'spec.rules[0].when[3].values[0]: "a" is no IP address or CIDR block',
      `spec.rules[0].when[4].key: condition "toString" ${left}: ${knownConditions}`,
      "spec.rules[1].when: must not be empty; remove it to mean always",
    ],
  ],
  [
    "accounts beside principals",
    policy('{rules: [{from: [{source: {serviceAccounts: [a], principals: ["*"]}}]}]}'),
    ["spec.rules[0].from[0].source.serviceAccounts: cannot stand beside principals; use two entries of from"],
  ],
  // Telemetry
  [
    "an access log",
    telemetry(
      "{selector: {matchLabels: {app: a}}, accessLogging: [{providers: [{name: envoy}], match: {mode: CLIENT}}, {disabled: true, match: {mode: SERVER}}]}",
    ),
    [],
  ],
  ["metrics", telemetry("{metrics: []}"), [`spec.metrics: field "metrics" ${left}: metrics are always collected and cannot be reshaped`]],
  [
    "a filter of log lines",
    telemetry('{accessLogging: [{filter: {expression: "true"}}]}'),
    [`spec.accessLogging[0].filter: field "filter" ${left}: every request is logged, or none`],
  ],
  [
    "another provider",
    telemetry("{accessLogging: [{providers: [{name: otel}]}]}"),
    [
      'spec.accessLogging[0].providers[0].name: must be "weft" or "envoy", got "otel"; other providers are not implemented by this version of Weft',
    ],
  ],
  [
    "one side twice",
    telemetry("{accessLogging: [{}, {match: {mode: CLIENT}}]}"),
    ["spec.accessLogging[1]: says again about CLIENT what spec.accessLogging[0] says; put both into one"],
  ],
  // everything
  [
    "a namespace in a namespace",
    "{apiVersion: v1, kind: Namespace, metadata: {name: a, namespace: b}}",
    ["metadata.namespace: Namespace belongs to no namespace; remove it"],
  ],
  ["no name", "{apiVersion: v1, kind: Namespace, metadata: {}}", ["metadata.name: is required"]],
  [
    "a view of live state",
    "{apiVersion: weft.dev/v1alpha1, kind: Edge, metadata: {name: a, namespace: b}}",
    ["kind: Edge is a view of live state and cannot be written"],
  ],
];

describe("validation", () => {
  for (const [what, yaml, said] of cases) test(what, () => expect(wrong(yaml)).toEqual([...said]));

  test("takes anything at all without throwing", () => {
    for (const kind of kinds) {
      for (const junk of [
        null,
        1,
        "x",
        [],
        [null],
        {},
        { spec: [] },
        { spec: { rules: [null], ports: [null], parentRefs: null } },
        { metadata: 7 },
        { metadata: { labels: [], annotations: 3 }, endpoints: [null] },
      ]) {
        const object = {
          apiVersion: kind.group === "" ? "v1" : `${kind.group}/${kind.versions[0]}`,
          kind: kind.kind,
          ...(junk as object),
        } as unknown as KubeObject;
        kind.applyDefaults(object);
        expect(kind.validate(object).length).toBeGreaterThan(0);
        for (const column of kind.columns) column.value({ apiVersion: "v1", kind: kind.kind, metadata: { name: "x" } });
      }
    }
  });
});

describe("validation of anything", () => {
  test("ends, with an answer, for any JSON in the place of a field", () => {
    const paths = [
      ["spec"],
      ["spec", "rules"],
      ["spec", "rules", "0"],
      ["spec", "ports"],
      ["metadata"],
      ["metadata", "labels"],
      ["metadata", "annotations"],
      ["endpoints"],
      ["status"],
    ];
    fc.assert(
      fc.property(fc.constantFrom(...kinds), fc.constantFrom(...paths), fc.jsonValue(), (kind, path, junk) => {
        const object = {
          apiVersion: kind.group === "" ? "v1" : `${kind.group}/${kind.versions[0]}`,
          kind: kind.kind,
          metadata: { name: "x" },
        } as Record<string, unknown>;
        let at = object;
        for (const part of path.slice(0, -1)) {
          const next = part === "rules" ? [] : {};
          at[part] = at[part] ?? next;
          at = at[part] as Record<string, unknown>;
        }
        at[path.at(-1)!] = structuredClone(junk);
        kind.applyDefaults(object as unknown as KubeObject);
        for (const violation of kind.validate(object as unknown as KubeObject)) expect(violation.message).not.toBe("");
      }),
      { numRuns: 500 },
    );
  });

  test("a name of a megabyte takes no time", () => {
    const started = performance.now();
    const object = {
      apiVersion: "v1",
      kind: "Service",
      metadata: { name: "a".repeat(1e6), labels: { [`${"a".repeat(1e6)}!`]: "x" }, annotations: { [`${"a.".repeat(5e5)}/`]: "" } },
      spec: { ports: [{ port: 80 }] },
    };
    expect(kindOf(object)!.validate(object).length).toBe(3);
    expect(performance.now() - started).toBeLessThan(500);
  });
});

describe("defaults", () => {
  test("are those of the published schemas, and are filled in once", () => {
    const object = parse(route("[{backendRefs: [{name: a, port: 80}]}]")) as KubeObject;
    const kind = kindOf(object)!;
    kind.applyDefaults(object);
    expect(object.spec).toEqual({
      parentRefs: [{ group: "", kind: "Service", name: "a" }],
      rules: [
        {
          matches: [{ path: { type: "PathPrefix", value: "/" } }],
          backendRefs: [{ group: "", kind: "Service", name: "a", port: 80, weight: 1 }],
        },
      ],
    });
    const once = JSON.stringify(object);
    kind.applyDefaults(object);
    expect(JSON.stringify(object)).toBe(once);
  });

  test("a service's targetPort is its port", () => {
    const object = parse(service("{ports: [{port: 80}]}")) as KubeObject;
    kindOf(object)!.applyDefaults(object);
    expect(object.spec).toEqual({ ports: [{ port: 80, protocol: "TCP", targetPort: 80 }], type: "ClusterIP", sessionAffinity: "None" });
  });
});

describe("the table of kinds", () => {
  test("has no name twice", () => {
    const resources = kinds.map(resourceOf);
    expect(new Set(resources).size).toBe(resources.length);
    // Istio's Gateway is typed with its group; without one Gateway API's is meant.
    const typed = kinds
      .filter((kind) => resourceOf(kind) !== "gateways.networking.istio.io")
      .flatMap((kind) => [...new Set([kind.plural, kind.singular, ...kind.shortNames])]);
    expect(kindByName("gateways")?.group).toBe("gateway.networking.k8s.io");
    expect(kindByName("gateways.networking.istio.io")?.group).toBe("networking.istio.io");
    expect(new Set(typed).size).toBe(typed.length);
  });

  test("is found by path, object, store key, and what users type", () => {
    expect(kindByPath("gateway.networking.k8s.io", "v1beta1", "httproutes")?.kind).toBe("HTTPRoute");
    expect(kindByPath("gateway.networking.k8s.io", "v2", "httproutes")).toBeUndefined();
    expect(kindByResource("workloadentries.networking.istio.io")?.kind).toBe("WorkloadEntry");
    for (const typed of ["svc", "Service", "services", "authorizationpolicies.security.istio.io", "we", "edges"])
      expect(kindByName(typed), typed).toBeDefined();
    expect(kindByName("pods")).toBeUndefined();
  });
});

describe("the tables know every field of the standard", () => {
  const known = (resource: string, path: string): ReadonlySet<string> => {
    const { definedBy } = kinds.find((kind) => resourceOf(kind) === resource)!;
    let at: { properties?: object } | undefined = { properties: definedBy.fields };
    for (const part of path === "" ? [] : path.split(".")) {
      const next: unknown = (at?.properties as Record<string, unknown> | undefined)?.[part.replace("[]", "")];
      at = (part.endsWith("[]") ? (next as { items?: object }).items : next) as { properties?: object };
    }
    const prefix = path === "" ? "" : `${path}.`;
    const refused = Object.keys(definedBy.unimplemented ?? {}).filter(
      (key) => key.startsWith(prefix) && !/[.=]/.test(key.slice(prefix.length)),
    );
    return new Set([...Object.keys(at?.properties ?? {}), ...refused.map((key) => key.slice(prefix.length))]);
  };
  const published = (model: { getAttributeTypeMap(): { baseName: string }[] }) =>
    model
      .getAttributeTypeMap()
      .map((each) => each.baseName)
      .filter((name) => !["apiVersion", "kind", "metadata"].includes(name));

  for (const [resource, path, model] of [
    ["services", "spec", V1ServiceSpec],
    ["services", "spec.ports[]", V1ServicePort],
    ["endpointslices.discovery.k8s.io", "", V1EndpointSlice],
    ["endpointslices.discovery.k8s.io", "endpoints[]", V1Endpoint],
    ["endpointslices.discovery.k8s.io", "endpoints[].conditions", V1EndpointConditions],
    ["endpointslices.discovery.k8s.io", "ports[]", DiscoveryV1EndpointPort],
  ] as const) {
    test(`${resource} ${path}`, () => expect(published(model).filter((name) => !known(resource, path).has(name))).toEqual([]));
  }

  test("metadata", () => {
    const metadata: Record<string, unknown> = { name: "x" };
    const samples: Record<string, unknown> = {
      annotations: {},
      labels: {},
      deletionGracePeriodSeconds: 1,
      generation: 1,
      finalizers: [],
      managedFields: [],
      ownerReferences: [],
    };
    for (const { baseName } of V1ObjectMeta.getAttributeTypeMap()) metadata[baseName] ??= samples[baseName] ?? "x";
    const object = { apiVersion: "v1", kind: "Service", metadata, spec: { ports: [{ port: 80 }] } } as unknown as KubeObject;
    expect(kindOf(object)!.validate(object)).toEqual([]);
  });

  for (const [what, script] of [
    ["src/api/schemas is what the packages publish", "generate-schemas.ts"],
    ["docs/reference/kinds.md is what the tables say", "generate-kind-docs.ts"],
  ] as const) {
    test(`${what} (else: bun scripts/${script})`, () => {
      const run = Bun.spawnSync([process.execPath, join(import.meta.dir, "../../scripts", script), "--check"]);
      expect(run.stderr.toString()).toBe("");
      expect(run.exitCode).toBe(0);
    });
  }
});
