// `weft run --uses` in a real mesh: the sidecar holds the services that were named and no others, and the forward proxy says so. With `*` others are given
// when they are first called.

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { app, eventually, type Running, TestMesh } from "../support/mesh.ts";

let mesh: TestMesh;
let caller: Running;
let whole: Running;
let asking: Running;

beforeAll(async () => {
  mesh = await TestMesh.start();
  for (const service of ["cart", "stock", "bank"]) await mesh.run({ service, name: service, command: app("echo.ts") });
  caller = await mesh.run({ service: "caller", name: "caller", flags: ["--uses", "cart"], upstreams: [], command: app("echo.ts") });
  asking = await mesh.run({
    service: "asking",
    name: "asking",
    flags: ["--uses", "cart", "--uses", "*"],
    upstreams: [],
    command: app("echo.ts"),
  });
  whole = await mesh.run({ service: "whole", name: "whole", command: app("echo.ts") });
}, 60_000);

afterAll(() => mesh.stop());

const get = (of: Running, host: string) => fetch(`http://${host}/`, { proxy: of.httpProxy });

async function clusters(of: Running): Promise<string[]> {
  const dump = await (await fetch(`http://127.0.0.1:${of.adminPort}/config_dump`)).text();
  return [...new Set([...dump.matchAll(/outbound\|\d+\|\|([a-z]+)\./g)].map((match) => match[1] as string))].sort();
}

describe("an instance that says what it uses", () => {
  test("reaches that, and is told what is missing for the rest", async () => {
    const good = await eventually(
      5000,
      () => get(caller, "cart"),
      (answer) => answer.status === 200,
    );
    expect(good.status).toBe(200);
    const refused = await get(caller, "stock");
    expect(refused.status).toBe(502);
    expect(await refused.text()).toContain("weft run --uses");
    expect(
      (
        await eventually(
          5000,
          () => get(whole, "stock"),
          (answer) => answer.status === 200,
        )
      ).status,
    ).toBe(200);
  });

  test("holds no other services", async () => {
    expect(await clusters(caller)).toEqual(["cart"]);
    expect(await clusters(whole)).toEqual(["asking", "bank", "caller", "cart", "stock", "whole"]);
  });
});

describe("an instance that asks for the others when it first calls them", () => {
  const metric = async (name: string): Promise<number> => {
    const text = await (await fetch(`http://127.0.0.1:${asking.adminPort}/stats/prometheus`)).text();
    return Number(new RegExp(`^${name.replace(/[{}"]/g, "\\$&")} (\\S+)`, "m").exec(text)?.[1] ?? 0);
  };

  test("holds what it named, and serves the first request to another as soon as it was given it", async () => {
    expect(await clusters(asking)).toEqual(["cart"]);
    const first = await get(asking, "stock");
    expect(first.status).toBe(200);
    expect(await clusters(asking)).toEqual(["cart", "stock"]);
    // By another name, with a body, and several at once.
    const posted = fetch("http://stock.shop.svc.cluster.local:80/", { proxy: asking.httpProxy, method: "POST", body: "x".repeat(200_000) });
    const all = await Promise.all([posted, ...Array.from({ length: 8 }, () => get(asking, "bank"))]);
    expect(all.map((answer) => answer.status)).toEqual(all.map(() => 200));
    expect(await clusters(asking)).toEqual(["bank", "cart", "stock"]);
    expect(await metric('weft_on_demand_requests_total{outcome="served"}')).toBe(10);
    expect(await metric('weft_on_demand_hosts{state="given"}')).toBe(3);
  });

  test("a tunnel waits for its host too, with what its client sends ahead", async () => {
    const { hostname, port } = new URL(asking.httpProxy);
    let said = "";
    const socket = await Bun.connect({
      hostname,
      port: Number(port),
      socket: {
        data(_socket, bytes) {
          said += bytes.toString();
        },
      },
    });
    // Ahead of the answer to CONNECT, which RFC 9110 9.3.6 lets a client risk.
    socket.write("CONNECT whole:80 HTTP/1.1\r\nHost: whole:80\r\n\r\nGET / HTTP/1.1\r\nHost: whole\r\n\r\n");
    const whole = () => said.match(/HTTP\/1\.1 200/g)?.length === 2;
    expect(await eventually(10_000, async () => whole(), Boolean)).toBe(true);
    socket.end();
    expect(await clusters(asking)).toEqual(["bank", "cart", "stock", "whole"]);
  });

  test("a host that there is not is refused in words, until there is one", async () => {
    const refused = await get(asking, "later");
    expect(refused.status).toBe(502);
    expect(await refused.text()).toContain("no service of the mesh is called later");
    await mesh.run({ service: "later", name: "later", command: app("echo.ts") });
    const served = await eventually(
      10_000,
      () => get(asking, "later"),
      (answer) => answer.status === 200,
    );
    expect(served.status).toBe(200);
  });
});
