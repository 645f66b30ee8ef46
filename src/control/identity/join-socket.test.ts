// Joining by being a user of this machine: what the kernel says counts, what a rule does not allow is refused, and nobody holds the socket up.

import { afterAll, expect, setDefaultTimeout, test } from "bun:test";
import { mkdtempSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { PausedClock, systemClock } from "../../base/clock.ts";
import { silentLogger } from "../../base/log.ts";
import { type JoinRule, joinWithinMs, mostJoinBytes, openJoinSocket, parseJoinRules } from "./join-socket.ts";
import { openPeerCredentials, type PeerCredentials } from "./peer-credentials.ts";

// Programs are started, and keys stretched: a busy machine takes its time.
setDefaultTimeout(60_000);

const dir = mkdtempSync(join(tmpdir(), "weft-join-"));
afterAll(() => rmSync(dir, { recursive: true, force: true }));
const own = process.getuid?.() ?? 0;

function open(name: string, more: { rules?: JoinRule[]; ownUid?: number; who?: PeerCredentials; clock?: PausedClock } = {}) {
  const path = join(dir, name);
  const joined: string[] = [];
  const real = openPeerCredentials();
  const socket = openJoinSocket({
    path,
    rules: more.rules ?? [],
    ownUid: more.ownUid ?? own,
    clock: more.clock ?? systemClock,
    log: silentLogger,
    credentials: (fd) => more.who ?? real(fd),
    issue: async ({ serviceAccount }) => ({ token: `token of ${serviceAccount}`, expiresAt: "soon" }),
    access: () => ({ server: "https://127.0.0.1:1", caBundle: "roots" }),
    onJoined: ({ namespace, serviceAccount }, { uid, pid }) => joined.push(`${namespace}/${serviceAccount} ${uid} ${pid === process.pid}`),
  });
  return { path, joined, socket };
}

/** Says `text` and hears all that comes back; undefined: says nothing more and waits. */
function ask(path: string, text: string): Promise<string> {
  const { promise, resolve } = Promise.withResolvers<string>();
  let heard = "";
  void Bun.connect({
    unix: path,
    socket: {
      open(socket) {
        if (text !== "") socket.write(text);
      },
      data(_socket, bytes) {
        heard += bytes.toString();
      },
      close: () => resolve(heard),
    },
  });
  return promise;
}

const request = (namespace: string, serviceAccount: string) => `${JSON.stringify({ namespace, serviceAccount })}\n`;

test("the user who runs the control plane joins as anybody, and the kernel says who that is", async () => {
  const { path, joined, socket } = open("own.sock");
  expect(statSync(path).mode & 0o777).toBe(0o600);
  expect(JSON.parse(await ask(path, request("shop", "cart")))).toEqual({
    namespace: "shop",
    serviceAccount: "cart",
    token: "token of cart",
    expiresAt: "soon",
    server: "https://127.0.0.1:1",
    caBundle: "roots",
  });
  expect(joined).toEqual([`shop/cart ${own} true`]);
  socket.stop();
  await expect(Promise.resolve().then(() => statSync(path))).rejects.toThrow();
});

test("another user joins as a rule allows, and as nobody else", async () => {
  const rules = parseJoinRules("1000=shop/cart, web=bank/*,1002=*", () => "root:x:0:0::/:/bin/sh\nweb:x:1001:1001::/:/bin/sh\n");
  for (const [uid, namespace, account, good] of [
    [1000, "shop", "cart", true],
    [1000, "shop", "reviews", false],
    [1000, "bank", "cart", false],
    [1001, "bank", "anything", true],
    [1001, "shop", "cart", false],
    [1002, "any", "body", true],
    [1003, "shop", "cart", false],
    [0, "shop", "cart", true],
  ] as const) {
    const { path, socket } = open(`rules-${uid}.sock`, { rules, ownUid: 4242, who: { pid: 1, uid, gid: uid } });
    expect(statSync(path).mode & 0o777).toBe(0o666);
    const answer = JSON.parse(await ask(path, request(namespace, account))) as { token?: string; error?: string };
    if (good) expect(answer.token).toBe(`token of ${account}`);
    else
      expect(answer.error).toBe(
        `user ${uid} of this machine may not join as ${namespace}/${account}; the control plane's --join-users says who may`,
      );
    socket.stop();
  }
});

test("whoever asks wrongly, at length or not at all is told so, and let go", async () => {
  const { path, socket } = open("wrong.sock");
  for (const [text, words] of [
    ["rubbish\n", "not a line of JSON"],
    ["null\n", "the request is not {"],
    [request("shop", "../../x"), "the request is not {"],
    ["x".repeat(mostJoinBytes + 1), `more than ${mostJoinBytes} bytes`],
  ] as const)
    expect((JSON.parse(await ask(path, text)) as { error: string }).error).toContain(words);
  socket.stop();
  const clock = new PausedClock(Date.now());
  const slow = open("slow.sock", { clock });
  const silent = ask(slow.path, '{"namespace"');
  await Bun.sleep(20);
  for (let n = 0; n < 20; n++) {
    clock.advance(joinWithinMs);
    await Bun.sleep(2);
  }
  expect((JSON.parse(await silent) as { error: string }).error).toContain("no whole request within 5 s");
  slow.socket.stop();
});

test("a socket of before is replaced, and anything else is left alone", () => {
  const first = open("again.sock");
  const second = open("again.sock");
  first.socket.stop();
  second.socket.stop();
  writeFileSync(join(dir, "file"), "mine");
  expect(() => open("file")).toThrow(/something that is no socket stands there/);
  expect(() => open("nowhere/join.sock")).toThrow(/--join-socket .*nowhere\/join\.sock: there is no folder .*nowhere; make it first$/);
  expect(() => open("x".repeat(100))).toThrow(/may have 107 bytes/);
});

test("rules that cannot be meant are refused by name", () => {
  const passwd = () => "";
  for (const [text, words] of [
    ["1000", /"1000" is not of the form USER=NAMESPACE\/ACCOUNT/],
    ["1000=shop", /not of the form/],
    ["1000=shop/cart/x", /not of the form/],
    ["1000=*/cart", /leaves the namespace open/],
    ["nobody-here=shop/cart", /no user "nobody-here"; name it by its number/],
    ["", /not of the form/],
  ] as const)
    expect(() => parseJoinRules(text, passwd)).toThrow(words);
});
