// Who gets in at the dashboard's door, and what another site's page can do (nothing).

import { afterEach, describe, expect, test } from "bun:test";
import { PausedClock } from "../../base/clock.ts";
import { silentLogger } from "../../base/log.ts";
import type { ApiServer, Caller } from "../apiserver/deps.ts";
import { Secret } from "../identity/secret.ts";
import { dashboardHandler, listenDashboard } from "./server.ts";
import { SignIn } from "./signin.ts";

const cleanups: (() => unknown)[] = [];
afterEach(async () => {
  for (const run of cleanups.splice(0).reverse()) await run();
});

function setup() {
  const clock = new PausedClock();
  const seen: (Caller | undefined)[] = [];
  const api: ApiServer = {
    handle: async (_request, _holder, caller) => {
      seen.push(caller);
      return new Response(caller === undefined ? "who are you" : "here you are", { status: caller === undefined ? 401 : 200 });
    },
    close() {},
  };
  let port = 0;
  const signIn = new SignIn(new Secret("weft-admin-secret"), () => port);
  const server = listenDashboard(
    "127.0.0.1",
    0,
    dashboardHandler({
      api,
      signIn,
      nowMs: () => clock.now(),
      log: silentLogger,
      load: async () => ({
        contentSecurityPolicy: "default-src 'none'",
        find: (path) => {
          if (path === "/") return { type: "text/html", body: "<p>page</p>", immutable: false };
          return path === "/assets/main.js" ? { type: "text/javascript", body: "1", immutable: true } : undefined;
        },
      }),
    }),
  );
  port = server.port;
  cleanups.push(() => server.stop());
  const at = `http://127.0.0.1:${port}`;
  const ask = (path: string, init: RequestInit = {}) => fetch(at + path, { redirect: "manual", ...init });
  const signedIn = async () => {
    const response = await ask(`/?token=${signIn.linkToken}`);
    return (response.headers.get("set-cookie") ?? "").split(";")[0] as string;
  };
  return { clock, seen, signIn, at, ask, signedIn };
}

describe("sign-in", () => {
  test("the printed link sets a cookie that scripts and other sites never see, and leaves the token out of the address", async () => {
    const { ask, signIn } = setup();
    const response = await ask(`/?token=${signIn.linkToken}`);
    expect(response.status).toBe(303);
    expect(response.headers.get("location")).toBe("/");
    expect(response.headers.get("set-cookie")).toMatch(/HttpOnly; SameSite=Strict/);
    expect(response.headers.get("referrer-policy")).toBe("no-referrer");
  });

  test("without a cookie there is the sign-in page, and nothing else", async () => {
    const { ask, seen } = setup();
    const page = await ask("/");
    expect(await page.text()).toContain("<form");
    expect((await ask("/assets/main.js")).status).toBe(401);
    expect((await ask("/apis")).status).toBe(401);
    expect(seen).toEqual([undefined]);
    expect((await ask("/?token=wrong")).status).toBe(403);
    expect((await ask("/?token=wrong")).headers.get("set-cookie")).toBeNull();
  });

  test("the form takes the admin token", async () => {
    const { ask } = setup();
    const post = (token: string) => ask("/sign-in", { method: "POST", body: new URLSearchParams({ token }) });
    expect((await post("nope")).status).toBe(403);
    const response = await post(" weft-admin-secret ");
    expect(response.status).toBe(303);
    expect(response.headers.get("set-cookie")).toContain("HttpOnly");
  });

  test("the cookie opens page, files and API; it ends, and cannot be made up", async () => {
    const { ask, signedIn, seen, clock } = setup();
    const cookie = await signedIn();
    expect(await (await ask("/", { headers: { cookie } })).text()).toContain("page");
    const asset = await ask("/assets/main.js", { headers: { cookie } });
    expect(asset.headers.get("cache-control")).toContain("immutable");
    expect((await ask("/assets/none.js", { headers: { cookie } })).status).toBe(404);
    expect(await (await ask("/services/shop/web", { headers: { cookie } })).text()).toContain("page");
    expect((await ask("/apis/x", { headers: { cookie } })).status).toBe(200);
    expect(seen).toEqual([{ kind: "admin", user: "admin" }]);
    const [name, value] = cookie.split("=") as [string, string];
    const [end, mac] = value.split(".") as [string, string];
    expect((await ask("/apis/x", { headers: { cookie: `${name}=${Number(end) + 1}.${mac}` } })).status).toBe(401);
    clock.advance(8 * 86_400_000);
    expect((await ask("/apis/x", { headers: { cookie } })).status).toBe(401);
  });

  test("programs may use the link's token or the admin token as a bearer; other bearers are the API's to judge", async () => {
    const { ask, signIn, seen } = setup();
    for (const token of [signIn.linkToken, "weft-admin-secret"])
      expect((await ask("/apis", { headers: { authorization: `Bearer ${token}` } })).status).toBe(200);
    await ask("/apis", { headers: { authorization: "Bearer abc" } });
    expect(seen.at(-1)).toBeUndefined();
  });
});

describe("another site", () => {
  test("cannot write, cannot read, cannot rebind a name", async () => {
    const { ask, signedIn, at, seen } = setup();
    const cookie = await signedIn();
    for (const headers of [
      { cookie, origin: "http://evil.example" },
      { cookie, origin: "http://127.0.0.1:1" },
      { cookie, origin: "null" },
      { cookie, "sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors" },
    ]) {
      expect((await ask("/apis/x", { method: "POST", headers })).status).toBe(403);
      expect((await ask("/apis/x", { headers })).status).toBe(403);
    }
    expect(seen).toEqual([]);
    expect((await ask("/apis/x", { headers: { cookie, host: "evil.example" } })).status).toBe(421);
    expect((await ask("/apis/x", { method: "DELETE", headers: { cookie, origin: at } })).status).toBe(200);
  });
});
