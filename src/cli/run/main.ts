// Owns: `weft run` from flags to exit status: the order of things, and what each signal does. The parts are in the files beside it.
// Never imports what only the other verbs need: this process stays for as long as the application runs.

import { readFileSync } from "node:fs";
import { constants } from "node:os";
import { join as joinPath } from "node:path";
import type { KubeObject } from "../../api/meta.ts";
import { bunCommand, proxyCommand } from "../../base/built.ts";
import { type Clock, systemClock } from "../../base/clock.ts";
import { packageRoot } from "../../base/root.ts";
import { ApiFailure, type Client } from "../client.ts";
import { CliFailure, reasonOf, UsageFailure } from "../failure.ts";
import { kubeconfigPath } from "../kubeconfig.ts";
import { parse } from "../parse.ts";
import { verbNamed } from "../verbs.ts";
import { bootstrapFor } from "./bootstrap.ts";
import { answers, environmentFor, findCommand, ownerOf, takesDatagrams, untilAnswers } from "./command.ts";
import { withheldFrom } from "./datagrams.ts";
import { Fallback } from "./fallback.ts";
import { descendants, endLeftovers } from "./family.ts";
import { runArguments } from "./gateway.ts";
import { withGroup } from "./group.ts";
import { type Guard, startGuard } from "./guard.ts";
import { AppHealth, askOnce } from "./health.ts";
import { type Joined, join, type Who } from "./join.ts";
import { instanceKey, type Memory, takeMemory } from "./memory.ts";
import { type ChosenPort, choosePort, labelsFor, newEntry, newService, selectionFault } from "./objects.ts";
import { type Place, PortTaken, takePlace, writePrivate } from "./place.ts";
import { entryName, type Plan, planFrom } from "./plan.ts";
import { workersFor } from "./proxyconfig.ts";
import { Registration } from "./registration.ts";
import { isTerminal, type Say, stderrSay } from "./say.ts";
import { Sidecar } from "./sidecar.ts";
import { tellClosedUpstreams } from "./upstreams.ts";

/** How long peers may take to learn that this instance ends, before COMMAND is told: a change is in force everywhere within 200 ms. */
const learnMs = 250;
/** The end never hangs on a control plane that is away. */
const unregisterLimitMs = 2000;
/** The guard of a killed run tries to unregister for so long, and ends the sidecar after that. */
const leavingMs = 20_000;

/** Signals that are COMMAND's business alone. */
const passedOn = ["SIGHUP", "SIGUSR1", "SIGUSR2", "SIGWINCH", "SIGQUIT"] as const;
/** For us: replace the sidecar. One that COMMAND has no use for, and that does nothing to a program that does not know it. */
const replacing = "SIGURG";
const ending = ["SIGINT", "SIGTERM"] as const;
type Ending = (typeof ending)[number];

/** First argument that makes the rest those of `weft gateway`. */
const asGateway = "__gateway";

export async function main(argv: readonly string[]): Promise<number> {
  const env = process.env;
  let say = stderrSay(false, env);
  try {
    const spec = verbNamed("run");
    if (spec === undefined) throw new Error("the table of verbs has no run");
    const args = parse(spec, argv[0] === asGateway ? runArguments(argv.slice(1)) : argv);
    const plan = planFrom(args);
    say = stderrSay(plan.quiet, env);
    const status = await supervise(plan, kubeconfigPath(args.text("kubeconfig"), env), say, systemClock);
    // At once: a registration that could not be taken back is still being tried, and would keep this process.
    return process.exit(status);
  } catch (error) {
    if (error instanceof UsageFailure) {
      say.error(`${error.message}\nweft run --help has flags and examples.`);
      return process.exit(2);
    }
    const causes =
      error instanceof ApiFailure ? error.causes.map((c) => `\n  ${c.field}${c.field === "" ? "" : ": "}${c.message}`).join("") : "";
    if (error instanceof CliFailure) say.error(error.message + causes);
    else say.error(`this is a fault in weft itself: ${error instanceof Error ? error.stack : String(error)}`);
    return process.exit(error instanceof CliFailure ? error.status : 1);
  }
}

async function supervise(asked: Plan, kubeconfig: string, say: Say, clock: Clock): Promise<number> {
  const began = clock.mono();
  const env = process.env;
  const program = findCommand(asked.command[0], env, process.cwd());
  await refusePort(asked);
  keepLoopbackDirect();

  // From here on a signal ends this in good order instead of at once.
  const signals = new Signals();
  let place: Place | undefined;
  let guard: Guard | undefined;
  let sidecar: Sidecar | undefined;
  let registration: Registration | undefined;
  let child: Bun.Subprocess | undefined;
  let memory: Memory | undefined;
  let health: AppHealth | undefined;
  let fallback: Fallback | undefined;
  // The flags; with a group, those and what it says, once it has been read.
  let plan = asked;
  try {
    const remember = (who: Pick<Who, "access" | "namespace" | "asked">): Memory | undefined => {
      memory ??= takeMemory(instanceKey(asked, who.namespace, who.asked, who.access.server), env, clock.now());
      return memory;
    };
    const joining = join(
      asked,
      kubeconfig,
      say,
      () => clock.mono(),
      signals.stop,
      (who) => {
        const last = remember(who)?.last;
        if (last === undefined || (asked.group !== undefined && last.template === undefined)) return undefined;
        return { ...who.as(last.serviceAccount), mesh: last, last, template: last.template };
      },
    );
    joining.catch(() => undefined); // a signal may win the race and nobody look at it again
    const joined = await Promise.race([joining, signals.ended]);
    if (joined === "SIGINT" || joined === "SIGTERM") return 128 + constants.signals[joined];
    const { client, namespace, serviceAccount, last } = joined;
    remember(joined);
    if (joined.template !== undefined) plan = withGroup(asked, joined.template);
    if (plan.port !== asked.port) await refusePort(plan);
    const whenUp = plan.port === undefined ? "running" : "healthy";
    const told = last === undefined ? await toldWorkers(plan, joined, say) : last.workers;
    const workers = plan.workers ?? told;
    // Away: the certificate in the snapshot speaks for the sidecar; a token is fetched when it is back.
    const token = last === undefined ? await joined.token() : "";
    const reserved = new Set([...(plan.port === undefined ? [] : [plan.port]), ...plan.upstreams.map((u) => u.localPort)]);
    const take = (): Place => takePlace(plan.address, reserved, env, Math.random, clock.now(), last?.ports);
    place = last === undefined ? take() : await takeAgain(take, clock, signals.stop);
    const { dir, ports } = place;
    for (const upstream of plan.upstreams) {
      if (upstream.transport === "udp") {
        if (takesDatagrams("127.0.0.1", upstream.localPort) === true)
          throw new CliFailure(
            `--upstream ${upstream.service}=${upstream.localPort}/udp: 127.0.0.1:${upstream.localPort} is taken already; take another port`,
          );
        continue;
      }
      if (await answers("127.0.0.1", upstream.localPort)) {
        throw new CliFailure(
          `--upstream ${upstream.service}=${upstream.localPort}: ${ownerOf(upstream.localPort)} answers on 127.0.0.1:${upstream.localPort} already; take another port`,
        );
      }
    }

    const chosen =
      last !== undefined
        ? last.chosen
        : plan.port === undefined
          ? undefined
          : await ensureService(client, { ...plan, port: plan.port }, namespace, say);
    if (chosen?.protocol === "udp" && plan.protocol === undefined && plan.port !== undefined) refuseTaken(plan.address, plan.port);
    const name = last?.name ?? entryName(plan.service, plan.version, Math.random);
    const facts = {
      name,
      namespace,
      serviceAccount,
      chosen,
      inboundPort: ports.inbound,
      httpProxyPort: ports.httpProxy,
      adminPort: ports.admin,
    };
    registration = new Registration(client, clock, say, namespace, newEntry(plan, facts));
    const root = packageRoot();
    const registrationFile = joinPath(dir, "registration.json");
    writePrivate(registrationFile, JSON.stringify({ access: client.access, path: registration.path, lock: memory?.lock }));
    guard = startGuard(
      [...bunCommand(joinPath(root, "src/main.ts")), "__unregister", registrationFile],
      dir,
      place.locks,
      ownEnvironment(env),
    );
    if (last === undefined) {
      await registration.create();
      memory?.forget();
    } else registration.createLater();

    const files = writeSidecarFiles(plan, joined, place, name, token);
    fallback = makeFallback(plan, dir, clock, say);
    const direct = fallback;
    sidecar = new Sidecar(
      {
        get command() {
          return [
            ...proxyCommand(root),
            "--bootstrap",
            files.bootstrap,
            "--token-file",
            files.token,
            "--drain-seconds",
            String(plan.drainMs / 1000),
            ...handoverFlags(dir),
            ...(workers === undefined ? [] : ["--workers", workers]),
            ...(plan.workloadApi ? ["--workload-api", workloadSocket(dir)] : []),
            ...(memory === undefined ? [] : ["--snapshot", memory.snapshot]),
            ...(direct === undefined ? [] : ["--direct-table", directTable(dir)]),
          ];
        },
        env: ownEnvironment(env),
        adminPort: ports.admin,
        verbose: plan.verbose,
        called: plan.gateway === undefined ? "sidecar" : "gateway",
        refresh: async () => {
          try {
            writePrivate(files.token, await joined.token());
          } catch (error) {
            say.warn(`no fresh join token: ${reasonOf(error)}`);
          }
        },
        wanted: () => !signals.stop.aborted,
        onProcess: (pid) => guard?.tell("sidecar", pid),
        onServing: (serves) => {
          if (serves) direct?.up();
          else void direct?.down();
        },
        onHealth: (up) => {
          if (answering && !signals.stop.aborted)
            registration?.want(!up ? "sidecar-down" : well ? whenUp : "unhealthy", up ? "" : (direct?.note ?? ""));
        },
      },
      clock,
      say,
    );
    let answering = false;
    let well = true;
    const starting = sidecar.start();
    starting.catch(() => undefined); // a signal may win the race and nobody look at it again
    const sidecarMs = await Promise.race([starting, signals.ended]);
    if (sidecarMs === "SIGINT" || sidecarMs === "SIGTERM") return 128 + constants.signals[sidecarMs];
    memory?.keep({ name, namespace, serviceAccount, ports, chosen, template: joined.template, workers: told, ...joined.mesh });
    if (last !== undefined) void freshToken(joined, files.token, signals.stop);
    const replaced = sidecar;
    signals.onReplace(() => void replaced.replace().then((what) => say.info(what)));
    if (plan.gateway !== undefined)
      say.info(`${name} serves Gateway ${namespace}/${plan.gateway} at ${plan.address}, ready after ${Math.round(sidecarMs)} ms`);
    else
      say.info(
        `${name} in ${namespace} has a sidecar, ready after ${Math.round(sidecarMs)} ms: ${chosen === undefined ? "" : chosen.protocol === "udp" ? `datagrams go to COMMAND itself at ${plan.address}:${plan.port}, ` : `peers dial ${plan.address}:${ports.inbound}, `}COMMAND calls through HTTP_PROXY=http://127.0.0.1:${ports.httpProxy}`,
      );

    tellClosedUpstreams(client, namespace, plan.upstreams, clock, say);
    child = startCommand(plan, program, ports.httpProxy, dir);
    guard.tell("command", child.pid);
    const running = child;
    signals.attach((signal) => running.kill(signal));

    const stopWaiting = new AbortController();
    const up = untilReady(plan, chosen, clock, say, stopWaiting.signal);
    const waiting = up.then(async (ready) => {
      const { check } = plan;
      if (!ready) return;
      if (check !== undefined) {
        const first = Promise.withResolvers<void>();
        health = new AppHealth(
          check,
          clock,
          () => askOnce(check, plan.port ?? 0),
          (now, problem) => {
            well = now;
            first.resolve();
            if (!answering || signals.stop.aborted) return;
            if (now) say.info("COMMAND passes its health checks again");
            else say.warn(`COMMAND fails its health checks, and gets no requests until it passes: ${problem}`);
            registration?.want(now ? whenUp : "unhealthy", now ? "" : problem);
          },
        );
        health.start();
        await first.promise;
        if (stopWaiting.signal.aborted) return;
      }
      answering = true;
      registration?.want(whenUp);
      registration?.watch();
      void registration?.settled(60_000).then((done) => {
        // Nothing more is to be done for a long time: give back what the start needed.
        clock.after(3000, () => Bun.gc(true));
        if (done && running.exitCode === null && plan.gateway === undefined)
          say.info(
            `registered ${name} ${Math.round(clock.mono() - began)} ms after the start: ${chosen === undefined ? "it only calls others" : `${plan.service}.${namespace} port ${chosen.port} (${chosen.protocol}) leads to ${chosen.protocol === "udp" ? plan.address : "127.0.0.1"}:${plan.port}`}`,
          );
        if (chosen?.protocol === "udp")
          void withheldFrom(client, namespace, plan.service, name).then((why) => why !== undefined && say.warn(why));
      });
    });
    const tooLate = waiting.then(
      () => new Promise<never>(() => {}),
      (error: unknown) => error as CliFailure,
    );

    const first = await Promise.race([running.exited.then(() => "exited" as const), signals.ended, tooLate]);
    stopWaiting.abort();
    if (first instanceof CliFailure) {
      running.kill("SIGTERM");
      await running.exited;
      throw first;
    }
    if (first !== "exited") {
      registration.want("draining");
      const told = await Promise.race([registration.settled(unregisterLimitMs / 2), running.exited.then(() => false)]);
      if (told) await Promise.race([running.exited, Bun.sleep(learnMs)]);
      if (running.exitCode === null && plan.gateway === undefined)
        say.info(`${told ? `peers have been told that ${name} ends; ` : ""}telling COMMAND to end (${first})`);
      // The program of a gateway is nobody's business: it only lasts.
      if (plan.gateway !== undefined)
        say.info(
          `${name} ends (${first}): Gateway ${namespace}/${plan.gateway} closes its ports here, open requests have ${plan.drainMs / 1000} s`,
        );
      const family = descendants(running.pid);
      signals.release(first);
      await running.exited;
      const left = await endLeftovers(family);
      if (left > 0) say.info(`COMMAND ended and left ${left} of its own processes behind; told them to end too`);
    }
    const status = exitStatus(running);
    if (first === "exited")
      say.info(
        `COMMAND ended ${running.signalCode === null ? `with status ${running.exitCode}` : `by ${running.signalCode}`}; unregistering ${name}`,
      );
    return status;
  } finally {
    health?.stop();
    signals.finish();
    if (registration !== undefined) {
      const away = registration.away;
      registration.want("gone");
      const done = await registration.settled(away ? unregisterLimitMs / 2 : unregisterLimitMs);
      if (!done)
        say.warn(
          `the control plane did not answer within ${unregisterLimitMs / 1000} s; ${registration.path.split("/").at(-1)} stays registered there until it finds the sidecar gone`,
        );
    }
    fallback?.stop();
    await sidecar?.stop(plan.drainMs);
    guard?.dismiss();
    place?.leave();
    memory?.leave();
    signals.close();
  }
}

/** The ports of the run before: what was killed a moment ago may still be ending. */
async function takeAgain(take: () => Place, clock: Clock, stop: AbortSignal): Promise<Place> {
  for (const end = clock.mono() + leavingMs; ; ) {
    try {
      return take();
    } catch (error) {
      if (!(error instanceof PortTaken) || clock.mono() > end || stop.aborted) throw error;
      await Bun.sleep(100);
    }
  }
}

/** The sidecar's token, once the control plane is back: it needs one when its certificate has expired meanwhile. */
async function freshToken(joined: Joined, file: string, stop: AbortSignal): Promise<void> {
  for (let delayMs = 500; !stop.aborted; delayMs = Math.min(10_000, delayMs * 2)) {
    try {
      writePrivate(file, await joined.token());
      return;
    } catch {
      // Away still, which the registration tells of.
      await Bun.sleep(delayMs);
    }
  }
}

/** Gets the Service or makes it, and says which of its ports this instance answers. */
async function ensureService(client: Client, plan: Plan & { readonly port: number }, namespace: string, say: Say): Promise<ChosenPort> {
  const collection = `/api/v1/namespaces/${namespace}/services`;
  const get = () => client.json<KubeObject>(`${collection}/${plan.service}`);
  let service: KubeObject | undefined;
  try {
    service = await get();
  } catch (error) {
    if (!(error instanceof ApiFailure) || error.code !== 404) throw error;
    try {
      service = await client.json<KubeObject>(collection, { method: "POST", body: newService(plan, namespace) });
    } catch (raced) {
      // Another instance of the same service was a moment faster.
      if (!(raced instanceof ApiFailure) || raced.code !== 409) throw raced;
      service = await get();
    }
  }
  const fault = selectionFault(service, labelsFor(plan));
  if (fault !== undefined) say.warn(fault);
  return choosePort(service, plan);
}

/** COMMAND is to have its port. */
async function refusePort({ port, protocol, address }: Plan): Promise<void> {
  if (port === undefined) return;
  if (protocol === "udp") refuseTaken(address, port);
  else if (await answers("127.0.0.1", port))
    throw new CliFailure(
      `port ${port} is taken: ${ownerOf(port)} answers on 127.0.0.1:${port} already. End it, or give COMMAND another port; nothing was started.`,
    );
}

/** What ProxyConfigs say of the sidecar; not asked where a flag does. */
function toldWorkers(plan: Plan, { client, namespace }: Joined, say: Say): Promise<string | undefined> | undefined {
  return plan.workers === undefined ? workersFor(client, namespace, labelsFor(plan), say) : undefined;
}

function refuseTaken(address: string, port: number): void {
  if (takesDatagrams(address, port) === true)
    throw new CliFailure(
      `UDP port ${port} is taken: another process takes datagrams at ${address}:${port} already. End it, or give COMMAND another port; nothing was started.`,
    );
}

function writeSidecarFiles(plan: Plan, joined: Joined, place: Place, entry: string, token: string): { bootstrap: string; token: string } {
  const { mesh, namespace, serviceAccount } = joined;
  const files = { bootstrap: joinPath(place.dir, "bootstrap.json"), token: joinPath(place.dir, "token") };
  const bootstrap = bootstrapFor({
    locality: plan.locality,
    namespace,
    entry,
    service: plan.service,
    serviceAccount,
    trustDomain: mesh.trustDomain,
    labels: labelsFor(plan),
    xdsAddress: mesh.xdsAddress,
    caBundle: mesh.caBundle,
    adminPort: place.ports.admin,
  });
  writePrivate(files.bootstrap, `${JSON.stringify(bootstrap, null, 2)}\n`);
  writePrivate(files.token, token);
  return files;
}

/** Where a new version of the sidecar takes this one's place; nothing where that cannot be. */
function handoverFlags(dir: string): string[] {
  const path = joinPath(dir, "sidecar.sock");
  // The kernel's limit for the name of a socket.
  return process.platform === "linux" && Buffer.byteLength(path) <= 107 ? ["--handover", path] : [];
}

/** undefined: it is not wanted, there is nothing to lead, or the ports could not be handed back. */
function makeFallback(plan: Plan, dir: string, clock: Clock, say: Say): Fallback | undefined {
  const ports = plan.upstreams.filter((one) => one.transport === "tcp").map((one) => one.localPort);
  const [, handover] = handoverFlags(dir);
  if (!plan.direct || handover === undefined || ports.length === 0) return undefined;
  return new Fallback({ table: directTable(dir), handover, ports }, clock, say);
}

const directTable = (dir: string): string => joinPath(dir, "direct.json");

const workloadSocket = (dir: string): string => joinPath(dir, "workload.sock");

function startCommand(plan: Plan, program: string, httpProxyPort: number, dir: string): Bun.Subprocess {
  try {
    return Bun.spawn([program, ...plan.command.slice(1)], {
      argv0: plan.command[0],
      stdin: "inherit",
      stdout: "inherit",
      stderr: "inherit",
      env: {
        ...environmentFor(plan, httpProxyPort, process.env),
        ...(plan.workloadApi ? { SPIFFE_ENDPOINT_SOCKET: `unix://${workloadSocket(dir)}` } : {}),
      },
    });
  } catch (error) {
    throw new CliFailure(`${plan.command[0]} cannot be started: ${reasonOf(error)}`, 126);
  }
}

/** True when the port answers (at once when there is none), false when `stop` fired first; throws at --ready-timeout. */
async function untilReady(plan: Plan, chosen: ChosenPort | undefined, clock: Clock, say: Say, stop: AbortSignal): Promise<boolean> {
  const { port } = plan;
  if (port === undefined) return true;
  const udp = chosen?.protocol === "udp";
  const host = udp ? plan.address : "127.0.0.1";
  // Where the system does not say who has bound what, COMMAND is taken at its word that it runs.
  const probe = () => (udp ? takesDatagrams(host, port) !== false : answers(host, port));
  const late = new AbortController();
  const timer = plan.readyTimeoutMs === undefined ? undefined : setTimeout(() => late.abort(), plan.readyTimeoutMs);
  const elsewhere = async () =>
    !udp && (await answers("::1", port)) ? ` It does answer on [::1]:${port}: make COMMAND listen on 127.0.0.1 (or on all addresses).` : "";
  const ready = await untilAnswers(
    probe,
    AbortSignal.any([stop, late.signal]),
    () => clock.mono(),
    (waitedMs) => {
      void elsewhere().then((hint) =>
        say.warn(
          `${host}:${port} ${udp ? "takes no datagrams" : "does not answer"} after ${Math.round(waitedMs / 1000)} s, so this instance is not registered yet.${hint}`,
        ),
      );
    },
  );
  clearTimeout(timer);
  if (!ready && !stop.aborted) {
    throw new CliFailure(
      `${host}:${port} ${udp ? "took no datagrams" : "did not answer"} within ${(plan.readyTimeoutMs ?? 0) / 1000} s (--ready-timeout); COMMAND was told to end.${await elsewhere()}`,
    );
  }
  return ready;
}

/**
 * Signals to this process. Before COMMAND runs, the first INT or TERM makes everything end; afterwards it begins the orderly end, and
 * `release` hands it on. A second one goes to COMMAND at once.
 */
class Signals {
  readonly ended: Promise<Ending>;
  readonly stop: AbortSignal;
  readonly #handlers: [NodeJS.Signals, () => void][] = [];
  #send: ((signal: NodeJS.Signals) => void) | undefined;
  #repeat: ReturnType<typeof setTimeout> | undefined;
  #replace: (() => void) | undefined;

  constructor() {
    const first = Promise.withResolvers<Ending>();
    const stop = new AbortController();
    this.ended = first.promise;
    this.stop = stop.signal;
    for (const signal of ending) {
      this.#on(signal, () => {
        if (stop.signal.aborted) this.#forward(signal);
        stop.abort();
        first.resolve(signal);
      });
    }
    for (const signal of passedOn) this.#on(signal, () => this.#forward(signal));
    this.#on(replacing, () => this.#replace?.());
  }

  /** What SIGURG does. */
  onReplace(replace: () => void): void {
    this.#replace = replace;
  }

  attach(send: (signal: NodeJS.Signals) => void): void {
    this.#send = send;
  }

  /** Peers know: COMMAND's turn. */
  release(signal: Ending): void {
    if (!typedOnTerminal(signal)) this.#send?.(signal);
    // The terminal has sent Ctrl-C to COMMAND itself; a second one would make many programs break off. Unless it was no Ctrl-C after all.
    else this.#repeat = setTimeout(() => this.#send?.(signal), 10_000);
  }

  /** COMMAND has ended, or never began. */
  finish(): void {
    clearTimeout(this.#repeat);
    this.#send = undefined;
  }

  close(): void {
    for (const [signal, handler] of this.#handlers) process.off(signal, handler);
  }

  #forward(signal: NodeJS.Signals): void {
    if (!typedOnTerminal(signal)) this.#send?.(signal);
  }

  #on(signal: NodeJS.Signals, handler: () => void): void {
    process.on(signal, handler);
    this.#handlers.push([signal, handler]);
  }
}

/** The terminal sends these to its whole foreground group, COMMAND included. */
function typedOnTerminal(signal: NodeJS.Signals): boolean {
  if (signal !== "SIGINT" && signal !== "SIGQUIT" && signal !== "SIGWINCH") return false;
  try {
    const fields = readFileSync("/proc/self/stat", "utf8")
      .replace(/^.*\) /s, "")
      .split(" ");
    return fields[2] === fields[5] && fields[5] !== "-1"; // process group = foreground group of the terminal
  } catch {
    return isTerminal(0); // no /proc
  }
}

/** As a shell reports it. */
function exitStatus(child: Bun.Subprocess): number {
  const signal = child.signalCode === null ? undefined : constants.signals[child.signalCode as keyof typeof constants.signals];
  return signal === undefined ? (child.exitCode ?? 1) : 128 + signal;
}

/** What the sidecar and the guard get of the environment: nothing of COMMAND's secrets, no proxies. */
function ownEnvironment(env: Readonly<Record<string, string | undefined>>): Record<string, string> {
  const result: Record<string, string> = {};
  for (const [name, value] of Object.entries(env)) {
    if (value !== undefined && (/^(PATH|HOME|TMPDIR|TZ|LANG|LC_.*|XDG_RUNTIME_DIR)$/.test(name) || name.startsWith("WEFT_")))
      result[name] = value;
  }
  return result;
}

/** The sidecar's admin port is asked directly, whatever proxies the user's environment names. */
function keepLoopbackDirect(): void {
  const now = process.env.NO_PROXY ?? process.env.no_proxy;
  process.env.NO_PROXY = now ? `${now},127.0.0.1` : "127.0.0.1";
  if (process.env.no_proxy !== undefined) process.env.no_proxy = process.env.NO_PROXY;
}
