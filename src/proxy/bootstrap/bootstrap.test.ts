import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createTestAuthority, type TestAuthority } from "../xds/testing.ts";
import { decodeBootstrap, loadBootstrap } from "./bootstrap.ts";
import { BootstrapError } from "./read.ts";

type Json = Record<string, unknown>;

const typeUrl = (name: string): string => `type.googleapis.com/${name}`;
const router = { name: "router", typed_config: { "@type": typeUrl("envoy.extensions.filters.http.router.v3.Router") } };

/** A file that is fine; each case changes one thing in it. */
function good(): { manager: Json; route: Json; chain: Json; listener: Json; cluster: Json; endpoint: Json; file: Json } {
  const route: Json = { match: { prefix: "/" }, route: { cluster: "app" } };
  const manager: Json = {
    "@type": typeUrl("envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"),
    stat_prefix: "hop",
    route_config: { name: "r", virtual_hosts: [{ name: "all", domains: ["*"], routes: [route] }] },
    http_filters: [router],
  };
  const chain: Json = { filters: [{ name: "http", typed_config: manager }] };
  const listener: Json = { name: "hop", address: { socket_address: { address: "127.0.0.1", port_value: 8080 } }, filter_chains: [chain] };
  const endpoint: Json = { endpoint: { address: { socket_address: { address: "127.0.0.1", port_value: 8081 } } } };
  const cluster: Json = {
    name: "app",
    type: "STATIC",
    load_assignment: { cluster_name: "app", endpoints: [{ lb_endpoints: [endpoint] }] },
  };
  return { route, manager, chain, listener, endpoint, cluster, file: { static_resources: { listeners: [listener], clusters: [cluster] } } };
}

function problems(file: unknown): string[] {
  const found = decodeBootstrap(file, () => {
    throw new Error("no such file");
  });
  return "violations" in found ? found.violations.map((v) => `${v.path}: ${v.message}`) : [];
}

const hcm = "static_resources.listeners[0].filter_chains[0].filters[0].typed_config";
const firstRoute = `${hcm}.route_config.virtual_hosts[0].routes[0]`;
const firstCluster = "static_resources.clusters[0]";
const h2 = {
  typed_extension_protocol_options: {
    "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
      "@type": typeUrl("envoy.extensions.upstreams.http.v3.HttpProtocolOptions"),
      explicit_http_config: { http2_protocol_options: {} },
    },
  },
};
const adsConfig = (apiType = "GRPC", cluster = "xds") => ({
  api_type: apiType,
  transport_api_version: "V3",
  grpc_services: [{ envoy_grpc: { cluster_name: cluster } }],
});

test("the plain file is taken", () => {
  expect(problems(good().file)).toEqual([]);
});

describe("each thing that is refused, with its path", () => {
  const cases: Record<string, { change: (g: ReturnType<typeof good>) => void; wanted: (string | RegExp)[] }> = {
    "unknown top-level field": {
      change: (g) => (g.file.layered_runtime = {}),
      wanted: [/^layered_runtime: is not supported; envoy.config.bootstrap.v3.Bootstrap has here: admin, /],
    },
    "unknown field deep inside": {
      change: (g) => (g.manager.foo = 1),
      wanted: [new RegExp(`^${hcm.replaceAll(/[[\].]/g, "\\$&")}\\.foo: is not supported`)],
    },
    "HTTP/3 downstream": {
      change: (g) => (g.manager.codec_type = "HTTP3"),
      wanted: [`${hcm}.codec_type: HTTP3 is not supported (this version speaks HTTP/1.1 and HTTP/2); supported: AUTO, HTTP1, HTTP2`],
    },
    "no router": {
      change: (g) => (g.manager.http_filters = []),
      wanted: [`${hcm}.http_filters: must end in envoy.extensions.filters.http.router.v3.Router`],
    },
    "a filter after the router": {
      change: (g) =>
        (g.manager.http_filters = [
          router,
          { name: "x", typed_config: { "@type": typeUrl("envoy.extensions.filters.http.rbac.v3.RBAC") } },
        ]),
      wanted: [`${hcm}.http_filters[0]: the router must be the last filter`],
    },
    "an unknown HTTP filter": {
      change: (g) =>
        (g.manager.http_filters = [
          { name: "lua", typed_config: { "@type": typeUrl("envoy.extensions.filters.http.lua.v3.Lua"), inline_code: "x" } },
          router,
        ]),
      wanted: [
        /http_filters\[0\]\.typed_config: envoy.extensions.filters.http.lua.v3.Lua is not a supported HTTP filter \(name "lua"\); known types: .*RBAC, .*Cors, .*HTTPFault, .*LocalRateLimit, .*Router$/,
      ],
    },
    "an unknown network filter": {
      change: (g) =>
        (g.chain.filters = [
          { name: "mysql", typed_config: { "@type": typeUrl("envoy.extensions.filters.network.mysql_proxy.v3.MySQLProxy") } },
        ]),
      wanted: [
        /filters\[0\]\.typed_config: envoy.extensions.filters.network.mysql_proxy.v3.MySQLProxy is not a supported network filter \(name "mysql"\); known types: .*HttpConnectionManager, .*TcpProxy, .*RBAC$/,
      ],
    },
    "a filter without a config": {
      change: (g) => (g.chain.filters = [{ name: "x" }]),
      wanted: [/filters\[0\]\.typed_config: is missing \(network filter "x"\)/],
    },
    "no filter": {
      change: (g) => (g.chain.filters = []),
      wanted: ["static_resources.listeners[0].filter_chains[0].filters: must end in a terminal filter: HttpConnectionManager or TcpProxy"],
    },
    "no chain": {
      change: (g) => (g.listener.filter_chains = []),
      wanted: ["static_resources.listeners[0].filter_chains: needs at least one"],
    },
    "a name for an address": {
      change: (g) => (g.listener.address = { socket_address: { address: "localhost", port_value: 1 } }),
      wanted: ['static_resources.listeners[0].address.socket_address.address: "localhost" is not an IP address'],
    },
    "a port too high": {
      change: (g) => (g.listener.address = { socket_address: { address: "::", port_value: 65536 } }),
      wanted: [/port_value: 65536 is not a port/],
    },
    UDP: {
      change: (g) => (g.listener.address = { socket_address: { address: "::", port_value: 1, protocol: "UDP" } }),
      wanted: [
        /filter_chains: are for connections; a UDP listener has listener_filters only/,
        /listener_filters: must end in a UdpProxyConfig on a UDP address/,
      ],
    },
    "the same listener twice": {
      change: (g) => ((g.file.static_resources as Json).listeners = [g.listener, g.listener]),
      wanted: ['static_resources.listeners[1].name: "hop" is used twice'],
    },
    "a cluster that is not there": {
      change: (g) => (g.route.route = { cluster: "nope" }),
      wanted: ['static_resources.listeners[0]: refers to cluster "nope", which is not in static_resources.clusters'],
    },
    "no weights": {
      change: (g) => (g.route.route = { weighted_clusters: { clusters: [{ name: "app", weight: 0 }] } }),
      wanted: [`${firstRoute}.route.weighted_clusters.clusters: needs a weight above 0`],
    },
    "an unknown retry condition": {
      change: (g) => (g.route.route = { cluster: "app", retry_policy: { retry_on: "reset,sometimes" } }),
      wanted: [/route\.retry_policy\.retry_on: "sometimes" is not supported; supported: .*connect-failure.*reset.*retriable-status-codes/],
    },
    "a bad regular expression": {
      change: (g) => (g.route.match = { safe_regex: { regex: "a(?=b)" } }),
      wanted: [/match\.safe_regex\.regex: "a\(\?=b\)" is not a regular expression in RE2 syntax/],
    },
    "no matcher": {
      change: (g) => (g.route.match = {}),
      wanted: [`${firstRoute}.match: needs one of prefix, path, path_separated_prefix, safe_regex, connect_matcher`],
    },
    "no action": { change: (g) => delete g.route.route, wanted: [`${firstRoute}: needs one of route, redirect, direct_response`] },
    "CONNECT passed on": {
      change: (g) => (g.route.match = { connect_matcher: {} }),
      wanted: [
        `${firstRoute}.route.upgrade_configs: a CONNECT is terminated here or refused: add upgrade_type CONNECT with connect_config: {}`,
      ],
    },
    "editing the host": {
      change: (g) => (g.route.request_headers_to_add = [{ header: { key: "Host", value: "x" } }]),
      wanted: [`${firstRoute}.request_headers_to_add[0].header.key: "host" belongs to the proxy and cannot be edited`],
    },
    "header commands": {
      change: (g) => (g.route.response_headers_to_add = [{ header: { key: "x", value: "%FILTER_STATE(a)%" } }]),
      wanted: [/response_headers_to_add\[0\]\.header\.value: .*FILTER_STATE/],
    },
    "header splitting": {
      change: (g) => (g.route.response_headers_to_add = [{ header: { key: "x", value: "a\r\nb" } }]),
      wanted: [/header\.value: must not contain control characters/],
    },
    "two owners of a domain": {
      change: (g) =>
        (g.manager.route_config = {
          virtual_hosts: [
            { name: "a", domains: ["x", "Y"], routes: [g.route] },
            { name: "b", domains: ["y"], routes: [g.route] },
          ],
        }),
      wanted: [`${hcm}.route_config.virtual_hosts[1].domains[0]: "y" belongs to virtual host "a" already`],
    },
    "a status of 1000": {
      change: (g) => Object.assign(g.route, { route: undefined, direct_response: { status: 1000 } }),
      wanted: [`${firstRoute}.direct_response.status: 1000 is not from 200 to 599`],
    },
    "RDS without a control plane": {
      change: (g) => Object.assign(g.manager, { route_config: undefined, rds: { route_config_name: "r", config_source: { ads: {} } } }),
      wanted: ["static_resources.listeners[0]: uses rds, but the file has no dynamic_resources.ads_config"],
    },
    "RDS from elsewhere": {
      change: (g) =>
        Object.assign(g.manager, {
          route_config: undefined,
          rds: { route_config_name: "r", config_source: { api_config_source: adsConfig() } },
        }),
      wanted: [`${hcm}.rds.config_source.api_config_source: is not supported; use ads: {}`, /uses rds/],
    },
    "a balancer we lack": {
      change: (g) => (g.cluster.lb_policy = "CLUSTER_PROVIDED"),
      wanted: [/lb_policy: CLUSTER_PROVIDED is not supported; supported: ROUND_ROBIN, LEAST_REQUEST, .*RING_HASH.*MAGLEV/],
    },
    "a discovery we lack": {
      change: (g) => (g.cluster.type = "ORIGINAL_DST"),
      wanted: [`${firstCluster}.type: ORIGINAL_DST is not supported; supported: STATIC, STRICT_DNS, EDS`],
    },
    "EDS without a control plane": {
      change: (g) => Object.assign(g.cluster, { type: "EDS", load_assignment: undefined, eds_cluster_config: { eds_config: { ads: {} } } }),
      wanted: [`${firstCluster}: is of type EDS, but the file has no dynamic_resources.ads_config`],
    },
    "h2 in ALPN of an upstream": {
      change: (g) =>
        (g.cluster.transport_socket = {
          name: "tls",
          typed_config: {
            "@type": typeUrl("envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext"),
            common_tls_context: { alpn_protocols: ["h2"] },
          },
        }),
      wanted: [/alpn_protocols: "h2" is offered, but the cluster speaks HTTP\/1.1 only/],
    },
    "names without roots": {
      change: (g) =>
        (g.cluster.transport_socket = {
          name: "tls",
          typed_config: {
            "@type": typeUrl("envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext"),
            common_tls_context: { validation_context: { match_typed_subject_alt_names: [{ san_type: "URI", matcher: { exact: "x" } }] } },
          },
        }),
      wanted: [/trusted_ca: is missing: names in certificates prove nothing without roots/],
    },
    "somebody else's SDS secret": {
      change: (g) =>
        (g.cluster.transport_socket = {
          name: "tls",
          typed_config: {
            "@type": typeUrl("envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext"),
            common_tls_context: { tls_certificate_sds_secret_configs: [{ name: "other", sds_config: { ads: {} } }] },
          },
        }),
      wanted: [/name: "other" is not a secret of this proxy; it serves "default" here/],
    },
    "old TLS": {
      change: (g) =>
        (g.cluster.transport_socket = {
          name: "tls",
          typed_config: {
            "@type": typeUrl("envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext"),
            common_tls_context: { tls_params: { tls_minimum_protocol_version: "TLSv1_1" } },
          },
        }),
      wanted: [/tls_minimum_protocol_version: TLSv1_1 is not supported; supported: TLS_AUTO, TLSv1_2, TLSv1_3/],
    },
    "a file that is not there": {
      change: (g) =>
        (g.chain.transport_socket = {
          name: "tls",
          typed_config: {
            "@type": typeUrl("envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext"),
            common_tls_context: {
              tls_certificates: [{ certificate_chain: { filename: "/nope.crt" }, private_key: { filename: "/nope.key" } }],
            },
          },
        }),
      wanted: [/certificate_chain\.filename: cannot read \/nope\.crt: no such file/, /private_key\.filename: cannot read \/nope\.key/],
    },
    "an unknown log operator": {
      change: (g) =>
        (g.manager.access_log = [
          {
            name: "file",
            typed_config: {
              "@type": typeUrl("envoy.extensions.access_loggers.file.v3.FileAccessLog"),
              path: "/dev/stdout",
              log_format: { json_format: { a: "%NOPE%", b: "%REQ(COOKIE)%", c: "%PROTOCOL%" } },
            },
          },
        ]),
      wanted: [
        /json_format\["a"\]: %NOPE% is not supported; supported: REQ\(\.\.\.\), START_TIME/,
        /json_format\["b"\]: %REQ\(COOKIE\)%: only these request headers/,
      ],
    },
    "a text log": {
      change: (g) =>
        (g.manager.access_log = [
          { name: "file", typed_config: { "@type": typeUrl("envoy.extensions.access_loggers.file.v3.FileAccessLog"), path: "x" } },
        ]),
      wanted: [/log_format\.json_format: is missing/],
    },
    "REST for ADS": {
      change: (g) => {
        (g.file.static_resources as Json).clusters = [g.cluster, { ...g.cluster, name: "xds", ...h2 }];
        Object.assign(g.file, { node: { id: "n" }, dynamic_resources: { ads_config: adsConfig("REST"), lds_config: { ads: {} } } });
      },
      wanted: ["dynamic_resources.ads_config.api_type: REST is not supported; supported: GRPC, DELTA_GRPC"],
    },
    "ADS to nowhere, without a node": {
      change: (g) => Object.assign(g.file, { dynamic_resources: { ads_config: adsConfig("GRPC", "gone"), cds_config: { ads: {} } } }),
      wanted: [
        'dynamic_resources.ads_config.grpc_services[0].envoy_grpc.cluster_name: "gone" is no cluster of static_resources',
        "node.id: is missing; the control plane knows a proxy by it",
      ],
    },
    "several at once": {
      change: (g) => {
        g.cluster.lb_policy = "CLUSTER_PROVIDED";
        g.manager.codec_type = "HTTP3";
        g.file.nope = 1;
      },
      wanted: [/^nope: /, /lb_policy: CLUSTER_PROVIDED/, /codec_type: HTTP3/],
    },
  };
  for (const [name, one] of Object.entries(cases)) {
    test(name, () => {
      const g = good();
      one.change(g);
      const found = problems(JSON.parse(JSON.stringify(g.file)));
      expect(found.length, found.join("\n")).toBe(one.wanted.length);
      for (const [n, wanted] of one.wanted.entries()) {
        if (typeof wanted === "string") expect(found[n]).toBe(wanted);
        else expect(found[n]).toMatch(wanted);
      }
    });
  }
});

describe("files", () => {
  let folder: string;
  let authority: TestAuthority;
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), "weft-bootstrap-"));
    authority = createTestAuthority();
  });
  afterAll(() => {
    rmSync(folder, { recursive: true });
    authority.close();
  });
  const write = (name: string, text: string): string => {
    const path = join(folder, name);
    writeFileSync(path, text);
    return path;
  };
  const refused = async (path: string): Promise<string> => {
    try {
      await loadBootstrap(path);
    } catch (error) {
      expect(error).toBeInstanceOf(BootstrapError);
      return (error as Error).message;
    }
    throw new Error("it was taken");
  };

  test("JSON and YAML say the same", async () => {
    const json = await loadBootstrap(write("a.json", JSON.stringify(good().file)));
    const { stringify } = await import("yaml");
    const yaml = await loadBootstrap(write("a.yaml", stringify(good().file)));
    expect(yaml).toEqual(json);
    expect(json.clusters.get("app")).toMatchObject({ connectTimeoutMs: 5000, balance: { kind: "round_robin" } });
  });

  test("missing and malformed files", async () => {
    expect(await refused(join(folder, "none.json"))).toContain("cannot read the bootstrap file");
    expect(await refused(write("b.json", "{,}"))).toMatch(/b\.json is not valid JSON/);
    expect(await refused(write("b.yaml", "a: [1\nb: 2"))).toMatch(/b\.yaml is not valid YAML: .*line 2/);
    expect(await refused(write("c.yaml", "node: {}\nnode: {}"))).toMatch(/not valid YAML.*unique/i);
    expect(await refused(write("d.yaml", "just text"))).toContain("must be an object");
    expect(await refused(write("e.json", '{"a":1,"b":2}'))).toMatch(/e\.json: a: is not supported[^\n]*\n.*e\.json: b: is not supported/);
  });

  test("certificates are read and checked, and keys are not quoted", async () => {
    const one = authority.issue("URI:spiffe://a/ns/b/sa/c");
    const two = authority.issue("URI:spiffe://a/ns/b/sa/c");
    const tls = (cert: string, key: string, ca: string): string => {
      const g = good();
      g.chain.transport_socket = {
        name: "tls",
        typed_config: {
          "@type": typeUrl("envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext"),
          require_client_certificate: true,
          common_tls_context: {
            tls_certificates: [{ certificate_chain: { filename: cert }, private_key: { filename: key } }],
            validation_context: { trusted_ca: { filename: ca } },
          },
        },
      };
      return write("tls.json", JSON.stringify(g.file));
    };
    const [cert, key, other, ca] = [
      write("c.pem", one.cert),
      write("k.pem", one.key),
      write("o.pem", two.key),
      write("ca.pem", authority.caPem),
    ];
    const taken = await loadBootstrap(tls(cert, key, ca));
    expect(taken.listeners.get("hop")?.chains[0]?.tls).toMatchObject({
      requireClientCertificate: true,
      minVersion: "TLSv1.2",
      certificate: { kind: "pem" },
    });
    expect(await refused(tls(cert, other, ca))).toContain("private_key: does not belong to the certificate");
    expect(await refused(tls(key, key, ca))).toContain("certificate_chain: is not a certificate in PEM");
    const bad = await refused(tls(cert, ca, key));
    expect(bad).toContain("private_key: is not an unencrypted private key in PEM");
    expect(bad).toContain("trusted_ca: is not a certificate in PEM");
    expect(bad).not.toContain("BEGIN");
  });

  test("a sidecar's file: ADS, metrics, node, admin, static secrets", () => {
    const cluster = { ...good().cluster, name: "xds-grpc", load_assignment: good().cluster.load_assignment, ...h2 };
    const file = {
      node: {
        id: "sidecar~shop~cart",
        cluster: "cart.shop",
        metadata: {
          NAMESPACE: "shop",
          WORKLOAD_NAME: "cart-1",
          SERVICE_ACCOUNT: "cart",
          LABELS: { app: "cart", version: "v1" },
          MESH_ID: "mesh.example",
        },
      },
      admin: { address: { socket_address: { address: "127.0.0.1", port_value: 0 } } },
      static_resources: {
        clusters: [cluster],
        secrets: [{ name: "ca", validation_context: { trusted_ca: { inline_string: authority.caPem } } }],
      },
      dynamic_resources: {
        ads_config: { ...adsConfig("DELTA_GRPC", "xds-grpc"), set_node_on_first_message_only: true },
        lds_config: { ads: {}, resource_api_version: "V3" },
        cds_config: { ads: {} },
      },
      stats_flush_interval: "2.5s",
      stats_sinks: [
        {
          name: "envoy.stat_sinks.metrics_service",
          typed_config: {
            "@type": typeUrl("envoy.config.metrics.v3.MetricsServiceConfig"),
            transport_api_version: "V3",
            grpc_service: { envoy_grpc: { cluster_name: "xds-grpc" } },
          },
        },
      ],
    };
    const found = decodeBootstrap(JSON.parse(JSON.stringify(file)), () => new Uint8Array(0));
    if ("violations" in found) throw new Error(JSON.stringify(found.violations));
    expect(found.config.local).toEqual({
      nodeId: "sidecar~shop~cart",
      workload: "cart-1",
      namespace: "shop",
      serviceAccount: "cart",
      cluster: "cart.shop",
      app: "cart",
      version: "v1",
      trustDomain: "mesh.example",
    });
    expect(found.config.ads).toEqual({
      delta: true,
      target: { cluster: "xds-grpc", authority: "", metadata: [] },
      listeners: true,
      clusters: true,
    });
    expect(found.config.metricsService?.cluster).toBe("xds-grpc");
    expect(found.config.flushIntervalMs).toBe(2500);
    expect(found.config.clusters.get("xds-grpc")?.control).toBe(true);
    expect(found.config.admin).toEqual({ host: "127.0.0.1", port: 0 });
  });
});
