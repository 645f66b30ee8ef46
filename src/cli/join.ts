// Owns: asking the control plane of this machine for a join token, at its Unix socket: one line of JSON each way. The kernel tells it who is asking.

import { CliFailure } from "./failure.ts";

export interface Joined {
  readonly token: string;
  readonly expiresAt: string;
  readonly server: string;
  readonly caBundle: string;
}

const answerWithinMs = 10_000;
/** Of an answer: a token and some roots. */
const mostBytes = 1024 * 1024;

export async function askToJoin(path: string, namespace: string, serviceAccount: string): Promise<Joined> {
  const { promise, resolve, reject } = Promise.withResolvers<string>();
  const timer = setTimeout(() => reject(new CliFailure(`${path} does not answer`)), answerWithinMs);
  let heard = "";
  let close = (): void => {};
  try {
    const socket = await Bun.connect({
      unix: path,
      socket: {
        data(_socket, bytes) {
          heard += bytes.toString("utf8");
          if (heard.includes("\n") || heard.length > mostBytes) resolve(heard);
        },
        close: () => resolve(heard),
        error: (_socket, cause) => reject(cause),
      },
    }).catch((cause: NodeJS.ErrnoException) => {
      throw new CliFailure(
        `${path} cannot be reached (${cause.code ?? cause.message}); is the control plane started with --join-socket, and may this user open it?`,
      );
    });
    close = () => socket.end();
    socket.write(`${JSON.stringify({ namespace, serviceAccount })}\n`);
    const answer = parse(await promise, path);
    if (typeof answer.error === "string") throw new CliFailure(answer.error);
    const { token, expiresAt, server, caBundle } = answer;
    if (typeof token !== "string" || typeof expiresAt !== "string" || typeof server !== "string" || typeof caBundle !== "string")
      throw new CliFailure(`${path} answers something that is no join token`);
    return { token, expiresAt, server, caBundle };
  } finally {
    clearTimeout(timer);
    close();
  }
}

function parse(text: string, path: string): Partial<Record<"error" | keyof Joined, unknown>> {
  try {
    return JSON.parse(text) as Partial<Record<"error" | keyof Joined, unknown>>;
  } catch {
    throw new CliFailure(`${path} answers something that is no join token; is it the socket of weft up --join-socket?`);
  }
}
