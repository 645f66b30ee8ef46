// Judge: Envoy, given the same bootstrap with `use_remote_address`: instances are told the same of where a request comes from.

import { afterAll, describe, expect, test } from "bun:test";
import { bootstrapText, routeTo } from "../support/bootstrap.ts";
import { execute } from "../support/execute.ts";
import { findPeer, needsPeers } from "../support/peers.ts";
import { ProxyProcess } from "../support/proxy.ts";

const run = needsPeers("test/peers/forwarded-envoy.test.ts", "envoy", "curl");

describe.skipIf(!run)("Envoy and Weft tell the same of clients", () => {
  const origin = Bun.serve({
    hostname: "127.0.0.1",
    port: 0,
    fetch: (request) => Response.json([request.headers.get("x-forwarded-for"), request.headers.get("x-forwarded-proto")]),
  });
  const stops: (() => unknown)[] = [() => origin.stop(true)];
  afterAll(async () => {
    for (const stop of stops.reverse()) await stop();
  });

  test("whatever the client claims", async () => {
    const text = bootstrapText(
      "edge",
      [
        {
          name: "entry",
          direction: "INBOUND",
          routes: [
            // Routes are found by what stands in the head then, not by what the client claims.
            {
              match: { prefix: "/", headers: [{ name: "x-forwarded-proto", string_match: { exact: "https" } }] },
              direct_response: { status: 418 },
            },
            routeTo("origin"),
          ],
          manager: { use_remote_address: true },
        },
      ],
      [{ name: "origin", port: origin.port as number }],
    );
    const [weft, envoy] = [await ProxyProcess.start("weft", text), await ProxyProcess.start("envoy", text)];
    stops.push(
      () => weft.stop(),
      () => envoy.stop(),
    );
    // Of a client on its own machine Envoy tells the machine's address; Weft tells the connection's.
    let machine = "";
    const claims = [
      [],
      ["x-forwarded-for: 10.0.0.1"],
      ["x-forwarded-for: 10.0.0.1, 10.0.0.2"],
      ["x-forwarded-for:10.0.0.1", "x-forwarded-for: 10.0.0.2"],
      ["x-forwarded-for: unknown"],
      ["x-forwarded-proto: https"],
      ["x-forwarded-proto: https", "x-forwarded-for: 2001:db8::1"],
    ];
    for (const version of ["--http1.1", "--http2-prior-knowledge"])
      for (const claim of claims) {
        const ask = async (proxy: ProxyProcess) => {
          const fields = claim.flatMap((each) => ["-H", each]);
          const argv = [findPeer("curl") as string, "-s", "-m", "5", version, ...fields, `http://127.0.0.1:${proxy.port("entry")}/`];
          return (await execute(argv)).out.replaceAll(/, ?/g, ", ");
        };
        const [ours, theirs] = [await ask(weft), await ask(envoy)];
        machine ||= (JSON.parse(theirs) as [string])[0];
        expect(ours, `${version} ${claim.join(" and ")}`).toBe(theirs.replace(machine, "127.0.0.1"));
        expect(ours).toContain("127.0.0.1");
      }
  }, 60_000);
});
