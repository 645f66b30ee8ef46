// The dashboard in a real browser over the development server's data: what a person sees and does, with mouse, keyboard and by roles.
// Needs Chromium (Debian: apt-get install chromium); without it this file says so once and is skipped.

import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { existsSync } from "node:fs";
import { type Browser, type BrowserContext, chromium, type Page } from "playwright-core";
import { loadDashboard } from "../../src/control/dashboard/assets.ts";
import { type DevServer, startDevServer } from "../../ui/dev-server.ts";
import { pollEveryMs } from "../../ui/live/poller.ts";

const executablePath = "/usr/bin/chromium";
const found = existsSync(executablePath);
if (!found) console.warn(`skipped: the dashboard's browser tests need ${executablePath} (apt-get install chromium)`);

const switches = [
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];
setDefaultTimeout(20_000);

describe.skipIf(!found)("dashboard", () => {
  let browser: Browser;
  let server: DevServer;
  let context: BrowserContext | undefined;
  let nowMs = 1_700_000_000_000;
  const complaints: string[] = [];

  const start = (port: number): DevServer =>
    startDevServer({ port, scenario: "shop", seed: 1, now: () => nowMs, dashboard: loadDashboard });

  beforeAll(async () => {
    server = start(0);
    browser = await chromium.launch({ executablePath, args: switches });
  });
  afterAll(async () => {
    await browser?.close();
    await server?.stop();
  });

  interface Screen {
    readonly width?: number;
    readonly height?: number;
    readonly dark?: boolean;
    readonly hash?: string;
  }

  /** A fresh page; console errors and uncaught ones are collected in `complaints`. */
  async function open({ width = 1280, height = 800, dark = false, hash = "" }: Screen = {}): Promise<Page> {
    await context?.close();
    complaints.length = 0;
    server.behave("normal");
    server.show("shop");
    context = await browser.newContext({ viewport: { width, height }, colorScheme: dark ? "dark" : "light", reducedMotion: "reduce" });
    context.setDefaultTimeout(10_000);
    await context.clock.install();
    const page = await context.newPage();
    page.on("console", (message) => {
      if (message.type() === "error" || message.type() === "warning") complaints.push(message.text());
    });
    page.on("pageerror", (error) => complaints.push(String(error)));
    await page.goto(`${server.url}${hash}`);
    return page;
  }

  /** Time in the page jumps to where the next round is due: as if one had waited. */
  const nextRound = (page: Page): Promise<void> => page.clock.fastForward(pollEveryMs);
  const focused = (page: Page): Promise<string> =>
    page.evaluate("document.activeElement?.getAttribute('aria-label') ?? document.activeElement?.textContent ?? ''");
  const overflow = (page: Page): Promise<number> =>
    page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth");

  test("loads without complaint and draws every service and call, saying each in words", async () => {
    const page = await open();
    const graph = page.locator(".graph[data-ready=true]");
    await graph.waitFor();
    const names: string[] = await graph
      .locator(".card")
      .evaluateAll((cards) => cards.map((card) => String(card.getAttribute("data-item"))));
    expect(names).toEqual(
      [
        "bank/ledger",
        "shop/cart",
        "shop/catalog",
        "shop/front",
        "shop/mailer",
        "shop/orders",
        "shop/ratings",
        "shop/reviews",
        "shop/visitors",
        "unknown/unknown",
      ].map((id) => `service ${id}`),
    );
    const calls: string[] = await graph
      .locator(".call")
      .evaluateAll((labels) => labels.map((label) => String(label.getAttribute("aria-label"))));
    expect(calls).toHaveLength(9);
    expect(
      calls.some((words) => /^front calls reviews: healthy, [\d.]+ requests a second, 99\.9 % succeed, .*mutual TLS$/.test(words)),
    ).toBe(true);
    expect(calls.some((words) => /^reviews calls ratings: failing, .*mutual TLS$/.test(words))).toBe(true);
    expect(calls.some((words) => /^unknown calls catalog: .*not encrypted$/.test(words))).toBe(true);
    expect(
      calls.some((words) => /^orders\.shop calls ledger\.bank: healthy, TCP, \d+ kB\/s, 4 open connections, mutual TLS$/.test(words)),
    ).toBe(true);
    const facts = await page.getByRole("banner").innerText();
    expect(facts.replaceAll(/\s+/g, " ")).toContain(
      "Mesh default · cluster.local Control plane 0.1.0 Services 9 Proxies 12 · 1 not in sync, 1 lost, 4 with circuits open",
    );
    await page.getByText("live", { exact: true }).waitFor();
    expect(complaints).toEqual([]);

    // A failing call differs by shape, dashes and words, not by colour alone.
    const label = page.getByRole("button", { name: /^reviews calls ratings/ });
    expect(await label.innerText()).toMatch(/% fail/);
    expect(await label.locator("svg.health.bad").count()).toBe(1);
    const dashes: string = await page.evaluate("getComputedStyle(document.querySelector('path.line.bad')).strokeDasharray");
    expect(dashes).toBe("5px, 4px");
    expect(
      await page
        .getByRole("button", { name: /^front calls catalog/ })
        .locator("svg.health")
        .count(),
    ).toBe(0);

    // Opening the panel takes the right third of the graph: what was clicked there comes back into view.
    await page.getByRole("button", { name: /^cart in shop/ }).click();
    await page.getByRole("complementary", { name: "Service cart" }).waitFor();
    const hidden =
      "document.querySelector('.card.selected').getBoundingClientRect().right - document.querySelector('.graph').getBoundingClientRect().right";
    while (Number(await page.evaluate(hidden)) > 0) await page.waitForTimeout(20);
  });

  test("circuit breaking stands on the card, in the list and in the panel of both ends, with its reason", async () => {
    const page = await open();
    await page.locator(".graph[data-ready=true]").waitFor();
    expect(await page.locator('[data-item="service shop/reviews"]').innerText()).toContain("1 out");
    await page.getByRole("button", { name: /^ratings in shop: .*; calls refused$/ }).click();
    const ratings = page.getByRole("complementary", { name: "Service ratings" }).getByRole("region", { name: "Circuit breaking" });
    expect((await ratings.innerText()).replaceAll(/\s+/g, " ")).toMatch(
      /reviews-v2-\w+ refuses calls to shop\/ratings: max_requests is reached/,
    );
    await ratings.getByRole("button", { name: "shop/reviews" }).first().click();
    const reviews = page.getByRole("complementary", { name: "Service reviews" }).getByRole("region", { name: "Circuit breaking" });
    const words = (await reviews.innerText()).replaceAll(/\s+/g, " ");
    expect(words).toMatch(/reviews-v2-\w+ is taken out of the balance by front-v3-\w+: consecutive_5xx/);
    expect(words).toMatch(/refuses calls to shop\/ratings/);
    await page.getByRole("radio", { name: "List" }).check();
    expect(await page.locator("tr", { has: page.locator('[data-item="service shop/reviews"]') }).innerText()).toContain(
      "1 instance taken out",
    );
    expect(complaints).toEqual([]);
  });

  test("by keyboard alone: Tab to a call, Enter opens its numbers, Escape leads back; arrows walk the graph", async () => {
    const page = await open();
    await page.locator(".graph[data-ready=true] .call").first().waitFor();
    let presses = 0;
    while (!(await focused(page)).startsWith("reviews calls ratings") && presses++ < 40) await page.keyboard.press("Tab");
    expect(await focused(page)).toStartWith("reviews calls ratings");
    await page.keyboard.press("Enter");
    const panel = page.getByRole("complementary", { name: "Call reviews → ratings" });
    await panel.getByRole("img", { name: /^Latency: p50 now [\d.]+ ms, lowest [\d.]+ ms, highest [\d.]+ ms; p99 now/ }).waitFor();
    await panel.getByRole("img", { name: /^Requests: rate now [\d.]+\/s/ }).waitFor();
    await panel.getByRole("img", { name: /^Success: success now 9\d\.\d %/ }).waitFor();
    expect(await panel.locator("canvas").count()).toBe(3);
    expect((await panel.locator(".tiles").innerText()).replaceAll(/\s+/g, " ")).toMatch(
      /^Requests [\d.]+\/s Success 9\d\.\d % p50 [\d.]+ ms p99 \d+ ms$/,
    );
    expect(await focused(page)).toBe("reviews → ratings");
    await page.keyboard.press("Escape");
    await panel.waitFor({ state: "detached" });
    expect(await focused(page)).toStartWith("reviews calls ratings");
    await page.keyboard.press("ArrowRight");
    expect(await focused(page)).toStartWith("ratings in shop: failing");
    await page.keyboard.press("ArrowDown");
    expect(await focused(page)).toStartWith("ledger in bank");
    await page.keyboard.press("Enter");
    await page.getByRole("complementary", { name: "Service ledger" }).waitFor();
    expect(complaints).toEqual([]);
  });

  test("a service's panel shows versions, instances with rejections, routes and policies as YAML", async () => {
    const page = await open();
    await page.getByRole("button", { name: /^reviews in shop/ }).click();
    const panel = page.getByRole("complementary", { name: "Service reviews" });
    const versions = panel.getByRole("region", { name: "Versions" });
    await versions.getByRole("row", { name: /^v1 10 % [\d.]+\/s 100 % 1 of 1 ready$/ }).waitFor();
    await versions.getByRole("row", { name: /^v2 90 % .* 2 of 2 ready$/ }).waitFor();
    const instances = panel.getByRole("region", { name: "Instances" });
    await instances.getByText(/^Rejected route b7743e19 at .*rate_limits.*not supported$/).waitFor();
    expect(await instances.getByRole("listitem").count()).toBe(3);
    expect(await instances.getByText("in sync").count()).toBe(2);
    await panel.getByText("reviews-canary").click();
    await panel.getByText("ResolvedRefs: backendRefs[0]: there is no Service reviews-v3 in namespace shop").waitFor();
    await panel.getByText("reviews-split").click();
    const block = panel.getByRole("region", { name: "HTTPRoute reviews-split as YAML" });
    await block.getByText("PathPrefix").waitFor();
    const yaml = await block.innerText();
    expect(yaml).toContain("    - matches:\n        - path:\n            type: PathPrefix");
    expect(yaml).not.toMatch(/resourceVersion|uid|status/);
    await panel.getByText("reviews-read-only").click();
    await panel.getByRole("region", { name: "AuthorizationPolicy reviews-read-only as YAML" }).getByText("action: ALLOW").waitFor();
    expect(await page.evaluate("location.hash")).toBe("#service=shop/reviews");
    expect(complaints).toEqual([]);
  });

  test("numbers change and nothing moves", async () => {
    const page = await open();
    await page.locator(".graph[data-ready=true] .call").first().waitFor();
    const places = (): Promise<string[]> =>
      page.evaluate(
        "[...document.querySelectorAll('.react-flow__node, .call, path.line')].map((e) => (e.getAttribute('d') ?? '') + e.style.transform)",
      );
    const numbers = (): Promise<string> => page.locator(".graph").innerText();
    const [before, said] = [await places(), await numbers()];
    nowMs += 60_000;
    await nextRound(page);
    while ((await numbers()) === said) await page.waitForTimeout(20);
    expect(await places()).toEqual(before);
    expect(before.length).toBe(28);
  });

  test("at 400 px: the list first, nothing wider than the screen, the panel a sheet from below", async () => {
    const page = await open({ width: 400, height: 800 });
    await page.getByRole("table", { name: "Calls" }).waitFor();
    expect(await overflow(page)).toBe(0);
    expect(await page.evaluate("document.querySelector('main').scrollWidth - document.querySelector('main').clientWidth")).toBe(0);
    await page.getByRole("button", { name: /^front → reviews/ }).click();
    const panel = page.getByRole("complementary", { name: "Call front → reviews" });
    await panel.getByRole("img", { name: /^Latency/ }).waitFor();
    expect(await overflow(page)).toBe(0);
    const box = await panel.boundingBox();
    expect(box && [box.x, box.width, Math.round(box.y + box.height)]).toEqual([0, 400, 800]);
    expect(box?.y).toBeGreaterThan(150);
    await panel.getByRole("button", { name: "Close the panel" }).click();
    await page.getByRole("radio", { name: "Graph" }).check();
    await page.locator(".graph[data-ready=true] .card").first().waitFor();
    expect(await overflow(page)).toBe(0);
    expect(complaints).toEqual([]);
  });

  test("dark by the system, light by choice, and the choice is kept", async () => {
    const page = await open({ dark: true, hash: "#view=list" });
    await page.getByRole("table", { name: "Calls" }).waitFor();
    const background = (): Promise<string> => page.evaluate("getComputedStyle(document.body).backgroundColor");
    expect(await background()).toBe("rgb(17, 20, 26)");
    await page.getByRole("button", { name: "Colours: as the system. Switch to light" }).click();
    expect(await background()).toBe("rgb(244, 245, 247)");
    await page.reload();
    await page.getByRole("table", { name: "Calls" }).waitFor();
    expect(await background()).toBe("rgb(244, 245, 247)");
    await page.emulateMedia({ colorScheme: "light" });
    await page.getByRole("button", { name: "Colours: light. Switch to dark" }).click();
    expect(await background()).toBe("rgb(17, 20, 26)");
  });

  test("the control plane goes away and comes back: the picture stays, the notice comes and goes by itself", async () => {
    const page = await open();
    await page.locator(".graph[data-ready=true] .call").first().waitFor();
    const { port } = server;
    await server.stop();
    await nextRound(page);
    const notice = page.getByRole("alert");
    await notice.getByText("The control plane is away").waitFor();
    expect(await notice.innerText()).toMatch(/The picture is from \d\d:\d\d:\d\d \(\d+ s ago\)/);
    await page.getByText("reconnecting", { exact: true }).waitFor();
    expect(await page.locator(".card").count()).toBe(10);
    server = start(port);
    await nextRound(page);
    await notice.waitFor({ state: "detached" });
    await page.getByText("live", { exact: true }).waitFor();
    expect(await page.locator(".card").count()).toBe(10);
  });

  test("refused and broken answers are said plainly, with the way out", async () => {
    const page = await open({ hash: "#view=list" });
    await page.getByRole("table", { name: "Calls" }).waitFor();
    server.behave(401);
    await nextRound(page);
    const notice = page.getByRole("alert");
    await notice.getByText("You are not signed in.").waitFor();
    expect(await notice.innerText()).toContain("weft up printed, the one with ?token=");
    await notice.getByRole("button", { name: "Sign in" }).waitFor();
    server.behave(500);
    await nextRound(page);
    await notice.getByText("The control plane answers with error 500: the store does not answer: database is locked.").waitFor();
    server.behave("normal");
    await notice.getByRole("button", { name: "Try now" }).click();
    await notice.waitFor({ state: "detached" });
  });

  test("an empty mesh tells the next command; services without calls say so", async () => {
    const page = await open();
    await page.locator(".card").first().waitFor();
    server.show("empty");
    await nextRound(page);
    await page.getByText("weft run --service hello --port 8080 --").waitFor();
    server.show("quiet");
    await nextRound(page);
    await page.getByText("No calls in the last 30 s.").waitFor();
  });

  test("the list is read by roles, walked with arrows, sorted and filtered", async () => {
    const page = await open({ hash: "#view=list" });
    const calls = page.getByRole("table", { name: "Calls" });
    await calls.waitFor();
    expect(await calls.getByRole("columnheader").allInnerTexts()).toEqual([
      "Call ↑",
      "Protocol",
      "Rate",
      "Success",
      "p50",
      "p99",
      "Security",
    ]);
    const row = calls.getByRole("row").filter({ has: page.getByRole("rowheader", { name: "reviews → ratings" }) });
    const cells = await row.getByRole("cell").allInnerTexts();
    expect(cells[0]).toBe("http");
    expect(cells.slice(1).join(" ")).toMatch(/^[\d.]+\/s [\d.]+ % fail [\d.]+ ms \d+ ms mutual TLS$/);
    await calls.getByRole("button", { name: "front → cart" }).focus();
    await page.keyboard.press("ArrowDown");
    await page.keyboard.press("ArrowDown");
    expect(await focused(page)).toBe("front → orders");
    await page.keyboard.press("End");
    await page.keyboard.press("Enter");
    await page.getByRole("complementary", { name: "Call visitors → front" }).waitFor();
    await page.keyboard.press("Escape");
    await calls.getByRole("button", { name: "Success" }).click();
    expect(await calls.getByRole("rowheader").first().innerText()).toBe("reviews → ratings");
    expect(await calls.getByRole("columnheader", { name: "Success" }).getAttribute("aria-sort")).toBe("ascending");
    await page.keyboard.press("/");
    await page.keyboard.type("LEDG");
    await page.getByText("1 service found").waitFor();
    expect(await calls.getByRole("rowheader").allInnerTexts()).toEqual(["orders.shop → ledger.bank"]);
    await page.keyboard.press("Escape");
    await page.getByRole("combobox", { name: "Namespace" }).selectOption("bank");
    expect(await page.getByRole("table", { name: "Services" }).getByRole("rowheader").count()).toBe(2);
    await page.getByRole("radio", { name: "60 s" }).check();
    expect(await page.evaluate("location.hash")).toBe("#view=list&window=60&namespace=bank");
    expect(complaints).toEqual([]);
  });
});
