// Owns: fetching one key set over https, within limits. Decides nothing about what becomes of it.

import { mostKeySetBytes, readKeySet, writeKeySet } from "../../wire/key-set.ts";

/** The keys in one form, or why there are none. Never rejects. */
export type FetchKeys = (uri: string, timeoutMs: number) => Promise<{ readonly keys: string } | { readonly error: string }>;

/** Another server, or plain text, is nobody that the policy names: redirections are not followed. */
export const fetchKeysByHttps: FetchKeys = async (uri, timeoutMs) => {
  if (!uri.startsWith("https://")) return { error: "is not https" };
  let text: string | undefined;
  try {
    const answer = await fetch(uri, {
      redirect: "manual",
      signal: AbortSignal.timeout(timeoutMs),
      headers: { accept: "application/json" },
    });
    if (answer.status !== 200) {
      await answer.body?.cancel();
      return {
        error:
          answer.status >= 300 && answer.status < 400 ? `redirects (${answer.status}), which is not followed` : `answered ${answer.status}`,
      };
    }
    text = await bounded(answer);
  } catch (cause) {
    return { error: said(cause, timeoutMs) };
  }
  if (text === undefined) return { error: `answered more than ${mostKeySetBytes} bytes` };
  const set = readKeySet(text);
  if (typeof set === "string") return { error: `the answer ${set}` };
  if (set.keys.length === 0)
    return {
      error: `the answer has no key that tokens can be checked with${set.passedOver
        .slice(0, 3)
        .map((each) => `; ${each}`)
        .join("")}`,
    };
  return { keys: writeKeySet(set.keys) };
};

/** undefined: it is longer than a set may be. */
async function bounded(answer: Response): Promise<string | undefined> {
  const pieces: Uint8Array[] = [];
  let size = 0;
  for await (const piece of answer.body ?? []) {
    size += piece.length;
    if (size > mostKeySetBytes) return undefined;
    pieces.push(piece);
  }
  return Buffer.concat(pieces).toString("utf8");
}

function said(cause: unknown, timeoutMs: number): string {
  if (!(cause instanceof Error)) return "cannot be fetched";
  if (cause.name === "TimeoutError") return `gave no answer within ${timeoutMs / 1000} s`;
  const code = (cause as { readonly code?: unknown }).code;
  return typeof code === "string" && code !== "" ? `cannot be fetched (${code})` : "cannot be fetched";
}
