// A route to a cluster that is not there: 503, or what the route says. Gateway API wants 500 for the share of a backend that does not exist.

import { expect, test } from "bun:test";
import { catchAll, hop, RawPeer, start } from "../testing/fixture.ts";

for (const [status, more] of [
  [503, {}],
  [500, { missingClusterStatus: 500 }],
  [404, { missingClusterStatus: 404 }],
] as const) {
  test(`is answered with ${status}`, async () => {
    const running = start(hop([], catchAll("gone", more)));
    try {
      const peer = await RawPeer.connect(running.port());
      const answer = await peer.ask("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
      expect(answer).toStartWith(`HTTP/1.1 ${status} `);
      expect(answer).toContain("x-weft-reason: NC the route leads to a cluster that is not configured");
    } finally {
      running.engine.close();
    }
  });
}
