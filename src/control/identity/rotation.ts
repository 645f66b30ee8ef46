// Owns: replacing the mesh's root under traffic, step by step: the new root is told to everybody; when all have it, it issues; when no certificate of the old
// one is alive, that is dropped. Each step is one change of what is kept, so that a control plane that dies goes on from there, and of several one takes it.
// Never issues anything itself.

import type { Clock, Timer } from "../../base/clock.ts";
import type { Logger } from "../../base/log.ts";
import { type Authority, workloadLifeMs } from "./authority.ts";
import { readCaCertificates } from "./ca-certificate.ts";
import { type CaFiles, type CaStore, finished, type RotationPhase, readRotation, sameFiles, writeRotation } from "./rotation-state.ts";

/** A proxy or agent that holds an identity; see `XdsServer.holders`. */
export interface Holder {
  readonly key: string;
  readonly rootsPem: string | undefined;
  readonly problem: string | undefined;
  readonly issuer: string | undefined;
}

/** What one control plane sees. */
export interface TrustReport {
  /** Of the control plane. */
  readonly id: string;
  readonly rootsPem: string;
  readonly holders: readonly Holder[];
}

export interface RotationDeps {
  readonly authority: Authority;
  /** undefined: the authority is given, and kept by the user. */
  readonly store: CaStore | undefined;
  readonly clock: Clock;
  readonly log: Logger;
  readonly own: () => TrustReport;
  /** The other control planes; a string names one that does not answer. */
  readonly others: () => Promise<readonly (TrustReport | string)[]>;
  /** Keys of all proxies that the mesh knows, connected or not. */
  readonly known: () => readonly string[];
  /** Whether this control plane takes the steps that need nobody's word. */
  readonly leads: () => boolean;
  /** Whether others may change what is kept. */
  readonly shared: boolean;
  readonly onStep: (words: string) => void;
}

export interface RootStatus {
  readonly fingerprint: string;
  readonly subject: string;
  readonly notAfter: string;
  readonly state: "issuing" | "trusted";
}

export interface CaStatus {
  readonly trustDomain: string;
  readonly given: boolean;
  readonly issuer: { readonly fingerprint: string; readonly subject: string; readonly notAfter: string };
  readonly roots: readonly RootStatus[];
  /** Proxies and agents that hold an identity and are connected, and how many of them have a certificate of the present issuer. */
  readonly holders: number;
  readonly holdersOfIssuer: number;
  /** Connected ones that lack a root of those above, and why, as far as they say. */
  readonly behind: readonly string[];
  readonly rotation: null | {
    readonly phase: RotationPhase;
    readonly startedAt: string;
    readonly switchedAt: string | null;
    /** What the next step waits for; empty: it is taken at once. */
    readonly waitingFor: readonly string[];
    /** When the last certificate of the other root has ended. */
    readonly othersEndAt: string | null;
  };
}

/** A request that cannot be met, as a sentence. */
export class RotationRefused extends Error {
  override readonly name = "RotationRefused";
}

const tickMs = 1_000;
/** Clocks of the mesh may differ by so much, beside the life of a certificate. */
const marginMs = 600_000;
/** Names in one message. */
const mostNamed = 10;

export class RootRotation {
  readonly #deps: RotationDeps;
  readonly #timer: Timer | undefined;
  #busy = false;

  constructor(deps: RotationDeps) {
    this.#deps = deps;
    if (deps.store === undefined) return;
    this.#timer = deps.clock.every(tickMs, () => {
      if (this.#busy || (!deps.shared && deps.authority.rotation === undefined)) return;
      this.#busy = true;
      this.#tick()
        .catch((cause: unknown) =>
          deps.log.debug({ cause }, "The state of the certificate authority could not be looked at; it is tried again"),
        )
        .finally(() => {
          this.#busy = false;
        });
    });
  }

  stop(): void {
    this.#timer?.cancel();
  }

  async status(): Promise<CaStatus> {
    const { authority } = this.#deps;
    const reports = await this.#reports();
    const holders = reports.flatMap((report) => (typeof report === "string" ? [] : report.holders));
    const issuer = authority.issuing.certificate;
    const state = authority.rotation;
    const roots = readCaCertificates(authority.rootPem);
    return {
      trustDomain: authority.trustDomain,
      given: authority.given,
      issuer: {
        fingerprint: issuer.fingerprint,
        subject: oneLine(issuer.x509.subject),
        notAfter: iso(authority.issuing.validity.notAfterMs),
      },
      roots: roots.map((root, n) => ({
        fingerprint: root.fingerprint,
        subject: oneLine(root.x509.subject),
        notAfter: iso(root.notAfterMs),
        state: n === 0 ? "issuing" : "trusted",
      })),
      holders: holders.length,
      holdersOfIssuer: holders.filter((holder) => holder.issuer === issuer.fingerprint).length,
      behind: this.#behind(holders),
      rotation:
        state === undefined
          ? null
          : {
              phase: state.phase,
              startedAt: state.startedAt,
              switchedAt: state.switchedAt,
              waitingFor: state.phase === "distributing" ? this.#lacking(reports) : this.#waitingForEnd(reports, state.switchedAt),
              othersEndAt: state.switchedAt === null ? null : iso(endOf(state.switchedAt)),
            },
    };
  }

  /** Makes the next root and begins to tell of it. */
  async start(): Promise<void> {
    const { authority } = this.#deps;
    const files = await this.#fresh();
    if (authority.rotation !== undefined)
      throw new RotationRefused(
        `a root is being replaced already (${authority.rotation.phase}, since ${authority.rotation.switchedAt ?? authority.rotation.startedAt}); weft ca status says what it waits for, ${authority.rotation.phase === "returning" ? "weft ca finish ends it at once" : "weft ca abandon gives it up"}`,
      );
    const state = { phase: "distributing" as const, startedAt: this.#now(), switchedAt: null, next: authority.makeNext() };
    await this.#replace(files, { ...files, rotation: writeRotation(state) });
    this.#deps.onStep("a new root was made; proxies are told of it, the old one issues until all have it");
  }

  /** Takes the next step now, if nobody would be cut off; `force`: whoever is. */
  async finish(force: boolean): Promise<void> {
    const files = await this.#fresh();
    const state = this.#deps.authority.rotation;
    if (state === undefined) throw new RotationRefused("no root is being replaced; begin with weft ca rotate");
    const reports = await this.#reports();
    const lacking = state.phase === "distributing" ? this.#lacking(reports) : this.#withOthers(reports);
    if (lacking.length > 0 && !force)
      throw new RotationRefused(
        `${state.phase === "distributing" ? "some have not got the new root yet" : "some have certificates of the other root, or are not there to be asked"}: ${named(lacking)}. ` +
          "Wait until they have, or go on regardless with --force: peers then refuse them until they have renewed.",
      );
    if (state.phase === "distributing") await this.#issue(files);
    else await this.#end(files);
  }

  /** Back to the old root: at once where the new one has issued nothing, else when nobody has a certificate of it any more. */
  async abandon(): Promise<void> {
    const files = await this.#fresh();
    const state = this.#deps.authority.rotation;
    if (state === undefined) throw new RotationRefused("no root is being replaced; there is nothing to give up");
    if (state.phase === "distributing") {
      await this.#replace(files, { ...files, rotation: undefined });
      this.#deps.onStep("the new root was given up before it had issued anything");
      return;
    }
    if (state.phase === "returning")
      throw new RotationRefused("the new root has been given up already; weft ca status says what its end waits for");
    await this.#replace(files, { ...files, rotation: writeRotation({ ...state, phase: "returning", switchedAt: this.#now() }) });
    this.#deps.onStep(
      "the new root was given up; the old one issues again, and both are trusted until no certificate of the new one is alive",
    );
  }

  async #tick(): Promise<void> {
    const { authority, clock, leads } = this.#deps;
    const files = await this.#fresh();
    const state = authority.rotation;
    if (state === undefined || !leads()) return;
    if (state.phase === "distributing") {
      if (this.#lacking(await this.#reports()).length === 0) await this.#issue(files);
    } else if (state.switchedAt !== null && clock.now() >= endOf(state.switchedAt)) {
      if (this.#waitingForEnd(await this.#reports(), state.switchedAt).length === 0) await this.#end(files);
    }
  }

  async #issue(files: CaFiles): Promise<void> {
    const state = readRotation(files.rotation ?? "");
    await this.#replace(files, { ...files, rotation: writeRotation({ ...state, phase: "issuing", switchedAt: this.#now() }) });
    this.#deps.onStep("the new root issues; certificates of the old one are trusted until they have all ended");
  }

  async #end(files: CaFiles): Promise<void> {
    const state = readRotation(files.rotation ?? "");
    await this.#replace(files, state.phase === "returning" ? { ...files, rotation: undefined } : finished(files, state));
    this.#deps.onStep(
      state.phase === "returning"
        ? "the new root is trusted no more"
        : "the new root has taken the old one's place, which is trusted no more",
    );
  }

  /** What is kept now, taken up here where another control plane has changed it. */
  async #fresh(): Promise<CaFiles> {
    const { store, authority } = this.#deps;
    if (store === undefined)
      throw new RotationRefused(
        "the certificate authority is given by --ca-cert: put the new root beside the old one into the file of --ca-root and start every control plane again, wait until weft ca status shows nobody behind, then give the new --ca-cert and --ca-key in the same way, and drop the old root a day later",
      );
    const files = await store.read();
    if (authority.files === undefined || !sameFiles(authority.files, files)) authority.adopt(files);
    return files;
  }

  async #replace(before: CaFiles, next: CaFiles): Promise<void> {
    const { store, authority } = this.#deps;
    if (store === undefined || !(await store.replace(before, next)))
      throw new RotationRefused(
        "another control plane has changed the certificate authority at this moment; look at weft ca status and try again",
      );
    authority.adopt(next);
  }

  async #reports(): Promise<readonly (TrustReport | string)[]> {
    return [this.#deps.own(), ...(await this.#deps.others())];
  }

  /** Why the new root may not issue yet. */
  #lacking(reports: readonly (TrustReport | string)[]): string[] {
    const { authority } = this.#deps;
    const out = this.#unheard(reports);
    for (const report of reports) {
      if (typeof report === "string") continue;
      if (!holdsAll(report.rootsPem, authority.rootPem)) out.push(`control plane ${report.id} has not taken it up yet`);
      out.push(...this.#behind(report.holders));
    }
    return out;
  }

  #behind(holders: readonly Holder[]): string[] {
    const { rootPem } = this.#deps.authority;
    return holders
      .filter((holder) => holder.rootsPem === undefined || !holdsAll(holder.rootsPem, rootPem))
      .map((holder) => (holder.problem === undefined ? holder.key : `${holder.key} (${holder.problem})`));
  }

  /** Those who would be cut off if the other root went now. */
  #withOthers(reports: readonly (TrustReport | string)[]): string[] {
    const { authority } = this.#deps;
    const present = authority.issuing.certificate.fingerprint;
    const old = reports.flatMap((report) =>
      typeof report === "string" ? [] : report.holders.filter((holder) => holder.issuer !== undefined && holder.issuer !== present),
    );
    return [...this.#lacking(reports), ...old.map((holder) => `${holder.key} (has a certificate of the other root still)`)];
  }

  #waitingForEnd(reports: readonly (TrustReport | string)[], switchedAt: string | null): string[] {
    const end = switchedAt === null ? 0 : endOf(switchedAt);
    const time = this.#deps.clock.now() < end ? [`the end of the last certificate of the other root, at ${iso(end)} at the latest`] : [];
    const silent = reports.filter((report) => typeof report === "string");
    const old = this.#withOthers(reports.filter((report) => typeof report !== "string"));
    return [...time, ...silent, ...(time.length > 0 ? old : old.filter((one) => one.includes("certificate of the other root")))];
  }

  /** Control planes that do not answer, and proxies that none of the others sees. */
  #unheard(reports: readonly (TrustReport | string)[]): string[] {
    const seen = new Set(reports.flatMap((report) => (typeof report === "string" ? [] : report.holders.map((holder) => holder.key))));
    const away = this.#deps.known().filter((key) => !seen.has(key));
    return [...reports.filter((report) => typeof report === "string"), ...away.map((key) => `${key} (not connected)`)];
  }

  #now(): string {
    return iso(this.#deps.clock.now());
  }
}

const iso = (ms: number): string => `${new Date(ms).toISOString().slice(0, 19)}Z`;
const oneLine = (name: string): string => name.replaceAll("\n", ", ");
/** No certificate that was issued before lives longer. */
const endOf = (switchedAt: string): number => Date.parse(switchedAt) + workloadLifeMs + marginMs;

function holdsAll(bundlePem: string, rootsPem: string): boolean {
  const blocks = rootsPem.match(/-----BEGIN CERTIFICATE-----[^-]*/g) ?? [];
  return blocks.every((block) => bundlePem.includes(block.trim()));
}

/** The first of some names, and how many more. */
function named(names: readonly string[]): string {
  const more = names.length - mostNamed;
  return `${names.slice(0, mostNamed).join("; ")}${more > 0 ? `; and ${more} more` : ""}`;
}
