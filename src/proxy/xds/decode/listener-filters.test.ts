import { expect, test } from "bun:test";
import { decodeBootstrap } from "../../bootstrap/bootstrap.ts";
import type { ListenerConfig } from "../../config.ts";

const any = (type: string, value: object = {}) => ({ "@type": `type.googleapis.com/envoy.${type}`, ...value });
const filter = (name: string, value: object = {}) => ({
  name,
  typed_config: any(
    `extensions.filters.listener.${name}.v3.${name
      .split("_")
      .map((word) => word.charAt(0).toUpperCase() + word.slice(1))
      .join("")}`,
    value,
  ),
});
const tcp = [{ name: "t", typed_config: any("extensions.filters.network.tcp_proxy.v3.TcpProxy", { stat_prefix: "t", cluster: "c" }) }];

function decode(
  listener: object,
  files: Readonly<Record<string, string>> = {},
  clusters: readonly object[] = [],
): ListenerConfig | readonly string[] {
  const found = decodeBootstrap(
    {
      node: { id: "n" },
      static_resources: {
        listeners: [
          {
            name: "l",
            address: { socket_address: { address: "127.0.0.1", port_value: 1 } },
            filter_chains: [{ filters: tcp }],
            ...listener,
          },
        ],
        clusters: [{ name: "c", type: "STATIC", load_assignment: { cluster_name: "c", endpoints: [] } }, ...clusters],
      },
    },
    (path) => {
      const text = files[path];
      if (text === undefined) throw new Error("no such file");
      return Buffer.from(text);
    },
  );
  if ("violations" in found)
    return found.violations.map((one) => `${one.path.replace("static_resources.listeners[0].", "")}: ${one.message}`);
  return found.config.listeners.get("l") as ListenerConfig;
}

test("what stands before the chains", () => {
  expect(decode({})).toMatchObject({ inspectTls: false });
  expect((decode({}) as ListenerConfig).before).toBeUndefined();
  expect(
    decode({
      listener_filters: [
        filter("proxy_protocol", { allow_requests_without_proxy_protocol: true, disallowed_versions: ["V1"] }),
        filter("tls_inspector"),
        filter("http_inspector"),
      ],
      listener_filters_timeout: "3s",
      continue_on_listener_filters_timeout: true,
    }),
  ).toMatchObject({
    inspectTls: true,
    before: {
      proxyProtocol: { allowAbsent: true, versions: [2] },
      originalDestination: false,
      inspectHttp: true,
      timeoutMs: 3_000,
      continueOnTimeout: true,
    },
  });
  expect(decode({ listener_filters: [filter("original_dst"), filter("tls_inspector")] })).toMatchObject({
    before: { originalDestination: true, timeoutMs: 15_000, continueOnTimeout: false },
  });
});

test("what cannot be done is refused by name", () => {
  expect(decode({ listener_filters: [filter("tls_inspector"), filter("proxy_protocol")] })).toEqual([
    "listener_filters[1]: must stand before the inspectors: its header comes before what they look at",
  ]);
  expect(decode({ listener_filters: [filter("proxy_protocol"), filter("original_dst")] })).toEqual([
    "listener_filters: original_dst and proxy_protocol are not supported together: both say where the connection was meant to go",
  ]);
  expect(decode({ listener_filters: [filter("proxy_protocol", { disallowed_versions: ["V1", "V2"] })] })).toEqual([
    "listener_filters[0].typed_config.disallowed_versions: leaves no version to read",
  ]);
  expect((decode({ listener_filters: [filter("proxy_protocol", { rules: [{ tlv_type: 1 }] })] }) as string[]).join()).toContain("rules");
  expect((decode({ listener_filters: [filter("original_src")] }) as string[])[0]).toContain("is not a supported listener filter");
  expect((decode({ use_original_dst: true }) as string[]).join()).toContain("use_original_dst");
});

test("a chain's whole match", () => {
  const chains = (match: object) => ({ filter_chains: [{ filters: tcp, filter_chain_match: match }] });
  expect(
    (
      decode(
        chains({
          destination_port: 443,
          prefix_ranges: [{ address_prefix: "10.0.0.0", prefix_len: 8 }],
          server_names: ["Shop.Example", "*.api.example"],
          transport_protocol: "tls",
          application_protocols: ["h2"],
          source_type: "EXTERNAL",
          source_prefix_ranges: [{ address_prefix: "::1", prefix_len: 128 }],
          source_ports: [1, 2],
        }),
      ) as ListenerConfig
    ).chains[0]?.match,
  ).toEqual({
    transport: "tls",
    alpn: ["h2"],
    serverNames: ["shop.example", "*.api.example"],
    destinationPort: 443,
    destinationPrefixes: [{ prefix: "10.0.0.0", length: 8 }],
    sourceType: "external",
    sourcePrefixes: [{ prefix: "::1", length: 128 }],
    sourcePorts: [1, 2],
  });
  const at = "filter_chains[0].filter_chain_match";
  expect(
    decode(chains({ destination_port: 70_000, source_ports: [0], prefix_ranges: [{ address_prefix: "10.0.0.0", prefix_len: 33 }] })),
  ).toEqual([
    `${at}.destination_port: 70000 is not a port (1 to 65535)`,
    `${at}.source_ports[0]: 0 is not a port (1 to 65535)`,
    `${at}.prefix_ranges[0].prefix_len: 33 is too long for 10.0.0.0`,
  ]);
  expect((decode(chains({ direct_source_prefix_ranges: [{ address_prefix: "10.0.0.0" }] })) as string[]).join()).toContain(
    "direct_source_prefix_ranges",
  );
  expect(decode({ default_filter_chain: { filters: tcp, filter_chain_match: { destination_port: 1 } } })).toEqual([
    "default_filter_chain.filter_chain_match: has no meaning on a default chain",
  ]);
  expect(decode({ default_filter_chain: { name: "rest", filters: tcp } })).toMatchObject({
    chains: [{}, { name: "rest", fallback: true }],
  });
});

test("system roots: the distribution's bundle, unless others are named", () => {
  const upstream = (context: object) => [
    {
      name: "out",
      type: "STATIC",
      load_assignment: { cluster_name: "out", endpoints: [] },
      transport_socket: {
        name: "tls",
        typed_config: any("extensions.transport_sockets.tls.v3.UpstreamTlsContext", {
          sni: "api.example",
          common_tls_context: { validation_context: context },
        }),
      },
    },
  ];
  expect((decode({}, {}, upstream({ system_root_certs: {} })) as string[]).join()).toContain(
    "this host has no bundle of authorities; install ca-certificates",
  );
  expect((decode({}, { "/etc/ssl/cert.pem": "nonsense" }, upstream({ system_root_certs: {} })) as string[]).join()).toContain(
    "is not a certificate in PEM",
  );
});
