// Judge: Envoy, given the same bootstrap: with Maglev both send the same key to the same instance, by header, by query and by joined keys, weights and a
// changed table size included.

import { afterAll, describe, expect, test } from "bun:test";
import { bootstrapText, type JsonObject, routeTo } from "../support/bootstrap.ts";
import { needsPeers } from "../support/peers.ts";
import { ProxyProcess } from "../support/proxy.ts";

const run = needsPeers("test/peers/maglev-envoy.test.ts", "envoy");

describe.skipIf(!run)("Envoy and Weft agree about keys", () => {
  const servers = ["a", "b", "c", "d", "e"].map((name) => Bun.serve({ hostname: "127.0.0.1", port: 0, fetch: () => new Response(name) }));
  const stops: (() => unknown)[] = servers.map((server) => () => server.stop(true));
  afterAll(async () => {
    for (const stop of stops.reverse()) await stop();
  });

  const header = { header: { header_name: "x-user" } };
  const query = { query_parameter: { name: "id" } };
  const cases: readonly [string, readonly JsonObject[], JsonObject, readonly number[]][] = [
    ["a header", [header], {}, [1, 1, 1, 1, 1]],
    ["two keys joined, weights", [header, query], {}, [1, 2, 3, 4, 5]],
    ["another size", [query], { maglev_lb_config: { table_size: 1009 } }, [1, 1, 1, 1, 1]],
  ];
  for (const [name, hash_policy, more, weights] of cases)
    test(name, async () => {
      const lb_endpoints = servers.map((server, n) => ({
        endpoint: { address: { socket_address: { address: "127.0.0.1", port_value: server.port as number } } },
        load_balancing_weight: weights[n] as number,
      }));
      const text = bootstrapText(
        "keys",
        [{ name: "entry", direction: "OUTBOUND", routes: [routeTo("origin", "/", { hash_policy })] }],
        [
          {
            name: "origin",
            port: 0,
            more: { lb_policy: "MAGLEV", ...more, load_assignment: { cluster_name: "origin", endpoints: [{ lb_endpoints }] } },
          },
        ],
      );
      const [weft, envoy] = [await ProxyProcess.start("weft", text), await ProxyProcess.start("envoy", text)];
      stops.push(
        () => weft.stop(),
        () => envoy.stop(),
      );
      const ask = async (proxy: ProxyProcess, key: number) =>
        await (await fetch(`http://127.0.0.1:${proxy.port("entry")}/?id=${key * 7}`, { headers: { "x-user": `user-${key}` } })).text();
      const seen = new Map<string, number>();
      for (let key = 0; key < 150; key++) {
        const [ours, theirs] = [await ask(weft, key), await ask(envoy, key)];
        expect(ours, `key ${key}`).toBe(theirs);
        seen.set(ours, (seen.get(ours) ?? 0) + 1);
      }
      expect(seen.size).toBe(5);
    }, 30_000);
});
