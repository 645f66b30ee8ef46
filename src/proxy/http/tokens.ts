// Owns: a request and its tokens: refused for a bad one, or going on with what is known of the caller, its head as the application shall see it. Judges no
// token itself (chain/jwt.ts). Loaded with the first listener that asks for tokens.

import type { HttpChain } from "../chain/chain.ts";
import type { CompiledJwt } from "../chain/jwt.ts";
import { withoutParameter } from "../chain/jwt-find.ts";
import { Head, parseRequest } from "../http1/head.ts";
import { type CompiledRoute, chooseTarget } from "../route/table.ts";
import { faults, type TokenFault } from "../tokens/token.ts";
import { equals, equalsIgnoreCase, latin1, text } from "./bytes.ts";
import type { Exchange } from "./exchange.ts";
import { failures } from "./failure.ts";
import { reply } from "./finish.ts";
import { toldScheme } from "./forwarded.ts";
import { fieldNamed } from "./grpc.ts";

const options = latin1("OPTIONS");
const origin = latin1("origin");
const wantedMethod = latin1("access-control-request-method");
/** As Envoy shortens it. */
const longestRealmPath = 256;

/** Of a request whose head was written anew; valid until the next one. */
const shownHead = new Head();

/** null: answered. Otherwise the head that it goes on with: the same, or one for `x.bytes`. */
export function checkTokens(
  x: Exchange,
  http: HttpChain,
  jwt: CompiledJwt,
  route: CompiledRoute | null,
  bytes: Uint8Array,
  head: Head,
): Head | null {
  const { core } = x.down;
  if (jwt.bypassPreflights && isPreflight(bytes, head)) {
    core.tokens.count(x.chain.name, "cors_preflight_bypassed");
    return head;
  }
  const fault = jwt.check(bytes, head, Math.floor(core.wallMs() / 1000));
  if (fault !== null) {
    core.tokens.count(x.chain.name, "denied");
    if (route !== null && route.forward !== null) x.refusedBy = chooseTarget(route.forward, core.random).slot.current;
    refuse(x, fault, bytes, head);
    return null;
  }
  core.tokens.count(x.chain.name, "allowed");
  const { outcome } = jwt;
  x.claims = outcome.claims;
  for (const param of outcome.params) takeParameter(x, bytes, head, param);
  if (outcome.lines === "" && !hasAny(bytes, head, outcome.drop)) return head;
  const made = show(bytes, head, outcome.drop, outcome.lines);
  shownHead.limits = http.limits;
  shownHead.openBody = head.openBody;
  if (made.length > http.limits.headBytes || parseRequest(made, 0, made.length, shownHead) <= 0) {
    reply(x, failures.noRoomForClaims, "");
    return null;
  }
  x.bytes = made;
  x.headFrom = shownHead.from;
  x.headTo = shownHead.to;
  return shownHead;
}

/** Fetch standard 3.2.2. */
function isPreflight(bytes: Uint8Array, head: Head): boolean {
  return equals(bytes, head.from, head.methodTo, options) && hasValue(bytes, head, origin) && hasValue(bytes, head, wantedMethod);
}

function hasValue(bytes: Uint8Array, head: Head, name: Uint8Array): boolean {
  const at = fieldNamed(bytes, head, name);
  return at >= 0 && (head.valueTo[at] as number) > (head.valueFrom[at] as number);
}

function refuse(x: Exchange, { status, sentence, details }: TokenFault, bytes: Uint8Array, head: Head): void {
  const host = text(bytes, head.authorityFrom, head.authorityTo);
  const path = text(bytes, head.pathFrom, Math.min(head.pathTo, head.pathFrom + longestRealmPath));
  const uri = `${toldScheme(bytes, head, x.chain.tls !== null) ? "https" : "http"}://${host}${path}`.replaceAll(/["\\]/g, "");
  // RFC 6750 3: nobody is told of an error who has shown no token.
  const error = sentence === faults.missing.sentence ? "" : ', error="invalid_token"';
  const lines = latin1(`www-authenticate: Bearer realm="${uri}"${error}\r\n`);
  reply(x, { ...failures.badToken, status, sentence, details, lines, grpc: status === 403 ? 7 : failures.badToken.grpc }, "");
}

/** What is forwarded in the place of the path has the token no more. */
function takeParameter(x: Exchange, bytes: Uint8Array, head: Head, param: string): void {
  const path = x.path === null ? text(bytes, head.pathFrom, head.pathTo) : text(x.path, 0, x.path.length);
  const left = withoutParameter(path, param);
  x.path = latin1(left === "" || left.startsWith("?") ? `/${left}` : left);
}

function isOneOf(bytes: Uint8Array, from: number, to: number, names: readonly Uint8Array[]): boolean {
  for (let n = 0; n < names.length; n++) if (equalsIgnoreCase(bytes, from, to, names[n] as Uint8Array)) return true;
  return false;
}

function hasAny(bytes: Uint8Array, head: Head, names: readonly Uint8Array[]): boolean {
  if (names.length === 0) return false;
  for (let i = 0; i < head.count; i++) if (isOneOf(bytes, head.nameFrom[i] as number, head.nameTo[i] as number, names)) return true;
  return false;
}

/** The head without some fields, and with more. */
function show(bytes: Uint8Array, head: Head, drop: readonly Uint8Array[], lines: string): Uint8Array {
  const made = Buffer.allocUnsafe(head.to - head.from + lines.length);
  // The parser takes no line end but CRLF, so that whole stretches between the fields that are taken out go on as they are.
  const end = head.to - 2;
  let run = head.from;
  let to = 0;
  for (let i = 0; i < head.count; i++) {
    const from = head.nameFrom[i] as number;
    if (!isOneOf(bytes, from, head.nameTo[i] as number, drop)) continue;
    made.set(bytes.subarray(run, from), to);
    to += from - run;
    run = i + 1 < head.count ? (head.nameFrom[i + 1] as number) : end;
  }
  made.set(bytes.subarray(run, end), to);
  to += end - run;
  to += made.write(lines, to, "latin1");
  to += made.write("\r\n", to, "latin1");
  return made.subarray(0, to);
}
