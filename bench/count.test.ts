import { expect, test } from "bun:test";
import { readStrace } from "./count.ts";

test("the table of strace becomes calls per request, without what is rare", () => {
  const text = `% time     seconds  usecs/call     calls    errors syscall
------ ----------- ----------- --------- --------- ------------------
 60.12    0.120000           6      2010        10 sendto
 39.80    0.080000           4      1000           recvfrom
  0.08    0.000100           4         2           madvise
------ ----------- ----------- --------- --------- ------------------
100.00    0.200100                  3012        10 total
`;
  expect(readStrace(text, 1000)).toEqual({ sendto: 2.01, recvfrom: 1 });
});
