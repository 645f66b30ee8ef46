// Owns: `weft shift`: finding the route and the backends that a user means, asking for the shift, and telling how it goes. Decides nothing: the control
// plane makes every step, whether somebody watches or not.

import type { KubeObject } from "../../api/meta.ts";
import { CliFailure, UsageFailure } from "../failure.ts";
import { printed } from "../output.ts";
import { openSession, type Session } from "../session.ts";
import type { Invocation } from "../verb.ts";

interface BackendRef {
  readonly kind?: string;
  readonly name: string;
  readonly weight?: number;
}

interface Route extends KubeObject {
  readonly spec: {
    readonly parentRefs?: readonly { readonly kind?: string; readonly name: string }[];
    readonly rules?: readonly { readonly backendRefs?: readonly BackendRef[] }[];
  };
}

interface Shift extends KubeObject {
  readonly spec: { readonly route: string; readonly to: string };
  readonly status?: {
    readonly phase: string;
    readonly percent: number;
    readonly message: string;
    readonly steps: readonly { readonly at: string; readonly percent: number; readonly message: string }[];
  };
}

const ended = ["Succeeded", "RolledBack", "Stopped"];
const lookMs = 300;

export async function run(invocation: Invocation): Promise<number> {
  const { args, terminal } = invocation;
  const session = openSession(invocation);
  const service = args.operands[0] as string;
  const paused = args.on("pause") ? true : args.on("resume") ? false : undefined;
  if (paused !== undefined) return hold(invocation, session, service, paused);
  const to = args.text("to");
  if (to === undefined)
    throw new UsageFailure(`weft shift ${service} needs --to VERSION or --to SERVICE: the backend that is to get the traffic`);
  const asked = {
    stepPercent: percent(args.text("by") ?? "10%", "by"),
    interval: args.text("every") ?? "1m",
    targetPercent: percent(args.text("target") ?? "100%", "target"),
    maxErrorRate: rate(args.text("until-error-rate") ?? "1%"),
    maxLatencyFactor: args.text("until-latency") ?? "1.5",
    minRequests: args.integer("min-requests", 1, 1_000_000) ?? 30,
  };
  const { route, from, backend } = await find(session, service, to, args.text("from"), args.text("route"));
  const shift = await session.client.json<Shift>(place(session), {
    method: "POST",
    body: {
      metadata: { generateName: `${backend.slice(0, 50)}-`, labels: { "weft.dev/service": service } },
      spec: {
        route,
        from,
        to: backend,
        ...asked,
      },
    },
  });
  const { name } = shift.metadata;
  if (args.on("no-wait")) {
    if (await printed(terminal, args.text("output"), shift)) return 0;
    terminal.out(
      `trafficshift/${name} moves ${route} from ${from} to ${backend}; see how it goes: weft describe shift ${name} -n ${session.namespace}\n`,
    );
    return 0;
  }
  return follow(invocation, session, name);
}

const place = (session: Session): string => `/apis/weft.dev/v1alpha1/namespaces/${encodeURIComponent(session.namespace)}/trafficshifts`;

async function follow({ args, terminal, stop }: Invocation, session: Session, name: string): Promise<number> {
  const format = args.text("output");
  const quiet = format !== undefined && format !== "text";
  let told = 0;
  let said = "";
  for (;;) {
    const shift = await session.client.json<Shift>(`${place(session)}/${encodeURIComponent(name)}`);
    const { status } = shift;
    if (status !== undefined && !quiet) {
      for (const step of status.steps.slice(told)) terminal.out(`${step.at.slice(11, 19)}  ${step.message}\n`);
      told = status.steps.length;
      if (status.message !== said && status.steps.at(-1)?.message !== status.message)
        terminal.out(`${new Date().toISOString().slice(11, 19)}  ${status.phase}: ${status.message}\n`);
      said = status.message;
    }
    if (status !== undefined && ended.includes(status.phase)) {
      await printed(terminal, format, shift);
      return status.phase === "Succeeded" ? 0 : 1;
    }
    if (stop.aborted) {
      const { name, namespace, labels } = shift.metadata;
      terminal.err(
        `# the shift goes on without this command; hold it: weft shift ${labels?.["weft.dev/service"] ?? ""} -n ${namespace} --pause; watch it: weft describe shift ${name} -n ${namespace}\n`,
      );
      return 130;
    }
    await Bun.sleep(lookMs);
  }
}

async function hold({ terminal }: Invocation, session: Session, service: string, paused: boolean): Promise<number> {
  const { items } = await session.client.json<{ items: Shift[] }>(
    `${place(session)}?labelSelector=${encodeURIComponent(`weft.dev/service=${service}`)}`,
  );
  const going = items.filter((each) => !ended.includes(each.status?.phase ?? ""));
  if (going.length === 0) throw new CliFailure(`no shift of ${service} is under way in namespace ${session.namespace}`);
  for (const { metadata } of going) {
    await session.client.json(`${place(session)}/${encodeURIComponent(metadata.name)}`, {
      method: "PATCH",
      contentType: "application/merge-patch+json",
      body: { spec: { paused } },
    });
    terminal.out(`trafficshift/${metadata.name} ${paused ? "is held" : "goes on"}\n`);
  }
  return 0;
}

/** The route that divides this service's traffic, and its two backends. Throws CliFailure with what there is. */
async function find(
  session: Session,
  service: string,
  to: string,
  from: string | undefined,
  wanted: string | undefined,
): Promise<{ readonly route: string; readonly from: string; readonly backend: string }> {
  const { items } = await session.client.json<{ items: Route[] }>(
    `/apis/gateway.networking.k8s.io/v1/namespaces/${encodeURIComponent(session.namespace)}/httproutes`,
  );
  const routes = items.filter((each) =>
    wanted === undefined
      ? (each.spec.parentRefs ?? []).some((parent) => parent.kind === "Service" && parent.name === service)
      : each.metadata.name === wanted,
  );
  if (routes.length === 0) {
    throw new CliFailure(
      wanted === undefined
        ? `no HTTPRoute in namespace ${session.namespace} is attached to Service ${service}; write one with both versions as backends, the new one with weight: 0 (docs/split-traffic.md)`
        : `there is no HTTPRoute ${wanted} in namespace ${session.namespace}`,
    );
  }
  const names = [to, `${service}-${to}`];
  for (const route of routes) {
    for (const { backendRefs = [] } of route.spec.rules ?? []) {
      const newer = backendRefs.find((ref) => names.includes(ref.name));
      if (newer === undefined) continue;
      const others = backendRefs.filter(
        (ref) => ref.name !== newer.name && (from === undefined || ref.name === from || ref.name === `${service}-${from}`),
      );
      const [older, second] = others;
      if (older === undefined) continue;
      if (second !== undefined)
        throw new CliFailure(
          `HTTPRoute ${route.metadata.name} has several other backends (${others.map((ref) => ref.name).join(", ")}); name one with --from`,
        );
      return { route: route.metadata.name, from: older.name, backend: newer.name };
    }
  }
  const there = [
    ...new Set(routes.flatMap((route) => (route.spec.rules ?? []).flatMap((rule) => (rule.backendRefs ?? []).map((ref) => ref.name)))),
  ];
  throw new CliFailure(
    `no rule of HTTPRoute ${routes.map((route) => route.metadata.name).join(", ")} has ${names.join(" or ")}${from === undefined ? "" : ` beside ${from}`} among its backends (they are: ${there.join(", ")}); add it with weight: 0`,
  );
}

function percent(text: string, flag: string): number {
  const [, digits] = /^(\d{1,3})%?$/.exec(text) ?? [];
  const value = Number(digits);
  if (digits === undefined || value < 1 || value > 100) throw new UsageFailure(`--${flag} takes 1% to 100%, not "${text}"`);
  return value;
}

function rate(text: string): string {
  if (!/^(100|\d{1,2}(\.\d{1,3})?)%?$/.test(text))
    throw new UsageFailure(`--until-error-rate takes a percentage such as 1% or 0.5%, not "${text}"`);
  return text.endsWith("%") ? text : `${text}%`;
}
