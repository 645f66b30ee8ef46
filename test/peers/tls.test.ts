// TLS as openssl and curl see it: server names, versions, ALPN, sessions, PERMISSIVE; and Weft as a client of an HTTPS server with a private authority.

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { execute } from "../support/execute.ts";
import { findPeer, needsPeers } from "../support/peers.ts";
import { ProxyProcess } from "../support/proxy.ts";

const any = (type: string, value: object) => ({ "@type": `type.googleapis.com/envoy.${type}`, ...value });
const tlsContext = (side: "Upstream" | "Downstream", value: object) => ({
  name: "envoy.transport_sockets.tls",
  typed_config: any(`extensions.transport_sockets.tls.v3.${side}TlsContext`, value),
});
const local = (port: number) => ({ socket_address: { address: "127.0.0.1", port_value: port } });

describe.skipIf(!needsPeers("tls.test.ts", "openssl", "curl"))("TLS beside openssl and curl", () => {
  let dir: string;
  let proxy: ProxyProcess;
  let origin: ReturnType<typeof Bun.serve>;
  const file = (name: string) => join(dir, name);
  const openssl = findPeer("openssl") ?? "openssl";
  const curl = findPeer("curl") ?? "curl";

  async function must(...argv: readonly string[]): Promise<string> {
    const made = await execute([...argv]);
    if (made.code !== 0) throw new Error(`${argv.slice(0, 4).join(" ")}: ${made.err}`);
    return made.out;
  }

  /** A certificate by the test's own authority. */
  async function issue(name: string, ...names: readonly string[]): Promise<void> {
    await must(openssl, "ecparam", "-genkey", "-name", "prime256v1", "-noout", "-out", file(`${name}.key`));
    await must(openssl, "req", "-new", "-key", file(`${name}.key`), "-subj", `/CN=${name}`, "-out", file(`${name}.csr`));
    await Bun.write(file(`${name}.ext`), `subjectAltName=${names.join(",")}\n`);
    await must(
      ...[openssl, "x509", "-req", "-in", file(`${name}.csr`), "-CA", file("ca.pem"), "-CAkey", file("ca.key"), "-CAcreateserial"],
      ...["-days", "2", "-extfile", file(`${name}.ext`), "-out", file(`${name}.pem`)],
    );
  }

  const certificate = (name: string) => ({
    certificate_chain: { filename: file(`${name}.pem`) },
    private_key: { filename: file(`${name}.key`) },
  });

  function web(name: string, match: object, tls: object | null, cluster = "good") {
    return {
      name,
      filter_chain_match: match,
      ...(tls === null ? {} : { transport_socket: tlsContext("Downstream", tls) }),
      filters: [
        {
          name: "http",
          typed_config: any("extensions.filters.network.http_connection_manager.v3.HttpConnectionManager", {
            stat_prefix: name,
            route_config: {
              virtual_hosts: [
                {
                  name,
                  domains: ["*"],
                  routes: ["good", "wildcard", "wrong-name", "wrong-root"]
                    .map((to): object => ({ match: { prefix: `/${to}` }, route: { cluster: to } }))
                    .concat([{ match: { prefix: "/" }, route: { cluster } }]),
                },
              ],
            },
            http_filters: [{ name: "router", typed_config: any("extensions.filters.http.router.v3.Router", {}) }],
          }),
        },
      ],
    };
  }

  function upstream(name: string, roots: string, san: object) {
    return {
      name,
      type: "STATIC",
      load_assignment: { cluster_name: name, endpoints: [{ lb_endpoints: [{ endpoint: { address: local(Number(origin.port)) } }] }] },
      transport_socket: tlsContext("Upstream", {
        sni: "api.outside.example",
        common_tls_context: {
          validation_context: { trusted_ca: { filename: file(roots) }, match_typed_subject_alt_names: [{ san_type: "DNS", matcher: san }] },
        },
      }),
    };
  }

  beforeAll(async () => {
    dir = mkdtempSync(join(tmpdir(), "weft-tls-"));
    for (const name of ["ca", "stranger"]) {
      await must(openssl, "ecparam", "-genkey", "-name", "prime256v1", "-noout", "-out", file(`${name}.key`));
      await must(
        openssl,
        "req",
        "-x509",
        "-new",
        "-key",
        file(`${name}.key`),
        "-days",
        "2",
        "-subj",
        `/O=${name}`,
        "-out",
        file(`${name}.pem`),
      );
    }
    await issue("one", "DNS:one.example");
    await issue("two", "DNS:two.example");
    await issue("client", "URI:spiffe://cluster.local/ns/shop/sa/front");
    await issue("outside", "DNS:*.outside.example");
    origin = Bun.serve({
      hostname: "127.0.0.1",
      port: 0,
      tls: { cert: Bun.file(file("outside.pem")), key: Bun.file(file("outside.key")) },
      fetch: () => new Response("outside"),
    });
    const simple = (name: string) => ({ common_tls_context: { tls_certificates: [certificate(name)], alpn_protocols: ["http/1.1"] } });
    const mutual = {
      require_client_certificate: true,
      common_tls_context: {
        tls_params: { tls_minimum_protocol_version: "TLSv1_3" },
        tls_certificates: [certificate("one")],
        validation_context: { trusted_ca: { filename: file("ca.pem") } },
      },
    };
    const bootstrap = {
      node: { id: "tls" },
      admin: { address: local(0) },
      static_resources: {
        listeners: [
          {
            name: "names",
            address: local(0),
            filter_chains: [
              web("one", { server_names: ["one.example"] }, simple("one")),
              web("two", { server_names: ["two.example"] }, simple("two")),
            ],
          },
          {
            name: "permissive",
            address: local(0),
            filter_chains: [web("mtls", { transport_protocol: "tls" }, mutual), web("plain", { transport_protocol: "raw_buffer" }, null)],
          },
        ],
        clusters: [
          upstream("good", "ca.pem", { exact: "api.outside.example" }),
          upstream("wildcard", "ca.pem", { suffix: ".outside.example" }),
          upstream("wrong-name", "ca.pem", { exact: "api.elsewhere.example" }),
          upstream("wrong-root", "stranger.pem", { exact: "api.outside.example" }),
        ],
      },
    };
    proxy = await ProxyProcess.start("weft", JSON.stringify(bootstrap));
  }, 20_000);

  afterAll(async () => {
    await proxy?.stop();
    await origin?.stop(true);
    rmSync(dir, { recursive: true, force: true });
  });

  const client = async (port: number, ...args: readonly string[]): Promise<string> => {
    const made = await execute([openssl, "s_client", "-connect", `127.0.0.1:${port}`, "-CAfile", file("ca.pem"), ...args]);
    return made.out + made.err;
  };

  test("each server name has its certificate, and an unknown one gets none", async () => {
    const port = proxy.port("names");
    expect(await client(port, "-servername", "one.example")).toContain("subject=CN = one");
    expect(await client(port, "-servername", "two.example")).toContain("subject=CN = two");
    expect(await client(port, "-servername", "three.example")).toContain("no peer certificate available");
    expect(await client(port, "-noservername")).toContain("no peer certificate available");
  });

  test("versions and ALPN are agreed on as configured", async () => {
    const names = proxy.port("names");
    expect(await client(names, "-servername", "one.example", "-tls1_2")).toContain("New, TLSv1.2");
    expect(await client(names, "-servername", "one.example", "-alpn", "h3,http/1.1")).toContain("ALPN protocol: http/1.1");
    expect(await client(names, "-servername", "one.example", "-alpn", "smtp")).toContain("no application protocol");
    const strict = ["-cert", file("client.pem"), "-key", file("client.key")];
    expect(await client(proxy.port("permissive"), ...strict, "-tls1_2")).toContain("Cipher is (NONE)");
    expect(await client(proxy.port("permissive"), ...strict, "-tls1_3")).toContain("New, TLSv1.3");
  });

  test("openssl resumes a session", async () => {
    const who = ["-cert", file("client.pem"), "-key", file("client.key"), "-tls1_3", "-quiet", "-no_ign_eof"];
    const port = proxy.port("permissive");
    // TLS 1.3 sends its tickets after the handshake: the client has to stay for an answer.
    const first = Bun.spawn(
      [openssl, "s_client", "-connect", `127.0.0.1:${port}`, "-CAfile", file("ca.pem"), ...who, "-sess_out", file("session")],
      {
        stdin: "pipe",
        stdout: "pipe",
        stderr: "ignore",
      },
    );
    first.stdin.write("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    await first.stdin.flush();
    expect(await new Response(first.stdout).text()).toContain("outside");
    first.stdin.end();
    await first.exited;
    const again = await client(port, "-cert", file("client.pem"), "-key", file("client.key"), "-tls1_3", "-sess_in", file("session"));
    expect(again).toContain("Reused, TLSv1.3");
  });

  test("curl: one port for mutual TLS and plain text", async () => {
    const port = proxy.port("permissive");
    const ask = (...args: readonly string[]) =>
      execute([curl, "-sS", "-m", "5", "--cacert", file("ca.pem"), "--resolve", `one.example:${port}:127.0.0.1`, ...args]);
    expect((await ask(`http://127.0.0.1:${port}/good`)).out).toBe("outside");
    expect((await ask("--cert", file("client.pem"), "--key", file("client.key"), `https://one.example:${port}/good`)).out).toBe("outside");
    expect((await ask(`https://one.example:${port}/good`)).code).not.toBe(0);
    expect(await proxy.metrics()).toContain('weft_downstream_tls_refused_total{reason="no_certificate"} 1');
  });

  test("TLS to an outside host: its chain by the roots of a file, its name by the matcher", async () => {
    const ask = async (path: string) =>
      (await execute([curl, "-sS", "-m", "5", "-w", " %{http_code}", `http://127.0.0.1:${proxy.port("permissive")}${path}`])).out;
    expect(await ask("/good")).toBe("outside 200");
    // A suffix matcher reads the certificate's name as it is written: "*.outside.example".
    expect(await ask("/wildcard")).toBe("outside 200");
    expect(await ask("/wrong-name")).toEndWith(" 503");
    expect(await ask("/wrong-root")).toEndWith(" 503");
    const metrics = await proxy.metrics();
    expect(metrics).toMatch(/weft_upstream_tls_refused_total\{reason="wrong_identity"\} [1-9]/);
    expect(metrics).toMatch(/weft_upstream_tls_refused_total\{reason="unknown_authority"\} [1-9]/);
    expect(metrics).toMatch(new RegExp(`weft_certificate_expiry_timestamp_seconds\\{name="${file("one.pem")}"\\} \\d{10}`));
  });
});
