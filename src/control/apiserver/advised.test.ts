// What a writer is told rests on what the store has by now, not on what was known a moment before.

import { expect, test } from "bun:test";
import { gadget, makeTestServer } from "./testing.ts";

const gadgets = "/apis/test.weft.dev/v1/namespaces/shop/gadgets";

test("nothing is called missing that was written the moment before", async () => {
  let seen = 0;
  const server = makeTestServer({
    followed: {
      revision: () => seen,
      reached: async (revision) => {
        seen = revision;
      },
    },
    advise: () => (seen < 1 ? ["there is no Service shop/cart"] : []),
  });
  const first = await server.ask("POST", gadgets, gadget("a"));
  expect([first.status, first.headers.get("warning")]).toEqual([201, '299 - "there is no Service shop/cart"']);
  seen = 0;
  // The store is ahead of what is known; the writer is told of what is there.
  const second = await server.ask("POST", gadgets, gadget("b"));
  expect([second.status, second.headers.get("warning")]).toEqual([201, null]);
});
