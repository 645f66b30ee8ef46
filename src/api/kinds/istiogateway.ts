// Owns: networking.istio.io Gateway: ports that a gateway's processes open, and whose VirtualServices they take. What is not built is refused.

import { ageColumn, defineKind, dnsLabel } from "../define.ts";
import type { KubeObject, Violation } from "../meta.ts";
import { type Schema, show } from "../schema.ts";
import schema from "../schemas/istiogateway.json" with { type: "json" };
import { type Add, gather } from "./gateway-refs.ts";
import { type IstioGatewayObject, type IstioServer, serverProtocol, serverProtocols, splitHost } from "./istiogateway-spec.ts";
import { istioProxyConfig, mostTrustedProxies, trustedProxiesAnnotation, trustedProxiesRules } from "./trusted-proxies.ts";

export const istioGatewayKind = defineKind({
  group: "networking.istio.io",
  versions: ["v1", "v1beta1", "v1alpha3"],
  kind: "Gateway",
  plural: "gateways",
  categories: ["istio-io", "networking-istio-io"],
  namespaced: true,
  hasStatus: true,
  requiredFields: ["spec"],
  fields: { spec: schema as Schema },
  unimplemented: {
    "spec.servers[].bind": "weft gateway --address says where its process listens",
    "spec.servers[].defaultEndpoint": "name the service in a VirtualService",
    "spec.servers[].tls.httpsRedirect": "use a VirtualService with redirect.scheme: https, or an HTTPRoute with a RequestRedirect",
    "spec.servers[].tls.mode=MUTUAL": "use SIMPLE; a client's certificate is checked by sidecars alone",
    "spec.servers[].tls.mode=AUTO_PASSTHROUGH": "use PASSTHROUGH, and lead each name by tls of a VirtualService",
    "spec.servers[].tls.mode=ISTIO_MUTUAL": "sidecars of the mesh dial services, not gateways",
    "spec.servers[].tls.caCertificates": "a client's certificate is checked by sidecars alone",
    "spec.servers[].tls.subjectAltNames": "a client's certificate is checked by sidecars alone",
    "spec.servers[].tls.verifyCertificateSpki": "a client's certificate is checked by sidecars alone",
    "spec.servers[].tls.verifyCertificateHash": "a client's certificate is checked by sidecars alone",
    "spec.servers[].tls.cipherSuites": "TLS 1.2 and 1.3 are offered with BoringSSL's suites",
    "spec.servers[].tls.minProtocolVersion": "TLS 1.2 and 1.3 are offered",
    "spec.servers[].tls.maxProtocolVersion": "TLS 1.2 and 1.3 are offered",
  },
  notes: [
    "Opened by the processes of `weft gateway NAME`, as a Gateway of Gateway API is; where both have a name, that one is opened. `selector` must be left out or be `app: NAME`, the label of these processes.",
    "Each host of each server is a listener. `NAMESPACE/HOST` takes VirtualServices of that namespace alone (`.`: of its own); they name the Gateway in `gateways`. Routes of Gateway API may name it as a parent too.",
    `The annotation \`${trustedProxiesAnnotation}: "1"\` says how many proxies stand before it (0 to ${mostTrustedProxies}; also Istio's \`${istioProxyConfig}\` with gatewayTopology.numTrustedProxies alone): the client is then whom the first of them has written into \`x-forwarded-for\`, for policies, limits, keys and logs, and its \`x-forwarded-proto\` is kept.`,
    "`tls.mode: SIMPLE` with `credentialName`, a Secret of type kubernetes.io/tls in its namespace, or with `serverCertificate` and `privateKey`, files beside the process; `PASSTHROUGH` decrypts nothing.",
  ],
  rules: istioGatewayRules,
  columns: [ageColumn],
});

function istioGatewayRules(object: KubeObject): Violation[] {
  const { metadata, spec = {} } = object as IstioGatewayObject;
  return gather((add) => {
    for (const { path, message } of trustedProxiesRules(object)) add(path, message);
    const selector = Object.entries(spec.selector ?? {});
    if (selector.some(([key, value]) => key !== "app" || value !== metadata.name))
      add("spec.selector", `must be left out or be {app: ${metadata.name}}: the processes of weft gateway ${metadata.name} open it`);
    if ((spec.servers ?? []).length === 0) add("spec.servers", "must have at least one server");
    for (const [n, server] of (spec.servers ?? []).entries()) serverRules(server, `spec.servers[${n}]`, add);
    const names = (spec.servers ?? []).map(({ name, port }) => name ?? port?.name);
    for (const [n, name] of names.entries())
      if (name !== undefined && names.indexOf(name) !== n)
        add(`spec.servers[${n}].port.name`, `${show(name)} is the name of spec.servers[${names.indexOf(name)}]`);
  });
}

function serverRules({ port, hosts = [], tls }: IstioServer, path: string, add: Add): void {
  const number = port?.number;
  if (number === undefined) add(`${path}.port.number`, "is required");
  else if (number < 1 || number > 65_535) add(`${path}.port.number`, `must be from 1 to 65535, got ${number}`);
  const protocol = serverProtocol(port?.protocol);
  if (protocol === undefined) add(`${path}.port.protocol`, `must be one of ${serverProtocols.join(", ")}, got ${show(port?.protocol)}`);
  if (hosts.length === 0) add(`${path}.hosts`, "must name at least one host");
  for (const [at, text] of hosts.entries()) {
    const { namespace, host } = splitHost(text);
    if (namespace !== "*" && namespace !== "." && !dnsLabel.test(namespace))
      add(`${path}.hosts[${at}]`, `${show(text)}: the namespace must be a name, * or .`);
    const name = host.startsWith("*.") ? host.slice(2) : host;
    if (host !== "*" && !/^[a-z0-9_]([-a-z0-9_.]*[a-z0-9])?$/.test(name))
      add(`${path}.hosts[${at}]`, `${show(host)} must be a DNS name, *. and a DNS name, or *`);
    if (protocol === "TCP" && host !== "*") add(`${path}.hosts[${at}]`, `${show(host)} cannot be told on a port of opaque bytes; write *`);
  }
  if (protocol === "TCP" && hosts.length > 1) add(`${path}.hosts[1]`, "a port of opaque bytes has one host: *");
  tlsRules(protocol === "HTTPS" || protocol === "TLS", tls, `${path}.tls`, add);
}

function tlsRules(secure: boolean, tls: IstioServer["tls"], path: string, add: Add): void {
  if (!secure) {
    if (tls !== undefined) add(path, "needs protocol HTTPS or TLS");
    return;
  }
  if (tls?.mode === undefined) {
    add(`${path}.mode`, "is required: SIMPLE, or PASSTHROUGH");
    return;
  }
  const { credentialName, serverCertificate, privateKey } = tls;
  const files = serverCertificate !== undefined || privateKey !== undefined;
  if (tls.mode === "PASSTHROUGH") {
    if (credentialName !== undefined || files) add(path, "PASSTHROUGH decrypts nothing, and takes no certificate");
  } else if (credentialName !== undefined && files) add(path, "credentialName and files exclude each other");
  else if (credentialName === undefined && (serverCertificate === undefined || privateKey === undefined))
    add(path, "SIMPLE needs credentialName, or serverCertificate and privateKey");
}
