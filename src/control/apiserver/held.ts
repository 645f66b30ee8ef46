// Owns: answers that go on beside watches (the audit log and the log, followed): they end when their caller would not get them now. Never looks into them.

import type { Call, Core } from "./core.ts";

/** The same answer, which ends early where credentials or right are gone; whoever asks again is told why. `path` is what the right is for. */
export function endsWithItsRight(core: Core, call: Call, path: string, response: Response): Response {
  if (response.body === null) return response;
  const reader = (response.body as ReadableStream<Uint8Array>).getReader();
  const verb = call.request.method.toLowerCase() as Lowercase<string>;
  const isRefused = () => call.whyNoMore?.() !== undefined || !core.deps.authorize(call.caller, { type: "path", verb, path }).allowed;
  let over = false;
  const finish = () => {
    over = true;
    core.rechecks.delete(recheck);
  };
  let end: () => void = finish;
  const recheck = () => {
    if (!over && isRefused()) end();
  };
  const body = new ReadableStream<Uint8Array>(
    {
      start(controller) {
        end = () => {
          finish();
          controller.close();
          void reader.cancel().catch(() => {});
        };
      },
      async pull(controller) {
        const { done, value } = await reader.read();
        if (over) return;
        if (!done) {
          controller.enqueue(value);
          return;
        }
        finish();
        controller.close();
      },
      cancel(reason) {
        finish();
        return reader.cancel(reason);
      },
    },
    { highWaterMark: 0 },
  );
  core.rechecks.add(recheck);
  recheck();
  return new Response(body, { status: response.status, headers: response.headers });
}
