// Owns: reading requests and answers with llhttp, the parser of Node: its WebAssembly build as undici brings it, so the version is the lock file's. Strict mode.

import { createRequire } from "node:module";
import type { ForeignMessage, ForeignParser, ForeignReading } from "./foreign.ts";

const require = createRequire(import.meta.url);

interface Exports {
  readonly memory: WebAssembly.Memory;
  llhttp_alloc(type: number): number;
  llhttp_free(parser: number): void;
  llhttp_execute(parser: number, at: number, size: number): number;
  llhttp_finish(parser: number): number;
  llhttp_get_status_code(parser: number): number;
  llhttp_get_method(parser: number): number;
  llhttp_get_http_minor(parser: number): number;
  llhttp_get_error_reason(parser: number): number;
  llhttp_method_name(method: number): number;
  malloc(size: number): number;
  free(at: number): void;
}

/** llhttp's numbers. */
const types = { requests: 1, answers: 2 } as const;
const error = { ok: 0, closedConnection: 5, paused: 21, pausedUpgrade: 22, pausedH2Upgrade: 23 } as const;

/** null where the package is not installed. */
export function llhttp(what: keyof typeof types): ForeignParser | null {
  let bytes: Uint8Array;
  try {
    bytes = require("undici/lib/llhttp/llhttp-wasm.js") as Uint8Array;
  } catch {
    return null;
  }
  const reader = new Reader(bytes, what);
  return { name: "llhttp", hides: [], sorted: false, read: async (streams) => streams.map((stream) => reader.read(stream)) };
}

class Reader {
  readonly #exports: Exports;
  #messages: ForeignMessage[] = [];
  #url = "";
  #fields: [string, string][] = [];
  #body = "";
  #inValue = false;
  #inBody = false;
  #open = false;
  #parser = 0;

  readonly #what: keyof typeof types;

  constructor(bytes: Uint8Array, what: keyof typeof types) {
    this.#what = what;
    const span = (at: number, size: number): string => Buffer.from(this.#exports.memory.buffer, at, size).toString("latin1");
    const module = new WebAssembly.Module(bytes as Uint8Array<ArrayBuffer>);
    const instance = new WebAssembly.Instance(module, {
      env: {
        wasm_on_message_begin: () => {
          this.#url = "";
          this.#fields = [];
          this.#body = "";
          this.#inValue = false;
          this.#inBody = false;
          this.#open = true;
          return 0;
        },
        wasm_on_url: (_: number, at: number, size: number) => {
          this.#url += span(at, size);
          return 0;
        },
        wasm_on_status: () => 0,
        wasm_on_header_field: (_: number, at: number, size: number) => {
          // Trailers come as fields too.
          if (this.#inBody) return 0;
          if (this.#inValue || this.#fields.length === 0) this.#fields.push(["", ""]);
          this.#inValue = false;
          (this.#fields.at(-1) as [string, string])[0] += span(at, size);
          return 0;
        },
        wasm_on_header_value: (_: number, at: number, size: number) => {
          if (this.#inBody) return 0;
          this.#inValue = true;
          (this.#fields.at(-1) as [string, string])[1] += span(at, size);
          return 0;
        },
        wasm_on_headers_complete: () => {
          this.#inBody = true;
          return 0;
        },
        wasm_on_body: (_: number, at: number, size: number) => {
          this.#body += span(at, size);
          return 0;
        },
        wasm_on_message_complete: () => {
          const own = this.#exports;
          this.#open = false;
          this.#messages.push({
            start:
              this.#what === "answers"
                ? String(own.llhttp_get_status_code(this.#parser))
                : `${this.#text(own.llhttp_method_name(own.llhttp_get_method(this.#parser)))} ${this.#url}`,
            minor: own.llhttp_get_http_minor(this.#parser),
            fields: this.#fields.map(([name, value]) => [name.toLowerCase(), value.replace(/^[ \t]+|[ \t]+$/g, "")]),
            body: this.#body,
          });
          return 0;
        },
      },
    });
    this.#exports = instance.exports as unknown as Exports;
  }

  #text(at: number): string {
    const bytes = new Uint8Array(this.#exports.memory.buffer);
    return at === 0 ? "" : Buffer.from(bytes.subarray(at, bytes.indexOf(0, at))).toString("latin1");
  }

  read(stream: Uint8Array): ForeignReading {
    const own = this.#exports;
    this.#messages = [];
    this.#open = false;
    const parser = own.llhttp_alloc(types[this.#what]);
    this.#parser = parser;
    const at = own.malloc(stream.length + 1);
    new Uint8Array(own.memory.buffer).set(stream, at);
    const code = own.llhttp_execute(parser, at, stream.length);
    // An answer may end with its connection.
    if (code === error.ok && this.#what === "answers") own.llhttp_finish(parser);
    const why = code === error.ok ? "" : this.#text(own.llhttp_get_error_reason(parser));
    own.free(at);
    own.llhttp_free(parser);
    return { messages: this.#messages, end: this.#endOf(code), why };
  }

  #endOf(code: number): ForeignReading["end"] {
    switch (code) {
      case error.ok:
        return this.#open ? "more" : "whole";
      case error.closedConnection:
        return "closed";
      case error.pausedUpgrade:
      case error.pausedH2Upgrade:
        return "tunnel";
      default:
        return "refused";
    }
  }
}
