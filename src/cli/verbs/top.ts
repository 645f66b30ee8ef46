// Owns: `weft top`: live edges, once or refreshed in place. The figures are the control plane's; nothing is computed here but sorting.

import type { EdgeStats, GraphAnswer } from "../../api/live.ts";
import { Unreachable } from "../client.ts";
import { UsageFailure } from "../failure.ts";
import { bytes, type CellLike, milliseconds, percent, printed, short, table } from "../output.ts";
import { openSession } from "../session.ts";
import { paint } from "../terminal.ts";
import type { Invocation } from "../verb.ts";

type Order = "rate" | "errors" | "p50" | "p99" | "name";

const refreshMs = 1000;

export async function run(invocation: Invocation): Promise<number> {
  const { args, terminal, stop } = invocation;
  const { client, namespace } = openSession(invocation);
  const everywhere = args.on("all-namespaces") || !args.on("namespace");
  const windowMs = args.durationMs("window") ?? 10_000;
  if (windowMs < 1000 || windowMs > 300_000) throw new UsageFailure(`--window takes 1s to 5m, not "${args.text("window")}"`);
  const windowSeconds = Math.round(windowMs / 1000);
  const order = (args.text("sort") ?? "rate") as Order;
  const ask = async (): Promise<readonly EdgeStats[]> => {
    const graph = await client.json<GraphAnswer>(`/insight/v1alpha1/graph?windowSeconds=${windowSeconds}`, { signal: stop });
    const stats = graph.edges.map((e) => e.stats);
    return sorted(
      everywhere ? stats : stats.filter((s) => s.source.namespace === namespace || s.destination.namespace === namespace),
      order,
    );
  };
  const format = args.text("output");
  if (format === "json" || format === "yaml") {
    await printed(terminal, format, { windowSeconds, edges: await ask() });
    return 0;
  }
  if (args.on("once") || !terminal.interactive) {
    const edges = await ask();
    if (edges.length === 0) terminal.err(`no traffic in the last ${windowSeconds} s\n`);
    else terminal.out(edgeTable(edges, terminal.colour, terminal.interactive ? terminal.columns : undefined));
    return 0;
  }

  const quit = new AbortController();
  stop.addEventListener("abort", () => quit.abort());
  const restore = readKeys((key) => {
    if (key === "q" || key === "\u0003" || key === "\u001b") quit.abort();
  });
  // The alternate screen, so that what was on the terminal before is there again afterwards.
  terminal.out("\u001b[?1049h\u001b[?25l");
  try {
    let edges: readonly EdgeStats[] = [];
    let away = "";
    while (!quit.signal.aborted) {
      try {
        edges = await ask();
        away = "";
      } catch (error) {
        if (!(error instanceof Unreachable)) throw error;
        away = error.message;
      }
      terminal.out(screen(edges, away, windowSeconds, order, everywhere ? undefined : namespace, terminal));
      await sleep(refreshMs, quit.signal);
    }
  } finally {
    terminal.out("\u001b[?25h\u001b[?1049l");
    restore();
  }
  return 0;
}

export function sorted(edges: readonly EdgeStats[], order: Order): readonly EdgeStats[] {
  const name = (e: EdgeStats) => `${e.source.namespace}/${e.source.app}/${e.destination.namespace}/${e.destination.app}`;
  const rate = (e: EdgeStats) => e.requestsPerSecond + e.bytesPerSecond / 1e9;
  const key: Readonly<Record<Order, (e: EdgeStats) => number>> = {
    rate,
    errors: (e) => (e.successRatio === null ? -1 : (1 - e.successRatio) * e.requestsPerSecond),
    p50: (e) => e.p50Ms ?? -1,
    p99: (e) => e.p99Ms ?? -1,
    name: () => 0,
  };
  return [...edges].sort((a, b) => key[order](b) - key[order](a) || rate(b) - rate(a) || name(a).localeCompare(name(b)));
}

/** `columns`: of the terminal it has to fit; absent: never cut. */
export function edgeTable(edges: readonly EdgeStats[], colour: boolean, columns?: number): string {
  const namespaces = new Set(edges.flatMap((e) => [e.source.namespace, e.destination.namespace]));
  const end = (app: string, namespace: string) => (namespaces.size > 1 && namespace !== "" ? `${app}.${namespace}` : app);
  const header = ["SOURCE", "DESTINATION", "PROTOCOL", "RATE", "SUCCESS", "P50", "P99", "TRAFFIC", "MTLS"];
  const right = (text: string): CellLike => ({ text, right: true });
  const rows = edges.map((e): CellLike[] => {
    const tcp = e.protocol === "tcp";
    const ratio = e.successRatio;
    return [
      end(e.source.app, e.source.namespace),
      end(e.destination.app, e.destination.namespace),
      e.protocol,
      right(tcp ? `${e.openConnections} open` : `${short(e.requestsPerSecond)}/s`),
      { text: percent(ratio), right: true, tone: ratio === null ? "dim" : ratio >= 0.999 ? "green" : ratio >= 0.95 ? "yellow" : "red" },
      right(tcp ? "-" : milliseconds(e.p50Ms)),
      right(tcp ? "-" : milliseconds(e.p99Ms)),
      right(`${bytes(e.bytesPerSecond)}/s`),
      mutualTlsCell(e.mutualTls),
    ];
  });
  return table(header, rows, colour, columns === undefined ? undefined : { columns, drop: ["TRAFFIC", "PROTOCOL", "P50"] });
}

/** Of what nobody sent nothing is said. */
function mutualTlsCell(mutualTls: boolean | null): CellLike {
  if (mutualTls === null) return { text: "-", tone: "dim" };
  return mutualTls ? { text: "yes", tone: "green" } : { text: "no", tone: "red" };
}

function screen(
  edges: readonly EdgeStats[],
  away: string,
  windowSeconds: number,
  order: Order,
  namespace: string | undefined,
  terminal: Invocation["terminal"],
): string {
  const { colour, columns, rows } = terminal;
  const total = edges.reduce((sum, e) => sum + e.requestsPerSecond, 0);
  const place = namespace === undefined ? "all namespaces" : `namespace ${namespace}`;
  const title = `weft top  ${edges.length} ${edges.length === 1 ? "edge" : "edges"}, ${short(total)} requests/s, ${place}, last ${windowSeconds} s, by ${order}`;
  const lines = [paint(colour, "bold", title.slice(0, columns)), ""];
  if (away !== "") lines.push(paint(colour, "red", away.slice(0, columns)), "");
  if (edges.length === 0) lines.push(away === "" ? "no traffic yet" : "");
  else lines.push(...edgeTable(edges, colour, columns).trimEnd().split("\n"));
  const room = Math.max(3, rows - 2);
  const shown = lines.length > room ? [...lines.slice(0, room - 1), paint(colour, "dim", `… ${lines.length - room + 1} more`)] : lines;
  // Overwrite line by line instead of clearing first: no flicker.
  return `\u001b[H${shown.map((l) => `${l}\u001b[K`).join("\n")}\n\u001b[J${paint(colour, "dim", "q quits")}`;
}

/** Single keys without Enter; answers how to undo it. */
function readKeys(onKey: (key: string) => void): () => void {
  const { stdin } = process;
  if (!stdin.isTTY) return () => undefined;
  const listen = (chunk: Buffer) => onKey(chunk.toString());
  stdin.setRawMode(true);
  stdin.resume();
  stdin.on("data", listen);
  return () => {
    stdin.off("data", listen);
    stdin.setRawMode(false);
    stdin.pause();
  };
}

async function sleep(ms: number, signal: AbortSignal): Promise<void> {
  const done = Promise.withResolvers<void>();
  const timer = setTimeout(done.resolve, ms);
  signal.addEventListener("abort", () => done.resolve(), { once: true });
  await done.promise;
  clearTimeout(timer);
}
