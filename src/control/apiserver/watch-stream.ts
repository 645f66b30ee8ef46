// Owns: the body of one watch: what the client has not taken yet. What it begins with is made piece by piece as the client takes it, however large it is; what
// comes meanwhile waits behind it. Never grows without end: who reads too slowly is let go, and comes back from the last event seen.

/** Unsent bytes of events at which a watch is ended: the client reads too slowly. */
export const maxUnsentBytes = 16 * 1024 * 1024;
/** Made ahead of the client. */
const aheadBytes = 64 * 1024;

// open -> ended; sends after the end are swallowed.
export class WatchStream {
  readonly body: ReadableStream<Uint8Array>;
  readonly #encoder = new TextEncoder();
  #controller!: ReadableStreamDefaultController<Uint8Array>;
  #state: "open" | "ended" = "open";
  #onEnd: (() => void) | undefined;
  /** What the client begins with, as long as some of it is to be sent. */
  #first: Iterator<string> | undefined;
  /** What came since, to be sent behind it. */
  #waiting: string[] = [];
  #waitingBytes = 0;
  #tookSome = true;

  constructor() {
    this.body = new ReadableStream<Uint8Array>(
      {
        start: (controller) => {
          this.#controller = controller;
        },
        pull: () => this.#more(),
        cancel: () => this.#finish(),
      },
      new ByteLengthQueuingStrategy({ highWaterMark: aheadBytes }),
    );
  }

  /** Once, before any event: `lines` is asked for more when the client has taken what was there. */
  begin(lines: Iterator<string>): void {
    this.#first = lines;
    this.#more();
  }

  send(line: string): void {
    if (this.#state === "ended") return;
    if (this.#first === undefined) this.#enqueue(line);
    else {
      this.#waiting.push(line);
      this.#waitingBytes += line.length;
      if (this.#waitingBytes > maxUnsentBytes) this.end();
    }
  }

  /** Now and then: keeps a quiet watch alive, and ends one whose client has taken nothing of its beginning since the last time, which holds all of that. */
  beat(line: string): void {
    if (this.#first === undefined) this.send(line);
    else if (this.#tookSome) this.#tookSome = false;
    else this.end();
  }

  /** Ends with this line, also in the middle of its beginning; what was made for the client before goes out first. */
  endWith(line: string): void {
    if (this.#state === "ended") return;
    this.#controller.enqueue(this.#encoder.encode(line));
    this.end();
  }

  end(): void {
    if (this.#state === "ended") return;
    this.#controller.close();
    this.#finish();
  }

  /** Runs `run` once the stream has ended, also when it already has. */
  onEnd(run: () => void): void {
    if (this.#state === "ended") run();
    else this.#onEnd = run;
  }

  #more(): void {
    this.#tookSome = true;
    while (this.#state === "open" && this.#first !== undefined && (this.#controller.desiredSize ?? 0) > 0) {
      let text = "";
      while (text.length < aheadBytes) {
        const next = this.#first.next();
        if (next.done === true) {
          this.#first = undefined;
          break;
        }
        text += next.value;
      }
      if (text !== "") this.#controller.enqueue(this.#encoder.encode(text));
    }
    if (this.#first !== undefined || this.#waiting.length === 0) return;
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const line of waiting) this.send(line);
  }

  #enqueue(line: string): void {
    this.#controller.enqueue(this.#encoder.encode(line));
    if ((this.#controller.desiredSize ?? 0) < -maxUnsentBytes) this.end();
  }

  #finish(): void {
    if (this.#state === "ended") return;
    this.#state = "ended";
    this.#first = undefined;
    this.#waiting = [];
    this.#onEnd?.();
    this.#onEnd = undefined;
  }
}
