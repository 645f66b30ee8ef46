// Owns: the flags of `weft run` as one checked record. Pure; every refusal names flag, value and way out.

// The form of an upstream is checked here and not by api/kinds: that would bring every schema into a process that stays.
import type { Upstream } from "../../api/kinds/workloadentry.ts";
import { usesOthers } from "../../wire/names.ts";
import { UsageFailure } from "../failure.ts";
import type { Parsed } from "../parse.ts";
import type { Template } from "./group.ts";
import { type AppCheck, checkFrom } from "./health.ts";

/** What COMMAND speaks; the words are those of `appProtocol`. */
export type Protocol = "http" | "http2" | "grpc" | "tcp" | "udp";

export interface Plan {
  readonly service: string;
  /** Where COMMAND listens; undefined: it only calls others. */
  readonly port: number | undefined;
  /** Key of `port` in the Service, where a WorkloadGroup says it. */
  readonly portName: string | undefined;
  readonly version: string | undefined;
  /** The WorkloadGroup that the entry is made from. */
  readonly group: string | undefined;
  /** What it says, once it has been read. */
  readonly template: Template | undefined;
  /** undefined: what the credential or the kubeconfig says. */
  readonly namespace: string | undefined;
  readonly upstreams: readonly Upstream[];
  /** As the annotation has them. */
  readonly upstreamsText: string;
  /** As the annotation has them; empty = the whole mesh. */
  readonly usesText: string;
  /** undefined: what an existing Service says, else http. */
  readonly protocol: Protocol | undefined;
  readonly servicePort: number | undefined;
  readonly address: string;
  readonly serviceAccount: string | undefined;
  readonly portVariable: string | undefined;
  readonly waitMs: number;
  readonly readyTimeoutMs: number | undefined;
  readonly drainMs: number;
  /** Processes of the sidecar: a number or `auto`; undefined: one. */
  readonly workers: string | undefined;
  /** The sidecar opens the ports of this Gateway; peers dial no other. */
  readonly gateway: string | undefined;
  /** COMMAND is told where it gets the identity. */
  readonly workloadApi: boolean;
  /** host:port of control planes, separated by commas; undefined: those that the mesh names. */
  readonly control: string | undefined;
  /** How COMMAND is asked whether it is well; undefined: its port answering at the start is enough. */
  readonly check: AppCheck | undefined;
  /** `region/zone/sub-zone`, of which the later may be missing. */
  readonly locality: string | undefined;
  /** Explicit upstreams are led past a sidecar that is down, where policy allows plain text. */
  readonly direct: boolean;
  readonly quiet: boolean;
  readonly verbose: boolean;
  readonly command: readonly [string, ...string[]];
}

const serviceName = /^[a-z]([a-z0-9-]{0,61}[a-z0-9])?$/;
const dnsLabel = /^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/;
const labelValue = /^[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?$/;
const variableName = /^[A-Za-z_][A-Za-z0-9_]*$/;

export function planFrom(args: Parsed): Plan {
  const group = groupFrom(args);
  const service = args.text("service") ?? group;
  if (service === undefined) throw new UsageFailure("weft run needs --service NAME: the service that COMMAND is an instance of");
  shaped("service", service, serviceName, "lower-case letters, digits and -, begins with a letter, 63 at most");
  const port = args.integer("port", 1, 65535);
  if (port === undefined && group === undefined) {
    for (const flag of ["protocol", "service-port", "port-variable", "ready-timeout"]) {
      if (args.text(flag) !== undefined)
        throw new UsageFailure(`--${flag} needs --port PORT, the port that COMMAND listens on; without it COMMAND only calls others`);
    }
  }
  const version = args.text("version");
  if (version !== undefined) shaped("version", version, labelValue, "letters, digits, -, _ and ., 63 at most");
  const namespace = args.text("namespace");
  if (namespace !== undefined) shaped("namespace", namespace, dnsLabel, "lower-case letters, digits and -, 63 at most");
  const serviceAccount = args.text("service-account");
  if (serviceAccount !== undefined) shaped("service-account", serviceAccount, dnsLabel, "lower-case letters, digits and -, 63 at most");
  const portVariable = args.text("port-variable");
  if (portVariable !== undefined) shaped("port-variable", portVariable, variableName, "a name of an environment variable");
  const workers = args.text("workers");
  if (workers !== undefined)
    shaped("workers", workers, /^([1-9][0-9]?|1[01][0-9]|12[0-8]|auto)$/, "a number of processes from 1 to 128, or auto");
  const locality = args.text("locality");
  if (locality !== undefined) shaped("locality", locality, /^[\w.-]+(\/[\w.-]+){0,2}$/, "REGION, REGION/ZONE or REGION/ZONE/SUBZONE");
  const address = args.text("address") ?? "127.0.0.1";
  if (!isAddress(address)) throw new UsageFailure(`--address takes an IP address of this machine that peers can dial, not "${address}"`);
  const upstreams = args.list("upstream").map(parseUpstream);
  const twice = upstreams.find(
    (u, i) => upstreams.findIndex((other) => other.localPort === u.localPort && other.transport === u.transport) !== i,
  );
  if (twice !== undefined)
    throw new UsageFailure(`--upstream ${twice.service}=${twice.localPort}: local port ${twice.localPort} stands there twice`);
  const protocol = args.text("protocol") as Protocol | undefined;
  const transport = protocol === "udp" ? "udp" : "tcp";
  const clash = upstreams.find((u) => u.localPort === port && u.transport === transport);
  if (clash !== undefined)
    throw new UsageFailure(`--upstream ${clash.service}=${clash.localPort}: ${port} is COMMAND's own port; take another`);
  return {
    service,
    port,
    portName: undefined,
    version,
    group,
    template: undefined,
    namespace,
    upstreams,
    upstreamsText: args.list("upstream").join(","),
    usesText: args.list("uses").map(checkedUse).join(","),
    protocol,
    servicePort: args.integer("service-port", 1, 65535),
    address,
    serviceAccount,
    portVariable,
    waitMs: args.durationMs("wait") ?? 60_000,
    readyTimeoutMs: args.durationMs("ready-timeout"),
    drainMs: args.durationMs("drain-timeout") ?? 5000,
    workers,
    gateway: gatewayFrom(args, port),
    workloadApi: args.on("workload-api"),
    control: controlFrom(args.text("control")),
    check: checkFrom(args, port !== undefined || group !== undefined),
    locality,
    direct: !args.on("no-direct"),
    quiet: args.on("quiet"),
    verbose: args.on("verbose"),
    command: args.command as readonly [string, ...string[]],
  };
}

function checkedUse(text: string): string {
  if (text === usesOthers) return text;
  const [, port] = /^[a-z][a-z0-9-]*(?:\.[a-z0-9-]+)?(?::([0-9]{1,5}))?$/.exec(text) ?? [undefined, "0"];
  if (port !== undefined && !(Number(port) >= 1 && Number(port) <= 65535))
    throw new UsageFailure(
      `--uses takes SERVICE[.NAMESPACE][:PORT], for example cart, stock.shop or api.bank:8080, or "*" for any other when it is first called, not "${text}"`,
    );
  return text;
}

function groupFrom(args: Parsed): string | undefined {
  const name = args.text("group");
  if (name === undefined) return undefined;
  shaped("group", name, serviceName, "lower-case letters, digits and -, begins with a letter, 63 at most");
  if (args.text("gateway") !== undefined)
    throw new UsageFailure("--group and --gateway exclude each other: a gateway's process is no instance of a service");
  return name;
}

function gatewayFrom(args: Parsed, port: number | undefined): string | undefined {
  const name = args.text("gateway");
  if (name === undefined) return undefined;
  shaped("gateway", name, serviceName, "lower-case letters, digits and -, begins with a letter, 63 at most");
  if (port !== undefined)
    throw new UsageFailure("--gateway and --port exclude each other: a gateway's process is no instance of a service");
  return name;
}

function parseUpstream(text: string): Upstream {
  const [, service, namespace, port, local, udp] =
    /^([a-z][a-z0-9-]*)(?:\.([a-z0-9-]+))?(?::([0-9]{1,5}))?=([0-9]{1,5})(\/udp)?$/.exec(text) ?? [];
  const inRange = (digits: string | undefined) => digits === undefined || (Number(digits) >= 1 && Number(digits) <= 65535);
  if (service === undefined || local === undefined || !inRange(port) || !inRange(local)) {
    throw new UsageFailure(
      `--upstream takes SERVICE[.NAMESPACE][:PORT]=LOCALPORT[/udp], for example cart=9001, db.bank:5432=15432 or dns=5300/udp, not "${text}"`,
    );
  }
  return {
    service,
    namespace,
    port: port === undefined ? undefined : Number(port),
    localPort: Number(local),
    transport: udp === undefined ? "tcp" : "udp",
  };
}

function shaped(flag: string, value: string, pattern: RegExp, rule: string): void {
  if (!pattern.test(value)) throw new UsageFailure(`--${flag} "${value}": ${rule}`);
}

function isAddress(text: string): boolean {
  const parts = text.split(".");
  if (parts.length === 4) return parts.every((p) => /^[0-9]{1,3}$/.test(p) && Number(p) <= 255);
  return /^[0-9a-fA-F:]+$/.test(text) && text.includes(":");
}

/** `reviews-v1-7f3a9c`: SERVICE[-VERSION]-RANDOM, a DNS name whatever the version looks like. */
export function entryName(service: string, version: string | undefined, random: () => number): string {
  const suffix = Math.floor(random() * 0x1000000)
    .toString(16)
    .padStart(6, "0");
  const middle = version?.toLowerCase().replace(/[^a-z0-9]+/g, "-");
  return `${service}${middle === undefined ? "" : `-${middle}`}-${suffix}`;
}

/** `--control a:7444,b:7444`. */
function controlFrom(text: string | undefined): string | undefined {
  if (text === undefined) return undefined;
  for (const address of text.split(",")) {
    const [, port] = /^(?:\[[0-9a-fA-F:]+\]|[^:,\s]+):(\d{1,5})$/.exec(address) ?? [];
    if (port === undefined || Number(port) < 1 || Number(port) > 65_535)
      throw new UsageFailure(`--control takes HOST:PORT of each control plane, separated by commas, not "${address}"`);
  }
  return text;
}
