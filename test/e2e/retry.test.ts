// An instance dies under load, with HTTP/2 between the sidecars, so that one connection's end is the end of many requests: what may be repeated is, once and
// elsewhere; what may have been acted on is told the client. Real processes.

import { afterAll, beforeAll, expect, test } from "bun:test";
import { bootstrapText, type Json, type ListenerTls, routeTo } from "../support/bootstrap.ts";
import { ProxyProcess } from "../support/proxy.ts";
import { meshIdentities } from "../support/way.ts";

const serverId = "spiffe://cluster.local/ns/shop/sa/server";

/** How often each POST was acted on. */
const acted = new Map<string, number>();
let origin: Bun.Server<undefined>;

beforeAll(() => {
  origin = Bun.serve({
    hostname: "127.0.0.1",
    port: 0,
    async fetch(request) {
      if (request.method === "POST") {
        const id = await request.text();
        acted.set(id, (acted.get(id) ?? 0) + 1);
      }
      // Long enough that requests are in flight whenever the instance dies.
      await Bun.sleep(5);
      return new Response("answered");
    },
  });
});
afterAll(() => origin?.stop(true));

const endpointAt = (port: number): Json => ({
  endpoint: { address: { socket_address: { address: "127.0.0.1", port_value: port } } },
});

test("GETs survive the SIGKILL of one of three instances, and no POST is acted on twice", async () => {
  const { roots, client, server } = await meshIdentities();
  const mutual: ListenerTls = { kind: "mutual", own: server, alpn: ["h2", "http/1.1"], roots };
  const inbound = (id: number): Promise<ProxyProcess> =>
    ProxyProcess.start(
      "weft",
      bootstrapText(
        `inbound-${id}`,
        [{ name: "in", direction: "INBOUND", tls: mutual }],
        [{ name: "origin", port: origin.port as number }],
      ),
    );
  const instances = await Promise.all([1, 2, 3].map(inbound));
  const lb_endpoints = instances.map((instance) => endpointAt(instance.port("in")));
  const retry_policy = { num_retries: 2, retry_on: "connect-failure,refused-stream,reset" };
  const outbound = await ProxyProcess.start(
    "weft",
    bootstrapText(
      "outbound",
      [{ name: "entry", direction: "OUTBOUND", routes: [routeTo("origin", "/", { retry_policy })] }],
      [
        {
          name: "origin",
          port: 0,
          http2: true,
          tls: { own: client, roots, serverId },
          more: { load_assignment: { cluster_name: "origin", endpoints: [{ lb_endpoints }] } },
        },
      ],
    ),
  );
  const url = `http://127.0.0.1:${outbound.port("entry")}/`;
  const bad: string[] = [];
  const refused: string[] = [];
  let answered = 0;
  let going = true;
  const ask = async (init: RequestInit, failed: string[]): Promise<void> => {
    const response = await fetch(url, init);
    const text = await response.text();
    if (response.status === 200 && text === "answered") answered++;
    else failed.push(`${response.status} ${text.trim()}`);
  };
  const reader = async (): Promise<void> => {
    while (going) await ask({}, bad);
  };
  const writer = async (name: number): Promise<void> => {
    for (let i = 0; going; i++) await ask({ method: "POST", body: `${name}.${i}` }, refused);
  };
  const users = [...Array.from({ length: 24 }, reader), ...Array.from({ length: 8 }, (_, name) => writer(name))];
  const reached = async (count: number): Promise<void> => {
    while (answered < count) await Bun.sleep(2);
  };
  await reached(500);
  instances[0]?.child.kill("SIGKILL");
  await reached(answered + 500);
  going = false;
  await Promise.all(users);
  expect(bad).toEqual([]);
  // POSTs that were in flight: at most one for each writer, and told so.
  expect(refused.length).toBeLessThanOrEqual(8);
  for (const said of refused) expect(said).toContain("503 the instance closed the connection before it answered");
  expect(Math.max(...acted.values())).toBe(1);
  const retries = /weft_upstream_retries_total (\d+)/.exec(await outbound.metrics())?.[1];
  expect(Number(retries)).toBeGreaterThan(0);
  await outbound.stop();
  await Promise.all(instances.map((instance) => instance.stop()));
}, 20_000);
