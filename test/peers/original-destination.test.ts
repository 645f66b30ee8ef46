// Connections that iptables redirected, in a network namespace of the test's own: the kernel says where they were meant to go, and curl is the client.

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { eachLine, weftBin } from "../../demo/processes.ts";
import { findPeer, needsPeers } from "../support/peers.ts";

const space = `weft-${process.pid}`;
const root = process.getuid?.() === 0;
if (!root) process.stderr.write("left out: original-destination.test.ts needs root for a network namespace\n");

async function run(...command: readonly string[]): Promise<string> {
  const child = Bun.spawn([...command], { stdin: "ignore", stdout: "pipe", stderr: "pipe" });
  const [out, problems, status] = await Promise.all([new Response(child.stdout).text(), new Response(child.stderr).text(), child.exited]);
  if (status !== 0) throw new Error(`${command.join(" ")}: ${problems}`);
  return out;
}

const inside = (...command: readonly string[]): Promise<string> => run("ip", "netns", "exec", space, ...command);

const any = (type: string, value: object) => ({ "@type": `type.googleapis.com/envoy.${type}`, ...value });

function saying(name: string, text: string, match?: object) {
  return {
    name,
    ...(match === undefined ? {} : { filter_chain_match: match }),
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
                routes: [{ match: { prefix: "/" }, direct_response: { status: 200, body: { inline_string: text } } }],
              },
            ],
          },
          http_filters: [{ name: "router", typed_config: any("extensions.filters.http.router.v3.Router", {}) }],
        }),
      },
    ],
  };
}

function redirected(name: string, address: string, port: number, prefix: string, length: number) {
  return {
    name,
    address: { socket_address: { address, port_value: port } },
    listener_filters: [{ name: "original_dst", typed_config: any("extensions.filters.listener.original_dst.v3.OriginalDst", {}) }],
    filter_chains: [
      saying("to-80", "port 80", { destination_port: 80 }),
      saying("to-net", "that network", { prefix_ranges: [{ address_prefix: prefix, prefix_len: length }] }),
    ],
    default_filter_chain: saying("rest", "elsewhere"),
  };
}

describe.skipIf(!root || !needsPeers("original-destination.test.ts", "iptables", "curl"))("redirected by iptables", () => {
  let dir: string;
  let proxy: Bun.Subprocess<"ignore", "pipe", "pipe"> | undefined;
  const curl = findPeer("curl") ?? "curl";
  const ask = (url: string): Promise<string> => inside(curl, "-sS", "-m", "5", "-g", url);

  beforeAll(async () => {
    dir = mkdtempSync(join(tmpdir(), "weft-redirect-"));
    await run("ip", "netns", "add", space);
    await inside("ip", "link", "set", "lo", "up");
    // A network that leads nowhere: the clients' addresses are in it, and so is everything that they ask for.
    await inside("ip", "addr", "add", "10.9.0.1/16", "dev", "lo");
    await inside("ip", "-6", "addr", "add", "fd09::1/16", "dev", "lo", "nodad");
    await inside("iptables", "-t", "nat", "-A", "OUTPUT", "-p", "tcp", "-d", "10.9.0.0/16", "-j", "REDIRECT", "--to-ports", "15001");
    await inside("ip6tables", "-t", "nat", "-A", "OUTPUT", "-p", "tcp", "-d", "fd09::/16", "-j", "REDIRECT", "--to-ports", "15006");
    const bootstrap = {
      node: { id: "redirected" },
      static_resources: {
        listeners: [redirected("four", "127.0.0.1", 15_001, "10.9.1.0", 24), redirected("six", "::1", 15_006, "fd09:1::", 32)],
      },
    };
    const file = join(dir, "bootstrap.json");
    writeFileSync(file, JSON.stringify(bootstrap));
    proxy = Bun.spawn(["ip", "netns", "exec", space, weftBin, "proxy", "--bootstrap", file], {
      stdin: "ignore",
      stdout: "pipe",
      stderr: "pipe",
    });
    const ready = Promise.withResolvers<void>();
    const lines: string[] = [];
    void eachLine(proxy.stderr, (line) => {
      lines.push(line);
      if (line.includes('"ready"')) ready.resolve();
    });
    void proxy.exited.then(() => ready.reject(new Error(`the proxy ended: ${lines.join("\n")}`)));
    await ready.promise;
  }, 20_000);

  afterAll(async () => {
    proxy?.kill("SIGKILL");
    await proxy?.exited;
    await run("ip", "netns", "del", space).catch(() => "");
    rmSync(dir, { recursive: true, force: true });
  });

  test("IPv4: the chain is that of the port and address the client meant", async () => {
    expect(await ask("http://10.9.9.9:80/")).toBe("port 80");
    expect(await ask("http://10.9.1.7:8080/")).toBe("that network");
    expect(await ask("http://10.9.2.7:8080/")).toBe("elsewhere");
  });

  test("IPv6", async () => {
    expect(await ask("http://[fd09::9]:80/")).toBe("port 80");
    expect(await ask("http://[fd09:1::7]:8080/")).toBe("that network");
    expect(await ask("http://[fd09:2::7]:8080/")).toBe("elsewhere");
  });

  test("a connection that nobody redirected was meant for the listener", async () => {
    expect(await ask("http://127.0.0.1:15001/")).toBe("elsewhere");
  });
});
