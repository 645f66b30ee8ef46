// Owns: the proxy's certificate: asking for it, checking it, renewing it at half of its life, and handing it to whoever makes connections.
// The private key is made here and stays in this process, but for the snapshot on this host's disk (mode 0600) where one is kept: without the key a
// restart could not go on with the certificate. Never decides who may talk to whom.
// rule 1: longer than 400 lines, as certificate, roots and deny list are one thing that changes together, and every method reads what is held.

import type { Clock, Timer } from "../../base/clock.ts";
import type { Logger } from "../../base/log.ts";
import type { MetricRegistry } from "../../base/metric.ts";
import { readPem } from "../../base/pem.ts";
import { meshRootsSecret, workloadCertificateSecret } from "../../wire/names.ts";
import { readDenyList } from "../../wire/trust.ts";
import type { CertificateStatus } from "../admin/admin.ts";
import type { SecretSource } from "../config.ts";
import type { KeptIdentity } from "../snapshot/format.ts";
import { Denied } from "../tls/denied.ts";
import { expiryFamily } from "../tls/expiry.ts";
import { Backoff } from "../xds/backoff.ts";
import type { ControlChannel } from "../xds/channel.ts";
import { type GrpcStatus, grpcUnauthenticated, sayStatus } from "../xds/grpc.ts";
import { decodeBinary } from "../xds/proto/binary.ts";
import { encodeBinary } from "../xds/proto/encode.ts";
import { IstioCertificateRequest, IstioCertificateResponse } from "../xds/proto/types.ts";
import { Told } from "../xds/told.ts";
import { type CheckedChain, checkIssuedChain, readKeptChain, rootsAbove, withRoots } from "./chain.ts";
import { createKeyAndRequest, type KeyAndRequest } from "./csr.ts";
import { KeyPair } from "./key-pair.ts";
import type { TrustUpdate } from "./trust-stream.ts";

export interface IdentityOptions {
  readonly clock: Clock;
  readonly log: Logger;
  readonly random: () => number;
  readonly metrics: MetricRegistry;
  /** The SPIFFE ID to ask for. */
  readonly uri: string;
  /** Called when the first certificate is there, after each renewal, and when one has lapsed. */
  readonly changed: () => void;
  /** A certificate has come that a snapshot should hold. */
  readonly accepted?: () => void;
  /** What is to happen when the certificate ends and nobody has renewed it. Default keep. */
  readonly whenUnrenewed?: WhenUnrenewed;
}

/**
 * keep: what needs no new handshake is served on (connections that stand, plain listeners), with alarms. close: no listener stays open, and the proxy is
 * not ready. In both an expired certificate is never used.
 */
export type WhenUnrenewed = "keep" | "close";

interface Held {
  readonly certificate: KeyPair;
  readonly chain: CheckedChain;
}

/** Where the asking stands. `asking` and `waiting` end in each other or, with a certificate, in `resting`. */
type IdentityState =
  | { readonly at: "waiting for the channel" }
  | { readonly at: "asking"; readonly cancel: () => void }
  | { readonly at: "waiting"; readonly timer: Timer }
  | { readonly at: "resting"; readonly timer: Timer }
  | { readonly at: "stopped" };

const path = "/istio.v1.auth.IstioCertificateService/CreateCertificate";
/** What we ask for; the authority may give less. */
const wantedSeconds = 24 * 3600;
const answerWithinMs = 10_000;
/** How often the end of the certificate's life is looked at: a clock that was set is noticed within this. */
const lookMs = 60_000;
/** Parts of a life that are left when nobody has renewed it, and it is worth an alarm: renewing begins at one half. */
const alarms = [0.25, 0.1] as const;
/** An expired certificate is complained of again. */
const repeatMs = 3_600_000;
/** When another root issues, certificates are renewed within this and not at half of their life: a fleet does not come all at once. */
const renewWithinMs = 5_000;
/** When it has been revoked: peers refuse it already. */
const askAgainWithinMs = 500;

export class Identity implements SecretSource {
  readonly #options: IdentityOptions;
  readonly #backoff: Backoff;
  #ahead: Promise<KeyAndRequest> | undefined;
  #channel: ControlChannel | undefined;
  #held: Held | undefined;
  #state: IdentityState = { at: "waiting for the channel" };
  #lastProblem = "";
  /** Why there was no certificate since the last one. */
  readonly #complaints = new Told();
  /** Why the certificate that is held may not be used; empty: it may. */
  #lapsed = "";
  #life: Timer | undefined;
  #alarmed = 0;
  #complainedMs = 0;
  /** Roots that the control plane has told since, PEM; they count over those that came with the certificate. */
  #rootsTold: string | undefined;
  #denyText = "";
  #denied: Denied | null = null;
  #crlPem = "";
  /** Why our own certificate is refused; null: it is not. */
  #revoked: string | null = null;
  generation = 0;

  constructor(options: IdentityOptions) {
    this.#options = options;
    this.#backoff = new Backoff(options.random, 200, 60_000);
    const expiry = options.metrics.gauge("weft_certificate_expiry_seconds", "Seconds until a certificate of this proxy expires.", [
      "resource_name",
    ]);
    const expiresAt = expiryFamily(options.metrics);
    options.metrics.beforeExport(() => {
      if (this.#held === undefined) return;
      expiresAt.with([workloadCertificateSecret]).value = this.#held.chain.notAfterMs / 1000;
      expiresAt.with([meshRootsSecret]).value = this.#held.chain.rootsNotAfterMs / 1000;
      const now = options.clock.now();
      expiry.with([workloadCertificateSecret]).value = (this.#held.chain.notAfterMs - now) / 1000;
      expiry.with([meshRootsSecret]).value = (this.#held.chain.rootsNotAfterMs - now) / 1000;
    });
  }

  /** Starts asking over this channel. */
  askOver(channel: ControlChannel): void {
    this.#channel = channel;
    // The first key is made while the channel connects; none is needed soon where a certificate was restored.
    if (this.current() === undefined) this.#makeAhead();
    channel.add({
      opened: () => {
        if (this.#state.at === "waiting for the channel") this.#ask();
      },
      closed: () => {},
    });
  }

  #makeAhead(): void {
    this.#ahead = createKeyAndRequest(this.#options.uri);
    this.#ahead.catch(() => {});
  }

  stop(): void {
    const before = this.#state;
    this.#state = { at: "stopped" };
    this.#life?.cancel();
    if (before.at === "asking") before.cancel();
    if (before.at === "waiting" || before.at === "resting") before.timer.cancel();
  }

  certificate(name: string): KeyPair | undefined {
    return name === workloadCertificateSecret && this.#lapsed === "" ? this.#held?.certificate : undefined;
  }

  lapsed(name: string): string | undefined {
    return name === workloadCertificateSecret && this.#lapsed !== "" ? this.#lapsed : undefined;
  }

  /** No listener may be open: the certificate has lapsed, and that is what was asked for then. */
  get closed(): boolean {
    return this.#lapsed !== "" && this.#options.whenUnrenewed === "close";
  }

  /** What a snapshot should hold; null while there is nothing. */
  kept(): KeptIdentity | null {
    if (this.#held === undefined) return null;
    const denied = this.#denyText === "" ? {} : { denied: this.#denyText };
    return { certificate: this.#held.certificate, rootsPem: this.#held.chain.rootsPem, ...denied };
  }

  /** Takes up the certificate of a former life. One that has expired is held, and told, but not used. Answers what is wrong with another's. Before `askOver`. */
  restore(kept: KeptIdentity): string | undefined {
    const chain = readKeptChain(kept.certificate.certificatePem, kept.rootsPem, this.#options.uri);
    if (typeof chain === "string") return chain;
    try {
      this.#deny(kept.denied ?? "");
    } catch (error) {
      return error instanceof Error ? error.message : String(error);
    }
    this.#held = { certificate: kept.certificate, chain };
    this.generation++;
    const { clock, log } = this.#options;
    log.info(
      { uri: chain.uri, notAfter: new Date(chain.notAfterMs).toISOString(), serial: chain.serial },
      "Have a certificate, from the snapshot.",
    );
    this.#look();
    if (clock.now() < chain.notAfterMs) this.#rest(chain);
    return undefined;
  }

  roots(name: string): string | undefined {
    return name === meshRootsSecret ? this.#held?.chain.rootsPem : undefined;
  }

  /** Who is refused although a root vouches for them; null: nobody. */
  denied(): Denied | null {
    return this.#denied;
  }

  /** The roots that a control plane's server may show, beside those of the bootstrap. */
  trusted(): string | undefined {
    return this.#held?.chain.rootsPem;
  }

  /**
   * Takes up what the control plane says of trust, whole or not at all; answers what is wrong with it. Roots of which none vouches for us are another
   * authority's. When the root that comes first, the one that issues, is not ours, the certificate is renewed soon.
   */
  async takeTrust({ rootsPem, crlPem, denyList }: TrustUpdate): Promise<string | undefined> {
    if (denyList !== undefined) readDenyList(denyList);
    const held = this.#held;
    let above: readonly boolean[] = [];
    if (rootsPem !== undefined && held !== undefined) {
      above = await rootsAbove(held.chain.chainPem, rootsPem);
      if (above.length === 0) return "the bundle of roots is empty";
      const before = new Set(readPem(held.chain.rootsPem, "CERTIFICATE").map((der) => Buffer.from(der).toString("base64")));
      const shared = readPem(rootsPem, "CERTIFICATE").some((der) => before.has(Buffer.from(der).toString("base64")));
      if (!shared && !above.includes(true))
        return `two certificate authorities claim the trust domain of ${held.chain.uri}: none of the roots that are told now vouches for this proxy's certificate, and none of them was trusted before`;
    }
    if (this.#state.at === "stopped") return undefined;
    // Another certificate has come meanwhile: judged with that one.
    if (this.#held !== held) return await this.takeTrust({ rootsPem, crlPem, denyList });
    const before = this.#told();
    if (rootsPem !== undefined) this.#rootsTold = rootsPem;
    this.#crlPem = crlPem;
    if (denyList !== undefined) this.#deny(denyList);
    if (rootsPem !== undefined && held !== undefined) this.#held = { ...held, chain: withRoots(held.chain, rootsPem) };
    if (this.#told() !== before) {
      this.generation++;
      this.#options.accepted?.();
      this.#options.changed();
    }
    const { random, log, uri } = this.#options;
    if (this.#held !== undefined && denyList !== undefined) {
      const { serial, notBeforeMs } = this.#held.chain;
      const why = this.#denied?.why({ serial, notBeforeMs, principal: uri }) ?? null;
      if (why !== null && why !== this.#revoked) {
        log.error(
          { reason: why },
          "This proxy's certificate is refused by everybody from now on: another is asked for, by the join token.",
        );
        // What was got by this certificate is worth nothing either.
        this.#channel?.distrustCertificate();
        this.#renewWithin(random() * askAgainWithinMs);
      }
      this.#revoked = why;
    }
    if (above.length > 0 && above[0] === false) {
      log.info({ uri }, "Another root issues now: the certificate is renewed.");
      this.#renewWithin(random() * renewWithinMs);
    }
    return undefined;
  }

  #renewWithin(ms: number): void {
    if (this.#state.at !== "resting") return;
    this.#state.timer.cancel();
    this.#state = { at: "resting", timer: this.#options.clock.after(ms, () => this.#ask()) };
  }

  #told(): string {
    return `${this.#held?.chain.rootsPem ?? ""}\n${this.#crlPem}\n${this.#denyText}`;
  }

  /** Throws on what is no deny list. */
  #deny(text: string): void {
    const list = text === "" ? null : readDenyList(text);
    this.#denyText = text;
    this.#denied = list === null || list.serials.length + list.identities.length === 0 ? null : new Denied(list);
  }

  /** The whole of it for others on this host (workload-api), as long as it is good. */
  svid():
    | {
        readonly uri: string;
        readonly certificatePem: string;
        readonly privateKeyPem: string;
        readonly rootsPem: string;
        readonly crlPem: string;
      }
    | undefined {
    const certificate = this.#lapsed === "" ? this.current() : undefined;
    if (certificate === undefined || this.#held === undefined) return undefined;
    const { uri, rootsPem } = this.#held.chain;
    return { uri, certificatePem: certificate.certificatePem, privateKeyPem: certificate.privateKeyPem, rootsPem, crlPem: this.#crlPem };
  }

  /** The certificate as long as it is good; what the channel presents. */
  current(): KeyPair | undefined {
    return this.#held !== undefined && this.#options.clock.now() < this.#held.chain.notAfterMs ? this.#held.certificate : undefined;
  }

  /** Takes back what `restore` took up. Before the channel is open. */
  forget(): void {
    this.#life?.cancel();
    if (this.#state.at === "resting") this.#state.timer.cancel();
    this.#state = { at: "waiting for the channel" };
    this.#held = undefined;
    this.#lapsed = "";
    this.#deny("");
    this.generation++;
    this.#makeAhead();
  }

  /** Empty once there is a certificate, and until it is time to fail closed. */
  waitingFor(): readonly string[] {
    if (this.closed) return [`another certificate (${this.#lapsed})`];
    if (this.#held !== undefined) return [];
    return [`a certificate for ${this.#options.uri}${this.#lastProblem === "" ? "" : ` (${this.#lastProblem})`}`];
  }

  status(): readonly CertificateStatus[] {
    if (this.#held === undefined) return [];
    const { chain } = this.#held;
    return [
      {
        name: workloadCertificateSecret,
        uri: chain.uri,
        notBefore: new Date(chain.notBeforeMs).toISOString(),
        notAfter: new Date(chain.notAfterMs).toISOString(),
        serial: chain.serial,
      },
    ];
  }

  #ask(): void {
    if (this.#state.at === "stopped") return;
    if (this.#channel?.connected !== true) {
      this.#state = { at: "waiting for the channel" };
      return;
    }
    let given = false;
    this.#state = {
      at: "asking",
      cancel: () => {
        given = true;
      },
    };
    // A new key for each certificate: a stolen one is worth a day at most. The same one until there is a certificate for it: an answer may be lost on its
    // way, and a token for once is then good for the key that it was used for alone.
    this.#ahead ??= createKeyAndRequest(this.#options.uri);
    this.#ahead.then(
      (key) => {
        if (!given) this.#send(key);
      },
      (error: unknown) => {
        this.#ahead = undefined;
        this.#failed(`no key could be made: ${error instanceof Error ? error.message : String(error)}`);
      },
    );
  }

  #send(key: KeyAndRequest): void {
    let answer: Uint8Array | undefined;
    const call = this.#channel?.call(path, {
      message: (bytes) => {
        answer ??= bytes;
      },
      ended: (status) => {
        deadline.cancel();
        this.#answered(key, status, answer);
      },
      writable: () => {},
    });
    const deadline = this.#options.clock.after(answerWithinMs, () => {
      call?.cancel();
      this.#failed(`the control plane did not answer within ${answerWithinMs / 1000} s`);
    });
    if (call === undefined) {
      deadline.cancel();
      this.#state = { at: "waiting for the channel" };
      return;
    }
    this.#state = {
      at: "asking",
      cancel: () => {
        deadline.cancel();
        call.cancel();
      },
    };
    call.send(encodeBinary(IstioCertificateRequest, { csr: key.csrPem, validityDuration: BigInt(wantedSeconds) }));
    call.finish();
  }

  #answered(key: KeyAndRequest, status: GrpcStatus, answer: Uint8Array | undefined): void {
    if (this.#state.at === "stopped") return;
    if (status.code === grpcUnauthenticated) this.#channel?.refused();
    if (status.code !== 0) return this.#failed(`the control plane says ${sayStatus(status)}`);
    if (answer === undefined) return this.#failed("the control plane answered nothing");
    let chain: readonly string[];
    try {
      chain = decodeBinary(IstioCertificateResponse, answer, () => {}).certChain;
    } catch (error) {
      return this.#failed(error instanceof Error ? error.message : String(error));
    }
    checkIssuedChain(chain, key.publicKey, this.#options.uri, this.#options.clock.now()).then(
      async (checked) => {
        if (typeof checked === "string") {
          this.#failed(checked);
          return;
        }
        // What the stream tells is newer than what comes with a certificate that was signed a moment before.
        const told = this.#rootsTold;
        const usable = told !== undefined && (await rootsAbove(checked.chainPem, told)).includes(true);
        if (this.#state.at === "stopped") return;
        this.#hold(key, usable ? withRoots(checked, told) : checked);
      },
      (error: unknown) => this.#failed(error instanceof Error ? error.message : String(error)),
    );
  }

  #hold(key: KeyAndRequest, chain: CheckedChain): void {
    const certificate = new KeyPair(chain.chainPem, key.privateKeyPem());
    this.#held = { certificate, chain };
    this.#ahead = undefined;
    this.generation++;
    this.#backoff.reset();
    this.#lastProblem = "";
    this.#complaints.clear();
    this.#lapsed = "";
    this.#alarmed = 0;
    this.#rest(chain);
    this.#options.log.info(
      { uri: chain.uri, notAfter: new Date(chain.notAfterMs).toISOString(), serial: chain.serial },
      "Have a certificate.",
    );
    this.#look();
    this.#options.accepted?.();
    this.#options.changed();
  }

  #rest(chain: CheckedChain): void {
    const { clock, random } = this.#options;
    const life = chain.notAfterMs - chain.notBeforeMs;
    // Half of the life, give or take a twentieth, so that a fleet that started together does not renew together.
    const renewAt = chain.notBeforeMs + life * (0.475 + 0.05 * random());
    const timer = clock.after(Math.min(0x7fff_ffff, Math.max(1_000, renewAt - clock.now())), () => this.#ask());
    this.#state = { at: "resting", timer };
  }

  /** Looks at how much of the life is left, and again when that matters. Wall time is asked each time: it may have been set. */
  #look(): void {
    this.#life?.cancel();
    if (this.#held === undefined || this.#state.at === "stopped") return;
    const { clock, log, uri, whenUnrenewed = "keep" } = this.#options;
    const { notBeforeMs, notAfterMs } = this.#held.chain;
    const leftMs = notAfterMs - clock.now();
    const problem = this.#state.at === "waiting for the channel" ? "no control plane answers" : this.#lastProblem;
    const facts = { uri, notAfter: new Date(notAfterMs).toISOString(), problem };
    const before = this.#lapsed;
    let waitMs = lookMs;
    if (leftMs <= 0) {
      this.#lapsed = `the certificate of this proxy expired on ${facts.notAfter} and has not been renewed`;
      if (before === "" || clock.mono() - this.#complainedMs > repeatMs) {
        this.#complainedMs = clock.mono();
        log.error(
          { ...facts, whenUnrenewed },
          whenUnrenewed === "close"
            ? "The certificate has expired and nobody has renewed it: every listener is closed."
            : "The certificate has expired and nobody has renewed it: no new handshakes; what stands and what is plain is served on.",
        );
      }
    } else {
      this.#lapsed = "";
      const lifeMs = notAfterMs - notBeforeMs;
      const part = leftMs / lifeMs;
      const level = alarms.filter((alarm) => part < alarm).length;
      if (level > this.#alarmed)
        log[level === alarms.length ? "error" : "warn"](
          { ...facts, leftSeconds: Math.round(leftMs / 1000) },
          "The certificate nears its end and nobody has renewed it.",
        );
      this.#alarmed = Math.max(level, this.#alarmed);
      const next = alarms[level];
      if (next !== undefined) waitMs = Math.min(waitMs, Math.max(1, leftMs - lifeMs * next + 1));
      waitMs = Math.min(waitMs, leftMs);
    }
    this.#life = clock.after(waitMs, () => this.#look());
    if ((before === "") === (this.#lapsed === "")) return;
    this.generation++;
    this.#options.changed();
  }

  #failed(reason: string): void {
    if (this.#state.at === "stopped") return;
    const { clock, log } = this.#options;
    if (this.#complaints.isNews(reason, clock.mono()))
      log.warn({ reason, uri: this.#options.uri }, "Could not get a certificate; trying again.");
    this.#lastProblem = reason;
    const timer = clock.after(this.#backoff.nextMs(), () => this.#ask());
    this.#state = { at: "waiting", timer };
  }
}
