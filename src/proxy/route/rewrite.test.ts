import { expect, test } from "bun:test";
import { latin1 } from "../http/bytes.ts";
import { rewritePrefix } from "./rewrite.ts";

test.each([
  // replacement, matched prefix (null: all), target, result
  ["/", "/foo", "/foo/bar", "/bar"],
  ["/", "/foo", "/foo", "/"],
  ["/", "/foo", "/foo?a=b", "/?a=b"],
  ["/x", "/foo", "/foo/bar?c", "/x/bar?c"],
  ["/x/", "/foo/", "/foo/bar", "/x/bar"],
  ["/x", "/foo/", "/foo/bar", "/x/bar"],
  ["/x", "/foo", "/foobar", "/xbar"],
  ["/x", "/", "/bar", "/x/bar"],
  ["", "/foo", "/foo/bar", "/bar"],
  ["", "/foo", "/foo", "/"],
  ["", "/foo", "/foo?q", "/?q"],
  ["/all", null, "/foo/bar?q", "/all?q"],
] as const)("%p in place of %p: %p becomes %p", (replacement, matched, target, expected) => {
  const bytes = latin1(`..${target}`);
  const question = target.indexOf("?");
  const pathTo = 2 + (question < 0 ? target.length : question);
  const out = rewritePrefix(latin1(replacement), matched === null ? -1 : matched.length, bytes, 2, pathTo, bytes.length);
  expect(Buffer.from(out).toString()).toBe(expected);
});
