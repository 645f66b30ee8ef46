// Owns: reading the audit log for those who may: what of it is asked for, newest files first, and following it. Loaded when asked for. Never writes it.

import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { type AuditEntry, type AuditLog, auditFiles } from "./audit.ts";

/** A line of the log. */
export interface AuditLine extends AuditEntry {
  /** RFC 3339. */
  readonly at: string;
}

export interface AuditQuery {
  readonly user: string | undefined;
  readonly verb: string | undefined;
  /** `services`, `httproutes.gateway.networking.k8s.io` or `httproutes`; with `/SUBRESOURCE` or all of them. */
  readonly resource: string | undefined;
  readonly namespace: string | undefined;
  readonly name: string | undefined;
  /** Address without port, or the beginning of it. */
  readonly from: string | undefined;
  /** Only what was refused. */
  readonly denied: boolean;
  readonly sinceMs: number;
  readonly limit: number;
  readonly follow: boolean;
}

export const mostAuditLines = 10_000;
const defaultLines = 100;
/** Followers at once, and lines that one of them has not taken: then it is told to come again. */
export const mostFollowers = 32;
const mostWaiting = 1_000;

/** A sentence for whoever asked wrongly. */
export function parseAuditQuery(query: URLSearchParams): AuditQuery | string {
  const known = ["user", "verb", "resource", "namespace", "name", "from", "denied", "since", "limit", "follow"];
  const odd = [...query.keys()].find((key) => !known.includes(key));
  if (odd !== undefined) return `the audit log cannot be asked by ${JSON.stringify(odd)}; it knows ${known.join(", ")}`;
  const text = (key: string): string | undefined => query.get(key) ?? undefined;
  const on = (key: string): boolean => query.has(key) && query.get(key) !== "false";
  const limit = text("limit") ?? String(defaultLines);
  if (!/^\d{1,5}$/.test(limit) || Number(limit) > mostAuditLines)
    return `limit takes a number from 0 to ${mostAuditLines}, not ${JSON.stringify(limit)}`;
  const since = text("since");
  const sinceMs = since === undefined ? 0 : Date.parse(since);
  if (!Number.isFinite(sinceMs)) return `since takes a time such as 2026-11-24T03:00:00Z, not ${JSON.stringify(since)}`;
  return {
    user: text("user"),
    verb: text("verb"),
    resource: text("resource"),
    namespace: text("namespace"),
    name: text("name"),
    from: text("from"),
    denied: on("denied"),
    sinceMs,
    limit: Number(limit),
    follow: on("follow"),
  };
}

/** `line` is about what is asked for; of several operations one is enough. */
export function fits(line: AuditLine, query: AuditQuery): boolean {
  if (query.user !== undefined && line.user !== query.user && line.actingAs !== query.user) return false;
  if (query.from !== undefined && !line.from.startsWith(query.from)) return false;
  if (query.denied && line.code < 400 && line.operations?.some(({ code }) => code >= 400) !== true) return false;
  if (Date.parse(line.at) < query.sinceMs) return false;
  const objects = [line, ...(line.operations ?? [])];
  return objects.some(
    (each) =>
      (query.verb === undefined || each.verb === query.verb) &&
      (query.namespace === undefined || each.namespace === query.namespace) &&
      (query.name === undefined || each.name === query.name) &&
      (query.resource === undefined || isOf(each.resource, query.resource)),
  );
}

function isOf(resource: string | undefined, asked: string): boolean {
  if (resource === undefined) return false;
  const [whole = "", sub] = resource.split("/");
  const [wanted = "", wantedSub] = asked.split("/");
  if (wantedSub !== undefined && wantedSub !== sub) return false;
  return whole === wanted || whole.split(".")[0] === wanted;
}

/** The newest lines that fit, oldest first. A line that is not whole (a full disk, a kill) is passed over. */
export async function readAudit(dir: string, query: AuditQuery): Promise<AuditLine[]> {
  const found: AuditLine[] = [];
  for (let at = 0; at < auditFiles && found.length < query.limit; at++) {
    let text: string;
    try {
      text = await readFile(join(dir, at === 0 ? "audit.log" : `audit.log.${at}`), "utf8");
    } catch (cause) {
      if ((cause as NodeJS.ErrnoException).code === "ENOENT") break;
      throw cause;
    }
    const lines = text.split("\n");
    let newest = 0;
    for (let n = lines.length - 1; n >= 0 && found.length < query.limit; n--) {
      const line = parseLine(lines[n] as string);
      if (line === undefined) continue;
      newest ||= Date.parse(line.at);
      if (fits(line, query)) found.push(line);
    }
    // Files before it are older still.
    if (newest !== 0 && newest < query.sinceMs) break;
  }
  return found.reverse();
}

function parseLine(text: string): AuditLine | undefined {
  if (text === "") return undefined;
  try {
    return JSON.parse(text) as AuditLine;
  } catch {
    return undefined;
  }
}

let followers = 0;

/** `GET /weft/v1alpha1/audit`: JSON lines. `hold` keeps the server's idle timeout off. */
export async function answerAudit(url: URL, dir: string, log: AuditLog, hold: () => void): Promise<Response> {
  const query = parseAuditQuery(url.searchParams);
  if (typeof query === "string") return said(400, "BadRequest", query);
  const headers = { "content-type": "application/jsonl; charset=utf-8" };
  if (!query.follow) return new Response(textOf(await readAudit(dir, query)), { headers });
  if (followers >= mostFollowers) return said(429, "TooManyRequests", `${mostFollowers} follow the audit log already`);
  hold();
  followers++;
  const coder = new TextEncoder();
  let end: () => void = () => {};
  const body = new ReadableStream<Uint8Array>(
    {
      async start(controller) {
        // From now on first, then what was: nothing between the two is lost, and what stands in both is told once.
        let early: AuditLine[] | undefined = [];
        const stop = log.follow((line) => {
          if (!fits(line, query)) return;
          if (early !== undefined) early.push(line);
          else if ((controller.desiredSize ?? 0) <= 0) finish();
          else controller.enqueue(coder.encode(textOf([line])));
        });
        let over = false;
        function finish(): void {
          if (over) return;
          over = true;
          followers--;
          stop();
          try {
            controller.close();
          } catch {
            // Whoever followed has gone.
          }
        }
        end = finish;
        const before = await readAudit(dir, query).catch(() => []);
        if (over) return;
        const known = new Set(before.map((line) => JSON.stringify(line)));
        controller.enqueue(coder.encode(textOf([...before, ...early.filter((line) => !known.has(JSON.stringify(line)))])));
        early = undefined;
      },
      cancel: () => end(),
    },
    { highWaterMark: mostWaiting },
  );
  return new Response(body, { headers });
}

const textOf = (lines: readonly AuditLine[]): string => lines.map((line) => `${JSON.stringify(line)}\n`).join("");

function said(code: number, reason: string, message: string): Response {
  return Response.json({ kind: "Status", apiVersion: "v1", metadata: {}, status: "Failure", message, reason, code }, { status: code });
}
