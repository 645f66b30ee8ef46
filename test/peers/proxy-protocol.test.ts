// The PROXY protocol header that opaque TCP sends, read by HAProxy: it answers with the client it was told of.

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { openOpaque } from "../support/opaque.ts";
import { findPeer, needsPeers } from "../support/peers.ts";
import { freePort } from "../support/servers.ts";

describe.skipIf(!needsPeers("proxy-protocol.test.ts", "haproxy"))("HAProxy reads who the client is", () => {
  const dir = mkdtempSync(join(tmpdir(), "weft-proxy-protocol-"));
  const port = freePort();
  let child: Bun.Subprocess | undefined;
  beforeAll(async () => {
    const lines = [
      "defaults",
      "  mode http",
      "  timeout client 10s",
      "frontend who",
      `  bind 127.0.0.1:${port} accept-proxy`,
      '  http-request return status 200 content-type text/plain lf-string "%[src]:%[src_port] %[dst]:%[dst_port]"',
    ];
    const file = join(dir, "haproxy.cfg");
    writeFileSync(file, `${lines.join("\n")}\n`);
    child = Bun.spawn([findPeer("haproxy") as string, "-f", file, "-db"], { stdout: "ignore", stderr: "ignore" });
    for (let n = 0; n < 200; n++) {
      const socket = await Bun.connect({ hostname: "127.0.0.1", port, socket: { data() {}, error() {} } }).catch(() => null);
      socket?.end();
      if (socket !== null) return;
      await Bun.sleep(20);
    }
    throw new Error("haproxy did not start");
  }, 20_000);
  afterAll(async () => {
    child?.kill("SIGKILL");
    await child?.exited;
    rmSync(dir, { recursive: true, force: true });
  });

  for (const version of ["V1", "V2"])
    test(version, async () => {
      const extension = (name: string, type: string, value: object) => ({
        name: `envoy.transport_sockets.${name}`,
        typed_config: { "@type": `type.googleapis.com/envoy.extensions.transport_sockets.${type}`, ...value },
      });
      const raw = extension("raw_buffer", "raw_buffer.v3.RawBuffer", {});
      const socket = extension("upstream_proxy_protocol", "proxy_protocol.v3.ProxyProtocolUpstreamTransport", {
        config: { version },
        transport_socket: raw,
      });
      const way = await openOpaque({ shape: "one", origin: port, cluster: { transport_socket: socket } });
      try {
        for (let n = 0; n < 3; n++) {
          let text = "";
          const done = Promise.withResolvers<void>();
          const client = await Bun.connect({
            hostname: "127.0.0.1",
            port: way.port,
            socket: {
              open: (it) => void it.write("GET / HTTP/1.1\r\nHost: who\r\nConnection: close\r\n\r\n"),
              data: (_it, bytes) => {
                text += bytes.toString();
              },
              close: () => done.resolve(),
              error() {},
            },
          });
          const own = client.localPort;
          await done.promise;
          expect(text).toContain("HTTP/1.1 200");
          expect(text.split("\r\n\r\n")[1]).toBe(`127.0.0.1:${own} 127.0.0.1:${way.port}`);
        }
      } finally {
        await way.stop();
      }
    }, 20_000);
});
