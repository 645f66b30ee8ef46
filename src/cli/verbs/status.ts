// Owns: `weft status`: is every proxy connected and in step with the control plane, and if not, why.

import type { ProxyObject, XdsTypeName } from "../../api/live.ts";
import type { Condition, KubeObject } from "../../api/meta.ts";
import { CliFailure } from "../failure.ts";
import { ageOf, type CellLike, printed, table } from "../output.ts";
import { openSession } from "../session.ts";
import { paint, type Terminal } from "../terminal.ts";
import type { Invocation } from "../verb.ts";

const types: readonly XdsTypeName[] = ["cluster", "endpoint", "listener", "route"];

export async function run(invocation: Invocation): Promise<number> {
  const { args, terminal, stop } = invocation;
  const { client, namespace } = openSession(invocation);
  const everywhere = args.on("all-namespaces") || !args.on("namespace");
  const [only] = args.operands;
  const place = everywhere ? "" : `/namespaces/${encodeURIComponent(namespace)}`;
  const waitMs = args.durationMs("wait") ?? 0;
  const end = performance.now() + waitMs;
  let proxies: ProxyObject[];
  let down: readonly Down[];
  for (;;) {
    const [list, entries] = await Promise.all([
      client.json<{ items: ProxyObject[] }>(`/apis/weft.dev/v1alpha1${place}/proxies`, { signal: stop }),
      client.json<{ items: KubeObject[] }>(`/apis/networking.istio.io/v1${place}/workloadentries`, { signal: stop }),
    ]);
    // The control plane remembers lost proxies for a while. Of an instance that has been unregistered that is no news.
    const expected = new Set(entries.items.map(({ metadata }) => `${metadata.namespace}/${metadata.name}`));
    const known = list.items.filter(({ metadata, status: s }) => s.connected || expected.has(`${metadata.namespace}/${metadata.name}`));
    proxies = known.filter((p) => only === undefined || p.metadata.name === only);
    down = sidecarsDown(entries.items).filter(({ name }) => only === undefined || name === only);
    if (only !== undefined && proxies.length === 0)
      throw new CliFailure(`no proxy "${only}" is known${everywhere ? "" : ` in namespace ${namespace}`}`);
    if (faults(proxies).length === 0 || performance.now() >= end) break;
    await Bun.sleep(50);
  }
  const wrong = faults(proxies);
  const status = args.on("check") && wrong.length > 0 ? 1 : 0;
  if (await printed(terminal, args.text("output"), { ...summary(proxies), sidecarsDown: down })) return status;
  show(terminal, proxies, everywhere, down);
  return status;
}

/** An instance whose sidecar has ended and is being started again, as its `weft run` has told. */
interface Down {
  readonly name: string;
  readonly namespace: string;
  readonly since: string;
  /** Also what becomes of its explicit upstreams meanwhile. */
  readonly message: string;
}

function sidecarsDown(entries: readonly KubeObject[]): readonly Down[] {
  return entries.flatMap(({ metadata, status }) => {
    const { conditions = [] } = (status ?? {}) as { readonly conditions?: readonly Condition[] };
    const told = conditions.find(({ type, reason }) => type === "Healthy" && reason === "SidecarDown");
    if (told === undefined) return [];
    return [
      { name: metadata.name, namespace: metadata.namespace ?? "", since: told.lastTransitionTime ?? "", message: told.message ?? "" },
    ];
  });
}

/** What --check fails on. A rejection that a later version has healed is history: the proxy is in step again. */
export function faults(proxies: readonly ProxyObject[]): readonly ProxyObject[] {
  return proxies.filter((p) => !p.status.connected || !p.status.synced);
}

function summary(proxies: readonly ProxyObject[]) {
  return {
    connected: proxies.filter((p) => p.status.connected).length,
    synced: proxies.filter((p) => p.status.connected && p.status.synced).length,
    rejecting: proxies.filter((p) => p.status.lastRejection !== null && !p.status.synced).length,
    proxies: proxies.map((p) => ({ name: p.metadata.name, namespace: p.metadata.namespace, ...p.status })),
  };
}

function show(terminal: Terminal, proxies: readonly ProxyObject[], everywhere: boolean, down: readonly Down[]): void {
  if (proxies.length === 0) {
    terminal.err("no proxy is connected; start an instance with: weft run --service NAME --port PORT -- COMMAND\n");
    return;
  }
  const now = Date.now();
  const oneNamespace = new Set(proxies.map((p) => p.metadata.namespace)).size === 1;
  const header = [
    ...(everywhere ? ["NAMESPACE"] : []),
    "PROXY",
    "CONNECTED",
    "SYNCED",
    ...types.map((t) => `${t.toUpperCase()}S`),
    "AGENT",
  ];
  const rows = proxies.map((proxy): CellLike[] => {
    const { connected, synced, agent, connectedAt, lastRejection } = proxy.status;
    const state: CellLike =
      lastRejection !== null && !synced
        ? { text: "REJECTED", tone: "red" }
        : !connected
          ? { text: "-", tone: "dim" }
          : synced
            ? { text: "yes", tone: "green" }
            : { text: "pending", tone: "yellow" };
    return [
      ...(everywhere ? [proxy.metadata.namespace ?? ""] : []),
      proxy.metadata.name,
      connected ? { text: ageOf(connectedAt, now), tone: "green" } : { text: "no", tone: "red" },
      state,
      ...types.map((type) => typeCell(proxy, type)),
      agent,
    ];
  });
  terminal.out(
    table(
      header,
      rows,
      terminal.colour,
      terminal.interactive
        ? {
            columns: terminal.columns,
            drop: ["AGENT", ...(oneNamespace ? ["NAMESPACE"] : []), "ROUTES", "CLUSTERS", "ENDPOINTS", "LISTENERS"],
          }
        : undefined,
    ),
  );
  for (const { metadata, status } of proxies) {
    const rejection = status.lastRejection;
    if (rejection === null || status.synced) continue;
    const accepted = rejection.type === "host" ? "" : (status.types[rejection.type]?.accepted ?? "");
    const kept = accepted === "" || accepted === rejection.version ? "what it had" : shortVersion(accepted);
    const what = `${rejection.type} ${shortVersion(rejection.version)}`;
    const head = `${metadata.namespace}/${metadata.name} rejected ${what} ${ageOf(rejection.at, now)} ago and serves on with ${kept}:`;
    terminal.out(`\n${paint(terminal.colour, "red", head)}\n${rejection.reason.trim().replace(/^/gm, "  ")}\n`);
  }
  for (const { metadata, status } of proxies) {
    const who = `${metadata.namespace}/${metadata.name}`;
    const says = (words: string) => terminal.out(`\n${paint(terminal.colour, "yellow", who)} ${words}\n`);
    for (const { cluster, endpoint, workload, reason } of status.ejected ?? [])
      says(`has taken ${workload ?? endpoint} out of its balance: ${reason} (${cluster}, ${endpoint})`);
    for (const { cluster, limit } of status.openCircuits ?? []) says(`refuses requests to ${cluster}: ${limit} is reached`);
  }
  for (const { metadata, status } of proxies) {
    const who = `${metadata.namespace}/${metadata.name}`;
    for (const { type, name, version, reason } of status.quarantine ?? [])
      terminal.out(`\n${who} is not offered ${type} ${name} ${shortVersion(version)} again until it changes: ${reason.trim()}\n`);
    for (const { subject, message, refused } of status.notEnforced ?? [])
      terminal.out(`\n${paint(terminal.colour, "yellow", `${who}, ${subject}:`)} ${message}${refused ? "; such calls are refused" : ""}\n`);
    for (const type of status.unknownTypes ?? []) terminal.out(`\n${who} asks for ${type}, which is not served here\n`);
  }
  for (const { namespace, name, since, message } of down)
    terminal.out(`\n${paint(terminal.colour, "yellow", `${namespace}/${name}`)} has no sidecar since ${ageOf(since, now)}: ${message}\n`);
  const connected = proxies.filter((p) => p.status.connected).length;
  const wrong = faults(proxies).length;
  const line = wrong === 0 ? `${connected} connected, all in step` : `${connected} of ${proxies.length} connected, ${wrong} not in step`;
  terminal.out(`\n${paint(terminal.colour, wrong === 0 ? "green" : "yellow", line)}\n`);
}

/** `12 3f9ac1`: so many resources, in the version accepted; `3f9ac1 → 77b0e2` while an answer is awaited. */
function typeCell(proxy: ProxyObject, type: XdsTypeName): CellLike {
  const state = proxy.status.types[type] as ProxyObject["status"]["types"][XdsTypeName] | undefined;
  if (state === undefined || (state.accepted === "" && state.sent === "")) return { text: "-", tone: "dim" };
  if (state.accepted === state.sent) return `${state.resources} ${shortVersion(state.accepted)}`;
  return { text: `${shortVersion(state.accepted) || "none"} → ${shortVersion(state.sent)}`, tone: "yellow" };
}

function shortVersion(version: string): string {
  return version.slice(0, 6);
}
