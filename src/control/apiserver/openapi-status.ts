// Owns: what `kubectl explain KIND.status` says: the fields of a status by kind, as the control plane writes them. Never validates: a status is taken from
// whoever may write one, with fields that are not here.

import type { KindDefinition } from "../../api/meta.ts";

type Json = Record<string, unknown>;

const text = (description: string): Json => ({ type: "string", description });
const whole = (description: string): Json => ({ type: "integer", format: "int64", description });
const number = (description: string): Json => ({ type: "number", description });
const yesNo = (description: string): Json => ({ type: "boolean", description });
const object = (description: string, properties: Json): Json => ({ type: "object", description, properties });
const list = (description: string, properties: Json): Json => ({ type: "array", description, items: { type: "object", properties } });

const reference = (of: string): Json => ({
  group: text(`Group of the ${of}.`),
  kind: text(`Kind of the ${of}.`),
  namespace: text(`Namespace of the ${of}.`),
  name: text(`Name of the ${of}.`),
  sectionName: text(`Part of the ${of} that is meant.`),
  port: whole(`Port of the ${of} that is meant.`),
});
const controllerName = text("Whose word it is; weft.dev/mesh is Weft's.");
const types = (description: string): Json =>
  object(description, { accepted: text("Version accepted."), sent: text("Version sent last."), resources: whole("How many there are.") });
const end = (description: string, more: Json = {}): Json =>
  object(description, {
    workload: text("Name of the workload."),
    namespace: text("Namespace of the workload."),
    app: text("Its label app."),
    version: text("Its label version."),
    ...more,
  });

/** `conditions` is the list of conditions, which stands in parts of some statuses and at the top of others. */
function fieldsOf(kind: string, conditions: Json): Json {
  switch (kind) {
    case "HTTPRoute":
    case "GRPCRoute":
    case "TLSRoute":
    case "TCPRoute":
    case "UDPRoute":
      return {
        parents: list("What each parent says of the route.", {
          parentRef: object("The parent.", reference("parent")),
          controllerName,
          conditions,
        }),
      };
    case "BackendTLSPolicy":
    case "RateLimitPolicy":
    case "OverloadPolicy":
    case "HedgingPolicy":
      return {
        ancestors: list("What each target says of the policy.", {
          ancestorRef: object("The target.", reference("target")),
          controllerName,
          conditions,
        }),
      };
    case "Gateway":
    case "ListenerSet":
    case "XListenerSet":
      return {
        conditions,
        ...(kind === "Gateway" && {
          addresses: list("Where processes serve it.", { type: text("IPAddress or Hostname."), value: text("The address.") }),
        }),
        listeners: list("What is said of each listener.", {
          name: text("Name of the listener."),
          attachedRoutes: whole("Routes that are attached to it."),
          supportedKinds: list("Kinds of routes that it takes.", { group: text("Group of the kind."), kind: text("The kind.") }),
          conditions,
        }),
      };
    case "Namespace":
      return { phase: text("Active or Terminating."), conditions };
    case "TrafficShift":
      return {
        phase: text("Shifting, Waiting, Paused, Succeeded, RolledBack or Stopped."),
        percent: whole("Share of the newer backend now, per cent."),
        startPercent: whole("Share of the newer backend at the beginning, per cent."),
        stepAt: text("When the last step was made, RFC 3339."),
        message: text("Why it is so."),
        baseline: object("What the older backend did while it had traffic enough.", {
          requests: whole("Requests."),
          failures: whole("Requests that failed."),
          slowMs: number("Slower than this counts as slow, milliseconds."),
          slow: whole("Requests that were slow."),
        }),
        steps: list("Each step.", {
          at: text("When, RFC 3339."),
          percent: whole("Share of the newer backend from then on."),
          message: text("What led to it."),
        }),
      };
    case "JoinToken":
      return { usedAt: text("When a certificate was got with it last, RFC 3339."), uses: whole("Certificates got with it.") };
    case "Mesh":
      return {
        version: text("Version of the control plane."),
        xdsAddress: text("Where proxies connect, HOST:PORT."),
        xdsAddresses: { type: "array", description: "The same of every control plane.", items: { type: "string" } },
        caBundle: text("Roots of the mesh, PEM."),
        dashboardUrl: text("Address of the dashboard."),
        startedAt: text("When the control plane was started, RFC 3339."),
      };
    case "Proxy":
      return {
        connected: yesNo("A stream to the control plane is open."),
        synced: yesNo("Every type is accepted in its newest version."),
        agent: text("Program and version."),
        identity: text("SPIFFE ID of its certificate."),
        address: text("Where the stream comes from."),
        connectedAt: text("When the stream was opened, RFC 3339."),
        mode: text("delta or sotw: how it is told of changes."),
        types: object("What it has of each type.", {
          cluster: types("Clusters."),
          endpoint: types("Endpoints of clusters."),
          listener: types("Listeners."),
          route: types("Route tables."),
        }),
        hosts: object("Virtual hosts that it has asked for one by one.", {
          asked: whole("How many it asked for."),
          held: whole("How many it has."),
        }),
        lastRejection: object("The last update that it refused.", {
          type: text("Type of the resource."),
          version: text("Version that was refused."),
          reason: text("Why, in the proxy's words."),
          at: text("When, RFC 3339."),
        }),
        quarantine: list("Resources that it refused, not offered again until they change.", {
          type: text("Type of the resource."),
          name: text("Name of the resource."),
          version: text("Version that was refused."),
          reason: text("Why, in the proxy's words."),
        }),
        notEnforced: list("What of the mesh's policies this kind of client cannot do.", {
          subject: text("The policy."),
          message: text("What it cannot do."),
          refused: yesNo("Calls concerned are refused; otherwise they go without it."),
        }),
        ejected: list("Instances that it has taken out of its balance.", {
          cluster: text("The cluster."),
          endpoint: text("Address of the instance."),
          workload: text("NAMESPACE/NAME of the instance, where it is known."),
          reason: text("What led to it."),
        }),
        openCircuits: list("Limits of clusters that refuse now.", { cluster: text("The cluster."), limit: text("The limit.") }),
        unknownTypes: { type: "array", description: "Types that it asked for and that are not served here.", items: { type: "string" } },
      };
    case "Edge":
      return {
        source: end("Who calls."),
        destination: end("Who is called.", { service: text("The Service.") }),
        protocol: text("http, grpc or tcp."),
        windowSeconds: whole("Over how long it was measured, seconds."),
        requestsPerSecond: number("Requests a second."),
        successRatio: number("Share of answers that are not 5xx and not cut short, 0 to 1."),
        p50Ms: number("Median latency, milliseconds."),
        p99Ms: number("99th percentile of latency, milliseconds."),
        bytesPerSecond: number("Of tcp: bytes a second both ways."),
        openConnections: whole("Of tcp: open connections."),
        mutualTls: yesNo("All of it was mutually authenticated and encrypted; null where every request was refused at its caller."),
      };
    default:
      return { conditions };
  }
}

/** The schema of a kind's status. */
export function statusSchema(kind: Pick<KindDefinition, "kind" | "group">, conditions: Json): Json {
  const name = kind.group === "networking.istio.io" && kind.kind === "Gateway" ? "" : kind.kind;
  return {
    type: "object",
    description: "Written by the control plane.",
    "x-kubernetes-preserve-unknown-fields": true,
    properties: fieldsOf(name, conditions),
  };
}
