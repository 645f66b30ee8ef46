// The bundle as a server hands it out: complete, named by content, without anything a strict policy forbids.

import { expect, test } from "bun:test";
import { buildDashboard, contentSecurityPolicy, loadDashboard } from "./assets.ts";

const dashboard = await loadDashboard();
const page = String(dashboard("/")?.body);
const referred = [...page.matchAll(/(?:src|href)="([^"]+)"/g)].map((match) => match[1]!);

test("the page refers to a script, a style and an icon, all there and named by their content", () => {
  expect(referred.map((path) => path.replace(/-[a-z0-9]+\./, "-HASH."))).toEqual([
    "/assets/icon-HASH.svg",
    "/assets/style-HASH.css",
    "/assets/main-HASH.js",
  ]);
  for (const path of referred) expect(dashboard(path)?.immutable).toBe(true);
  expect(dashboard("/")).toMatchObject({ immutable: false, type: "text/html; charset=utf-8" });
});

test("nothing inline, so that the policy needs no exception", () => {
  expect(page).not.toMatch(/<script(?![^>]*\ssrc=)|<style|\sstyle=|\son\w+=/);
  expect(contentSecurityPolicy).not.toContain("unsafe");
  expect(contentSecurityPolicy).toContain("default-src 'none'");
});

test("what the script loads later is there too: graph, panel, layout worker", async () => {
  const text = async (path: string): Promise<string> => new Response(dashboard(path)?.body).text();
  const main = await text(referred.find((path) => path.endsWith(".js"))!);
  const seen = new Set<string>();
  const visit = async (source: string): Promise<void> => {
    for (const match of source.matchAll(/(?:from|import|import\()\s*["']\.\/([\w-]+\.js)["']/g)) {
      const path = `/assets/${match[1]}`;
      if (seen.has(path)) continue;
      seen.add(path);
      expect(dashboard(path)?.type).toStartWith("text/javascript");
      await visit(await text(path));
    }
  };
  await visit(main);
  expect(seen.size).toBeGreaterThanOrEqual(2);
  const workers = await Promise.all([...seen].map(async (path) => /\/assets\/layout-[a-z0-9]+\.js/.exec(await text(path))?.[0]));
  const worker = workers.find((path) => path !== undefined);
  expect(worker && dashboard(worker)?.immutable).toBe(true);
});

test("the first script stays small: what a phone loads for the list", () => {
  const script = dashboard(referred.find((path) => path.endsWith(".js"))!);
  const bytes = new Blob([script?.body ?? ""]).size;
  expect(bytes).toBeGreaterThan(0);
  // React DOM is 190 kB of it.
  expect(bytes).toBeLessThan(300_000);
});

test("bundled once, the same bytes each time, and no other path is answered", async () => {
  expect(await loadDashboard()).toBe(dashboard);
  expect((await buildDashboard())("/")?.body).toBe(page);
  for (const path of ["/index.html", "/assets/", "/assets/../main.tsx", "/ui/main.tsx"]) expect(dashboard(path)).toBeUndefined();
});
