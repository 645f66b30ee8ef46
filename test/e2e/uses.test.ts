// `weft run --uses` in a real mesh: the sidecar holds the services that were named and no others, and the forward proxy says so.

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { app, eventually, type Running, TestMesh } from "../support/mesh.ts";

let mesh: TestMesh;
let caller: Running;
let whole: Running;

beforeAll(async () => {
  mesh = await TestMesh.start();
  for (const service of ["cart", "stock", "bank"]) await mesh.run({ service, name: service, command: app("echo.ts") });
  caller = await mesh.run({ service: "caller", name: "caller", flags: ["--uses", "cart"], upstreams: [], command: app("echo.ts") });
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
    expect(await clusters(whole)).toEqual(["bank", "caller", "cart", "stock", "whole"]);
  });
});
