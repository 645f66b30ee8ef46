// Owns: requests to the control plane's REST API: CA, token, Status errors, watch streams. Knows no kind and prints nothing.

import { CliFailure, reasonOf } from "./failure.ts";
import type { Access } from "./kubeconfig.ts";

export interface Cause {
  readonly field: string;
  readonly message: string;
  readonly reason: string;
}

/** The server answered, and the answer is no (a Status object of the Kubernetes API). */
export class ApiFailure extends CliFailure {
  readonly code: number;
  readonly reason: string;
  readonly causes: readonly Cause[];
  constructor(code: number, reason: string, message: string, causes: readonly Cause[]) {
    super(message);
    this.code = code;
    this.reason = reason;
    this.causes = causes;
  }
}

/** The server could not be asked. `retryable`: it may only be away (refused, reset, timed out). */
export class Unreachable extends CliFailure {
  readonly retryable: boolean;
  constructor(message: string, retryable: boolean) {
    super(message);
    this.retryable = retryable;
  }
}

export interface Ask {
  readonly method?: "GET" | "POST" | "PUT" | "PATCH" | "DELETE";
  readonly body?: unknown;
  /** Default `application/json`. */
  readonly contentType?: string;
  readonly accept?: string;
  /** 0 = no limit (streams). Default 15 000. */
  readonly timeoutMs?: number;
  readonly signal?: AbortSignal;
  /** Statuses beside 2xx whose bodies are answers too. */
  readonly alsoGood?: readonly number[];
}

/** What the server keeps as the manager of fields that this program writes. */
const agent = "weft";

/** How often a request that came too soon (429) is sent again. */
const maxWaits = 5;

export const mergePatch = "application/merge-patch+json";
export const tableAccept = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";

export class Client {
  readonly access: Access;
  /** Hears of each warning that comes with an answer (RFC 9111 warn-code 299, as kubectl shows them). */
  onWarning: ((text: string) => void) | undefined;

  constructor(access: Access) {
    this.access = access;
    keepOffProxies(access.server);
  }

  /** The decoded JSON answer. Throws ApiFailure or Unreachable. */
  async json<T>(path: string, ask: Ask = {}): Promise<T> {
    const response = await this.#send(path, ask);
    const text = await this.#read(() => response.text());
    try {
      return JSON.parse(text) as T;
    } catch {
      throw new CliFailure(
        `${this.access.server}${path} answered ${response.status} with something that is no JSON: ${text.slice(0, 120)}`,
      );
    }
  }

  /** The answer's body as it comes, for what is no JSON. */
  async raw(path: string, ask: Ask = {}): Promise<Response> {
    return this.#send(path, { timeoutMs: 0, ...ask });
  }

  /** Lines of a streamed answer, as they come; ends when the server or `ask.signal` ends it. */
  async *lines(path: string, ask: Ask = {}): AsyncGenerator<string> {
    try {
      const response = await this.#send(path, { timeoutMs: 0, ...ask });
      const reader = (response.body as ReadableStream<Uint8Array>).getReader();
      const decoder = new TextDecoder();
      let rest = "";
      try {
        for (;;) {
          const chunk = await this.#read(() => reader.read());
          if (chunk.done) break;
          const parts = (rest + decoder.decode(chunk.value, { stream: true })).split("\n");
          rest = parts.pop() as string;
          for (const line of parts) if (line !== "") yield line;
        }
      } finally {
        reader.cancel().catch(() => undefined);
      }
      if (rest.trim() !== "") yield rest;
    } catch (error) {
      if (ask.signal?.aborted !== true) throw error;
    }
  }

  async #send(path: string, ask: Ask): Promise<Response> {
    const { access } = this;
    const headers: Record<string, string> = { accept: ask.accept ?? "application/json", "user-agent": agent };
    if (access.token !== undefined) headers.authorization = `Bearer ${access.token}`;
    const init: BunFetchRequestInit = { method: ask.method ?? "GET", headers, redirect: "manual" };
    if (ask.body !== undefined) {
      headers["content-type"] = ask.contentType ?? "application/json";
      init.body = JSON.stringify(ask.body);
    }
    const limits: AbortSignal[] = [];
    if (ask.signal !== undefined) limits.push(ask.signal);
    if (ask.timeoutMs !== 0) limits.push(AbortSignal.timeout(ask.timeoutMs ?? 15_000));
    if (limits.length > 0) init.signal = AbortSignal.any(limits);
    init.tls = {
      ...(access.ca === undefined ? {} : { ca: access.ca }),
      ...(access.serverName === undefined ? {} : { serverName: access.serverName }),
      ...access.certificate,
      rejectUnauthorized: !access.skipVerify,
    };
    let response: Response;
    try {
      response = await fetch(`${access.server}${path}`, init);
      // The control plane asks this credential to slow down. Nothing has been done with the request.
      for (let attempt = 1; response.status === 429 && attempt <= maxWaits; attempt++) {
        await Bun.sleep(Math.min(10, Number(response.headers.get("retry-after")) || 1) * 1000);
        response = await fetch(`${access.server}${path}`, init);
      }
    } catch (error) {
      throw this.#unreachable(error);
    }
    if (this.onWarning !== undefined) for (const text of warningsOf(response.headers.get("warning"))) this.onWarning(text);
    if (response.ok || ask.alsoGood?.includes(response.status) === true) return response;
    throw failureFrom(response.status, await this.#read(() => response.text()), access);
  }

  async #read<T>(read: () => Promise<T>): Promise<T> {
    try {
      return await read();
    } catch (error) {
      throw this.#unreachable(error);
    }
  }

  #unreachable(error: unknown): Unreachable {
    const { server, file } = this.access;
    const code = String((error as { code?: unknown }).code ?? "");
    const name = error instanceof Error ? error.name : "";
    if (code === "ConnectionRefused" || code === "ECONNREFUSED" || code === "FailedToOpenSocket") {
      return new Unreachable(`no control plane answers at ${server} (from ${file}). Is "weft up" running?`, true);
    }
    if (name === "TimeoutError") return new Unreachable(`the control plane at ${server} (from ${file}) did not answer in time`, true);
    if (
      code.includes("CERT") ||
      code.includes("SSL") ||
      code.includes("SELF_SIGNED") ||
      code.includes("ISSUER") ||
      code.includes("VERIFY")
    ) {
      return new Unreachable(
        `${server} shows a certificate that the CA in ${file} did not sign (${code}). Another control plane may be listening there; take its own admin.kubeconfig.`,
        false,
      );
    }
    if (code === "ECONNRESET") return new Unreachable(`the control plane at ${server} (from ${file}) closed the connection`, true);
    return new Unreachable(`the connection to ${server} (from ${file}) broke: ${reasonOf(error)}${code === "" ? "" : ` (${code})`}`, true);
  }
}

/** The texts of a Warning header; several are joined by commas, and a text may have commas itself. */
export function warningsOf(header: string | null): string[] {
  if (header === null) return [];
  return [...header.matchAll(/299 \S+ ("(?:[^"\\]|\\.)*")/g)].map((match) => JSON.parse(match[1] as string) as string);
}

/** A Status body as a failure; a body that is none is quoted. */
export function failureFrom(code: number, body: string, access: Pick<Access, "server" | "file">): ApiFailure {
  let status: { kind?: unknown; message?: unknown; reason?: unknown; details?: { causes?: unknown } };
  try {
    status = JSON.parse(body) as typeof status;
  } catch {
    status = {};
  }
  if (status?.kind !== "Status" || typeof status.message !== "string") {
    return new ApiFailure(code, "Unknown", `${access.server} answered ${code}: ${body.slice(0, 200) || "(empty)"}`, []);
  }
  const causes = Array.isArray(status.details?.causes)
    ? (status.details.causes as Record<string, unknown>[]).map((c) => ({
        field: String(c.field ?? ""),
        message: String(c.message ?? ""),
        reason: String(c.reason ?? ""),
      }))
    : [];
  const hint = code === 401 ? ` (the credential in ${access.file} is not, or no longer, good for ${access.server})` : "";
  return new ApiFailure(code, String(status.reason ?? ""), status.message + hint, causes);
}

/** kubectl never sends loopback through a proxy (Go's rule); Bun's fetch would. */
function keepOffProxies(server: string): void {
  const { hostname } = new URL(server);
  if (hostname !== "localhost" && hostname !== "[::1]" && !hostname.startsWith("127.")) return;
  for (const name of ["NO_PROXY", "no_proxy"]) {
    const now = process.env[name];
    if (now === undefined && name === "no_proxy" && process.env.NO_PROXY === undefined) continue;
    if (now?.split(",").some((h) => h.trim() === hostname) !== true) process.env[name] = now ? `${now},${hostname}` : hostname;
  }
}
