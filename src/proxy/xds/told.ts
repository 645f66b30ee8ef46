// Owns: that the log hears of the same trouble once, and again only after a while. Whoever is refused tries on for hours, often by turns with two proofs and so two reasons.
// Never logs itself.

/** The same is said again after so long. */
const againAfterMs = 600_000;
/** Texts remembered; a server that makes up a new one each time is heard, but costs no more than this. */
const mostTexts = 16;

export class Told {
  readonly #atMs = new Map<string, number>();

  /** Whether `text` is worth a line at `nowMs` (of a clock that only goes on); it counts as said then. */
  isNews(text: string, nowMs: number): boolean {
    const before = this.#atMs.get(text);
    if (before !== undefined && nowMs - before < againAfterMs) return false;
    if (before === undefined && this.#atMs.size >= mostTexts) this.#atMs.delete(this.#atMs.keys().next().value as string);
    this.#atMs.set(text, nowMs);
    return true;
  }

  /** The trouble is over: the next is news. */
  clear(): void {
    this.#atMs.clear();
  }
}
