// Judge: nginx outside the mesh, with an authority of its own and for one host a client certificate demanded. Through a sidecar of ours, and through
// an Envoy, an application reaches it by http://; what both present and believe comes from Secrets. Whoever is not given the key reaches nobody.

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { execute } from "../support/execute.ts";
import { findPeer, needsPeers } from "../support/peers.ts";
import { freePort, Mesh, until } from "./xds-setup.ts";

const hosts = { simple: "api.private.example", mutual: "bank.private.example" } as const;

describe.skipIf(!needsPeers("tls-origination.test.ts", "envoy", "nginx", "openssl", "curl"))("TLS begun by sidecars", () => {
  let mesh: Mesh;
  let nginx: Bun.Subprocess | undefined;
  const envoyProxy = freePort();
  let weftProxy = "";
  const at = (...words: string[]) => join(mesh.dir, "outside", ...words);
  const pem = (name: string) => readFileSync(at(name), "utf8");

  async function openssl(...words: string[]): Promise<void> {
    const { code, err } = await execute([findPeer("openssl") as string, ...words]);
    if (code !== 0) throw new Error(err);
  }

  async function authority(name: string): Promise<void> {
    const kind = ["-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"];
    await openssl("req", ...kind, "-subj", `/CN=${name}`, "-keyout", at(`${name}.key`), "-out", at(`${name}.crt`));
  }

  async function certificate(name: string, names: string): Promise<void> {
    const kind = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj", `/CN=${name}`];
    await openssl("req", ...kind, "-keyout", at(`${name}.key`), "-out", at(`${name}.csr`));
    writeFileSync(at("names"), names);
    const by = ["-CA", at("authority.crt"), "-CAkey", at("authority.key"), "-CAcreateserial", "-days", "2"];
    await openssl("x509", "-req", "-in", at(`${name}.csr`), ...by, "-extfile", at("names"), "-out", at(`${name}.crt`));
  }

  /** Writes a Secret of shop, whether or not it is there; the answer's status. */
  const secret = async (name: string, data: Record<string, string>): Promise<string> => {
    const type = "tls.crt" in data ? "kubernetes.io/tls" : "Opaque";
    const object = { apiVersion: "v1", kind: "Secret", metadata: { name, namespace: "shop" }, type, stringData: data };
    writeFileSync(at("secret.json"), JSON.stringify(object));
    const { code, err } = await mesh.cli("apply", "-f", at("secret.json"));
    return code === 0 ? "" : err;
  };

  beforeAll(async () => {
    mesh = await Mesh.start();
    mkdirSync(at());
    for (const name of ["authority", "stranger"]) await authority(name);
    await certificate("server", `subjectAltName=DNS:${hosts.simple},DNS:${hosts.mutual}`);
    await certificate("shop-client", "extendedKeyUsage=clientAuth");
    const [simple, mutual] = [freePort(), freePort()];
    const server = (port: number, more: string) =>
      `server { listen 127.0.0.1:${port} ssl; ssl_certificate server.crt; ssl_certificate_key server.key; ${more} location / { return 200 "$ssl_server_name $ssl_client_s_dn\\n"; } }`;
    writeFileSync(
      at("nginx.conf"),
      `daemon off; pid nginx.pid; error_log stderr crit; events {} http { access_log access.log; ${["client_body", "proxy", "fastcgi", "uwsgi", "scgi"].map((each) => `${each}_temp_path ${each};`).join(" ")} ${server(simple, "")} ${server(mutual, "ssl_client_certificate authority.crt; ssl_verify_client on;")} }`,
    );
    nginx = Bun.spawn([findPeer("nginx") as string, "-p", at(), "-c", at("nginx.conf")], {
      stdout: "ignore",
      stderr: Bun.file(at("nginx.log")),
    });
    for (const [name, port] of [
      ["simple", simple],
      ["mutual", mutual],
    ] as const) {
      await mesh.create("serviceentries", "networking.istio.io/v1", "ServiceEntry", name, {
        hosts: [hosts[name]],
        resolution: "STATIC",
        endpoints: [{ address: "127.0.0.1" }],
        ports: [{ number: 80, name: "http", protocol: "HTTP", targetPort: port }],
      });
      await mesh.create("destinationrules", "networking.istio.io/v1", "DestinationRule", name, {
        host: hosts[name],
        trafficPolicy: { tls: { mode: name.toUpperCase(), credentialName: name } },
      });
    }
    const folder = await mesh.agent("edge");
    await mesh.entry("edge-1", "edge", "edge", undefined, { "weft.dev/http-proxy-port": String(envoyProxy) });
    mesh.envoy(mesh.bootstrap("edge-1", "--envoy", "--dir", folder));
    mesh.weft(["run", "--service", "caller", "-n", "shop", "--", "sleep", "600"]);
    await until("the sidecar is registered", async () => {
      const { items } = JSON.parse(await mesh.text("/apis/networking.istio.io/v1/namespaces/shop/workloadentries")) as {
        items: { metadata: { labels?: { app?: string }; annotations?: Record<string, string> } }[];
      };
      const port = items.find(({ metadata }) => metadata.labels?.app === "caller")?.metadata.annotations?.["weft.dev/http-proxy-port"];
      if (port !== undefined) weftProxy = `http://127.0.0.1:${port}`;
      return port !== undefined;
    });
  }, 60_000);

  afterAll(async () => {
    nginx?.kill();
    await nginx?.exited;
    await mesh?.stop();
  }, 30_000);

  const proxies = { Weft: () => weftProxy, Envoy: () => `http://127.0.0.1:${envoyProxy}` } as const;
  const ask = async (by: keyof typeof proxies, host: string): Promise<string> => {
    const flags = ["-s", "--max-time", "5", "-w", "%{http_code}", "--proxy", proxies[by](), "--noproxy", ""];
    return (await execute([findPeer("curl") as string, ...flags, `http://${host}/`])).out;
  };
  /** Asks until the answer ends so; the answer. */
  const answer = (by: keyof typeof proxies, host: string, wanted: string): Promise<string> =>
    until(
      `${host} through ${by}: ${wanted}`,
      async () => {
        const out = await ask(by, host);
        return out.endsWith(wanted) ? out : undefined;
      },
      20_000,
    );
  const names = Object.keys(proxies) as (keyof typeof proxies)[];

  test("while there is no Secret nobody is called", async () => {
    for (const by of names) for (const host of Object.values(hosts)) await answer(by, host, "503");
  }, 60_000);

  test("a server with a private authority is reached by http://", async () => {
    expect(await secret("simple", { "ca.crt": pem("authority.crt") })).toBe("");
    for (const by of names) expect(await answer(by, hosts.simple, "200")).toBe(`${hosts.simple} \n200`);
  }, 60_000);

  test("a server that another authority vouches for is not believed, and believed again with the right one", async () => {
    expect(await secret("simple", { "ca.crt": pem("stranger.crt") })).toBe("");
    for (const by of names) await answer(by, hosts.simple, "503");
    expect(await secret("simple", { "ca.crt": pem("authority.crt") })).toBe("");
    for (const by of names) await answer(by, hosts.simple, "200");
  }, 60_000);

  test("MUTUAL presents the certificate of the Secret", async () => {
    const data = { "tls.crt": pem("shop-client.crt"), "tls.key": pem("shop-client.key"), "ca.crt": pem("authority.crt") };
    expect(await secret("mutual", data)).toBe("");
    for (const by of names) expect(await answer(by, hosts.mutual, "200")).toBe(`${hosts.mutual} CN=shop-client\n200`);
    // What is of no use is not taken, and what is there goes on serving.
    expect(await secret("mutual", { ...data, "tls.key": pem("server.key") })).toContain("tls.key is not the key of tls.crt");
    for (const by of names) expect(await ask(by, hosts.mutual)).toEndWith("200");
  }, 60_000);

  test("callers of another namespace are not given the key, and nobody is shown it", async () => {
    const words = ["--quiet", "--service", "teller", "-n", "bank", "--", "curl", "-s", "-w", "%{http_code}"];
    const teller = (host: string) => mesh.cli("run", ...words, "-o", "/dev/null", `http://${host}/`);
    expect((await teller(hosts.simple)).out).toBe("200");
    expect((await teller(hosts.mutual)).out).toBe("503");
    const { items } = JSON.parse(await mesh.text("/apis/networking.istio.io/v1/namespaces/shop/workloadentries")) as {
      items: { metadata: { annotations?: Record<string, string> } }[];
    };
    const admin = items.map(({ metadata }) => metadata.annotations?.["prometheus.io/port"]).find((port) => port !== undefined);
    const dump = await (await fetch(`http://127.0.0.1:${admin}/config_dump`)).text();
    expect([dump.includes(hosts.mutual), dump.includes("PRIVATE KEY")]).toEqual([true, false]);
  }, 60_000);

  test("a Secret that goes takes the way with it; no server was ever spoken to in plain text", async () => {
    expect((await mesh.cli("delete", "secret", "mutual", "-n", "shop")).code).toBe(0);
    for (const by of names) await answer(by, hosts.mutual, "503");
    for (const by of names) await answer(by, hosts.simple, "200");
    const seen = readFileSync(at("access.log"), "utf8").trim().split("\n");
    expect(seen.length).toBeGreaterThan(4);
    // nginx: 400 for plain text at a port of TLS.
    expect(seen.filter((line) => !line.includes('" 200 '))).toEqual([]);
  }, 60_000);
});
