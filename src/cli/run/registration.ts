// Owns: one WorkloadEntry's life at the control plane. Callers say what should be true; one loop makes it so, however often the
// control plane is away. Never blocks its caller: `settled` is there to be waited for with a limit.

import type { Condition, KubeObject } from "../../api/meta.ts";
import type { Clock } from "../../base/clock.ts";
import { ApiFailure, type Client, mergePatch, Unreachable } from "../client.ts";
import { reasonOf } from "../failure.ts";
import { condition, type Health } from "./objects.ts";
import type { Say } from "./say.ts";

type Wanted = Health | "gone";

const leastDelayMs = 100;
const mostDelayMs = 5000;
const watchMs = 30_000;

export class Registration {
  readonly path: string;
  readonly #client: Client;
  readonly #clock: Clock;
  readonly #say: Say;
  readonly #collection: string;
  #entry: KubeObject;
  #wanted: Wanted = "starting";
  #note = "";
  #actual: Wanted = "gone";
  #working: Promise<void> | undefined;
  #complained = false;
  /** The entry may be there without our having seen it made. */
  #mayExist = false;

  constructor(client: Client, clock: Clock, say: Say, namespace: string, entry: KubeObject) {
    this.#client = client;
    this.#clock = clock;
    this.#say = say;
    this.#collection = `/apis/networking.istio.io/v1/namespaces/${namespace}/workloadentries`;
    this.path = `${this.#collection}/${entry.metadata.name}`;
    this.#entry = entry;
  }

  /** The control plane does not answer at the moment. */
  get away(): boolean {
    return this.#complained;
  }

  /** The first registration. Throws what the control plane says: at the start a refusal is the user's to mend. */
  async create(): Promise<void> {
    await this.#create("starting");
  }

  /** Instead of `create`, while the control plane is away: made as soon as it is back. The entry of the run before may still be there. */
  createLater(): void {
    this.#complained = true;
    this.#mayExist = true;
    this.want("starting");
  }

  /** `note`: what else is to be said of it. */
  want(wanted: Wanted, note = ""): void {
    this.#wanted = wanted;
    this.#note = note;
    if (this.#working === undefined && this.#actual !== wanted) this.#working = this.#work();
  }

  /**
   * Looks now and then whether the entry is still there: a control plane that could not see the sidecar for long (a broken network)
   * deletes it, and nobody else would put it back. Until `want("gone")`.
   */
  watch(): void {
    this.#clock.every(watchMs, () => {
      if (this.#working !== undefined || this.#wanted === "gone") return;
      const wanted = this.#wanted;
      this.#client.json(this.path, { timeoutMs: 5000 }).catch((error: unknown) => {
        if (!(error instanceof ApiFailure) || error.code !== 404 || this.#wanted !== wanted) return;
        this.#say.warn("the registration of this instance is gone; registering it again");
        this.#actual = "gone";
        this.want(wanted);
      });
    });
  }

  /** Resolves to true when what is wanted is so, to false after `limitMs`. */
  async settled(limitMs: number): Promise<boolean> {
    if (this.#working === undefined) return this.#actual === this.#wanted;
    const late = Promise.withResolvers<void>();
    const timer = setTimeout(late.resolve, limitMs);
    await Promise.race([this.#working, late.promise]);
    clearTimeout(timer);
    return this.#actual === this.#wanted;
  }

  async #work(): Promise<void> {
    try {
      let delayMs = leastDelayMs;
      while (this.#actual !== this.#wanted) {
        const wanted = this.#wanted;
        try {
          await this.#make(wanted);
          if (this.#complained) this.#say.info("the control plane is back");
          this.#complained = false;
          delayMs = leastDelayMs;
        } catch (error) {
          if (!(error instanceof Unreachable) && !(error instanceof ApiFailure && error.code >= 500)) {
            this.#say.warn(`the control plane refuses to note that this instance is ${wanted}: ${reasonOf(error)}`);
            return;
          }
          this.#mayExist = true;
          if (!this.#complained)
            this.#say.warn(`${reasonOf(error)}\nthis instance cannot be noted as ${wanted} until it is back; trying on`);
          this.#complained = true;
          await Bun.sleep(delayMs);
          delayMs = Math.min(mostDelayMs, delayMs * 2);
        }
      }
    } finally {
      // At once, not by .finally: a want() in between would be lost.
      this.#working = undefined;
    }
  }

  async #make(wanted: Wanted): Promise<void> {
    try {
      if (wanted === "gone") await this.#client.json(this.path, { method: "DELETE", timeoutMs: 5000 });
      else if (this.#actual === "gone") await this.#createAgain(wanted);
      else await this.#patch(wanted);
    } catch (error) {
      if (!(error instanceof ApiFailure) || error.code !== 404) throw error;
      // Someone deleted it, or the control plane lost its state.
      if (wanted !== "gone") await this.#createAgain(wanted);
    }
    this.#actual = wanted;
  }

  /** What its owner took along when it went must not name it again: it would be taken along again. */
  async #createAgain(health: Health): Promise<void> {
    const [owner] = this.#entry.metadata.ownerReferences ?? [];
    if (owner !== undefined) {
      const { ownerReferences: _gone, ...metadata } = this.#entry.metadata;
      const found = await this.#owner(owner.name);
      if (found === undefined) {
        this.#say.warn(`${owner.kind} ${owner.name}, which this instance was registered by, is gone; it is registered on its own`);
        this.#entry = { ...this.#entry, metadata };
      } else this.#entry = { ...this.#entry, metadata: { ...metadata, ownerReferences: [{ ...owner, uid: found }] } };
    }
    await this.#create(health);
  }

  /** Its uid; undefined = there is none of that name. */
  async #owner(name: string): Promise<string | undefined> {
    try {
      const path = `${this.#collection.replace(/workloadentries$/, "workloadgroups")}/${name}`;
      const { metadata } = await this.#client.json<KubeObject>(path, { timeoutMs: 5000 });
      return metadata.deletionTimestamp === undefined ? metadata.uid : undefined;
    } catch (error) {
      if (error instanceof ApiFailure && error.code === 404) return undefined;
      throw error;
    }
  }

  /** The API server drops the status of a new object (as Kubernetes does); the entry says that its health is reported, so that it is not called before. */
  async #create(health: Health): Promise<void> {
    try {
      await this.#client.json(this.#collection, { method: "POST", body: this.#entry });
    } catch (error) {
      // The entry of the run before, whose name and ports these are, or an attempt whose answer was lost.
      if (!(error instanceof ApiFailure) || error.code !== 409 || !this.#mayExist) throw error;
    }
    this.#actual = health;
    await this.#patch(health);
  }

  async #patch(health: Health): Promise<void> {
    const body = { status: { conditions: [this.#condition(health)] } };
    await this.#client.json(`${this.path}/status`, { method: "PATCH", body, contentType: mergePatch, timeoutMs: 5000 });
  }

  #condition(health: Health): Condition {
    return condition(health, new Date(this.#clock.now()), this.#note);
  }
}
