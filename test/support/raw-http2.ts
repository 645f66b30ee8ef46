// Owns: a raw HTTP/2 client for tests of bad behaviour: sends whatever bytes it is told to, and reads frames as they come. Knows just enough HPACK to
// ask and to read a status; shares no code with the proxy.

export const frameType = {
  data: 0,
  headers: 1,
  priority: 2,
  reset: 3,
  settings: 4,
  ping: 6,
  goaway: 7,
  windowUpdate: 8,
  continuation: 9,
} as const;

export const flag = { endStream: 1, ack: 1, endHeaders: 4, padded: 8 } as const;

export interface Frame {
  readonly type: number;
  readonly flags: number;
  readonly stream: number;
  readonly payload: Buffer;
}

export function frame(type: number, flags: number, stream: number, payload: Uint8Array | string = ""): Buffer {
  const body = typeof payload === "string" ? Buffer.from(payload, "latin1") : payload;
  const head = Buffer.alloc(9);
  head.writeUIntBE(body.length, 0, 3);
  head[3] = type;
  head[4] = flags;
  head.writeUInt32BE(stream, 5);
  return Buffer.concat([head, body]);
}

export function uint32(...values: readonly number[]): Buffer {
  const out = Buffer.alloc(4 * values.length);
  values.forEach((value, n) => void out.writeUInt32BE(value, 4 * n));
  return out;
}

/** A length of HPACK with 7 bits in its first byte (RFC 7541 5.1), no Huffman code. */
function hpackText(text: string): Buffer {
  const bytes = Buffer.from(text, "latin1");
  const out: number[] = [];
  if (bytes.length < 127) out.push(bytes.length);
  else {
    out.push(127);
    let rest = bytes.length - 127;
    for (; rest >= 128; rest >>>= 7) out.push((rest & 127) | 128);
    out.push(rest);
  }
  return Buffer.concat([Uint8Array.from(out), bytes]);
}

/** A field, not indexed, its name spelt out. */
export const field = (name: string, value: string): Buffer => Buffer.concat([Uint8Array.of(0), hpackText(name), hpackText(value)]);

/** A request's header block: four pseudo fields, then whatever is given. */
export function requestBlock(path: string, method = "GET", ...more: readonly (readonly [string, string])[]): Buffer {
  const pseudo = [field(":method", method), field(":scheme", "http"), field(":path", path), field(":authority", "app.test")];
  return Buffer.concat([...pseudo, ...more.map(([name, value]) => field(name, value))]);
}

export const clientPreface = Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
const statuses = [200, 204, 206, 304, 400, 404, 500];

/** The status that a response block begins with; 0 when it is Huffman-coded or somewhere else. */
function statusOf(block: Buffer): number {
  const first = block[0] as number;
  if (first >= 0x88 && first <= 0x8e) return statuses[first - 0x88] as number;
  if ([0x08, 0x18, 0x48].includes(first) && block[1] === 3) return Number(block.toString("latin1", 2, 5));
  // Two digits of Huffman's code have 5 or 6 bits, so three fit in two bytes: RFC 7541 appendix B, 0 to 2 are 00000 to 00010, 3 to 9 are 011001 to 011111.
  if ([0x08, 0x18, 0x48].includes(first) && block[1] === 0x82) return huffmanDigits(block.readUInt16BE(2), 16);
  if ([0x08, 0x18, 0x48].includes(first) && block[1] === 0x83) return huffmanDigits(block.readUIntBE(2, 3), 24);
  return 0;
}

function huffmanDigits(bits: number, length: number): number {
  let at = length;
  let digits = "";
  while (digits.length < 3 && at >= 5) {
    const five = (bits >>> (at - 5)) & 31;
    if (five <= 2) {
      digits += five;
      at -= 5;
    } else {
      digits += ((bits >>> (at - 6)) & 63) - 0x19 + 3;
      at -= 6;
    }
  }
  return Number(digits);
}

export class RawHttp2 {
  readonly frames: Frame[] = [];
  closed = false;
  #held = Buffer.alloc(0);
  #socket: Bun.Socket<undefined> | null = null;
  #unsent: Buffer[] = [];

  /** A peer that says nothing of itself acknowledges nothing. */
  #acknowledges = true;

  /** Connects; sends preface and SETTINGS, and acknowledges the peer's, unless `settings` is null. */
  static async open(port: number, settings: Uint8Array | null = new Uint8Array(0)): Promise<RawHttp2> {
    const peer = new RawHttp2();
    peer.#socket = await Bun.connect<undefined>({
      hostname: "127.0.0.1",
      port,
      socket: {
        data: (_socket, bytes) => peer.#take(bytes),
        close: () => {
          peer.closed = true;
        },
        drain: () => peer.#pump(),
        error() {},
      },
    });
    peer.#acknowledges = settings !== null;
    if (settings !== null) peer.send(clientPreface, frame(frameType.settings, 0, 0, settings));
    return peer;
  }

  send(...parts: readonly Uint8Array[]): void {
    this.#unsent.push(Buffer.concat(parts));
    this.#pump();
  }

  #pump(): void {
    while (this.#unsent.length > 0 && this.#socket !== null && !this.closed) {
      const first = this.#unsent[0] as Buffer;
      const taken = this.#socket.write(first);
      if (taken < first.length) {
        this.#unsent[0] = first.subarray(Math.max(0, taken));
        return;
      }
      this.#unsent.shift();
    }
  }

  #take(bytes: Uint8Array): void {
    this.#held = Buffer.concat([this.#held, bytes]);
    while (this.#held.length >= 9) {
      const size = this.#held.readUIntBE(0, 3);
      if (this.#held.length < 9 + size) return;
      const payload = Buffer.from(this.#held.subarray(9, 9 + size));
      const one: Frame = { type: this.#held[3] as number, flags: this.#held[4] as number, stream: this.#held.readUInt32BE(5), payload };
      this.frames.push(one);
      this.#held = this.#held.subarray(9 + size);
      if (this.#acknowledges && one.type === frameType.settings && (one.flags & flag.ack) === 0)
        this.send(frame(frameType.settings, flag.ack, 0));
    }
  }

  /** Sends a GET. */
  get(stream: number, path: string): void {
    this.send(frame(frameType.headers, flag.endStream | flag.endHeaders, stream, requestBlock(path)));
  }

  status(stream: number): number | undefined {
    const head = this.frames.find((one) => one.type === frameType.headers && one.stream === stream);
    return head === undefined ? undefined : statusOf(head.payload);
  }

  /** The error code of a RST_STREAM. */
  reset(stream: number): number | undefined {
    return this.frames.find((one) => one.type === frameType.reset && one.stream === stream)?.payload.readUInt32BE(0);
  }

  /** The error code of the last GOAWAY, and its words. */
  goaway(): { readonly code: number; readonly words: string } | undefined {
    const last = this.frames.findLast((one) => one.type === frameType.goaway);
    return last === undefined ? undefined : { code: last.payload.readUInt32BE(4), words: last.payload.toString("latin1", 8) };
  }

  /** Reads nothing any more; what it sends still goes. */
  pauseReading(): void {
    this.#socket?.pause();
  }

  close(): void {
    this.#socket?.terminate();
  }
}
