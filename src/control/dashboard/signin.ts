// Owns: how a browser proves itself to the dashboard: a link with a token once, a cookie from then on. Pure but for the key it is given.
// The cookie is HttpOnly and SameSite=Strict; it names its end and is signed with a key derived from the admin token, so that a restart
// does not sign anybody out and a new admin token signs everybody out.

import { createHmac, timingSafeEqual } from "node:crypto";
import type { Secret } from "../identity/secret.ts";

const lifeMs = 7 * 86_400_000;

export class SignIn {
  readonly #admin: Secret;
  readonly #port: () => number;

  constructor(admin: Secret, port: () => number) {
    this.#admin = admin;
    this.#port = port;
  }

  /** The token in the link that `weft up` prints. Not the admin token, which then appears in no browser history. */
  get linkToken(): string {
    return this.#mac("link");
  }

  /** A token typed in or taken from a link: the link's own or the admin token. */
  accepts(token: string): boolean {
    return same(token, this.linkToken) || this.#admin.equals(token);
  }

  /** Set-Cookie for a browser that proved itself. */
  cookie(nowMs: number): string {
    const end = String(nowMs + lifeMs);
    return `${this.#name()}=${end}.${this.#mac(`cookie ${end}`)}; Path=/; HttpOnly; SameSite=Strict; Max-Age=${lifeMs / 1000}`;
  }

  /** Set-Cookie that signs out. */
  clear(): string {
    return `${this.#name()}=; Path=/; HttpOnly; SameSite=Strict; Max-Age=0`;
  }

  isSignedIn(cookieHeader: string | null, nowMs: number): boolean {
    for (const part of (cookieHeader ?? "").split(";")) {
      const at = part.indexOf("=");
      if (at < 0 || part.slice(0, at).trim() !== this.#name()) continue;
      const [end, mac, more] = part
        .slice(at + 1)
        .trim()
        .split(".");
      if (end === undefined || mac === undefined || more !== undefined || !/^\d{1,15}$/.test(end)) continue;
      if (Number(end) > nowMs && same(mac, this.#mac(`cookie ${end}`))) return true;
    }
    return false;
  }

  /** Cookies do not know ports: two meshes on one host must not sign each other out. */
  #name(): string {
    return `weft-${this.#port()}`;
  }

  #mac(text: string): string {
    return createHmac("sha256", this.#admin.reveal()).update(`weft dashboard ${text}`).digest("base64url");
  }
}

function same(a: string, b: string): boolean {
  const [x, y] = [Buffer.from(a), Buffer.from(b)];
  return x.length === y.length && timingSafeEqual(x, y);
}
