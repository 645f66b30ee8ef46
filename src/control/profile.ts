// Owns: profiles of the control plane's own process, for its administrator: where its time goes and what fills its memory. Loaded when asked for.
// A heap snapshot holds whatever is in memory, keys and tokens included: its path is the administrator's unless a role names it.

import { Session } from "node:inspector/promises";

const mostSeconds = 60;
let underWay = false;

/** `GET …/profile/cpu?seconds=10`: a .cpuprofile; `…/profile/heap`: a .heapsnapshot. Both open in Chrome's developer tools. undefined = no such profile. */
export async function profile(url: URL, hold: () => void): Promise<Response | undefined> {
  const what = url.pathname.slice(url.pathname.lastIndexOf("/") + 1);
  if (what !== "cpu" && what !== "heap") return undefined;
  const text = url.searchParams.get("seconds") ?? "10";
  const seconds = Number(text);
  if (!/^\d{1,2}$/.test(text) || seconds < 1 || seconds > mostSeconds)
    return said(400, "BadRequest", `seconds takes a whole number from 1 to ${mostSeconds}, not ${JSON.stringify(text)}`);
  if (underWay) return said(409, "Conflict", "a profile is being taken already; wait for its end");
  underWay = true;
  hold();
  try {
    const body = what === "heap" ? Bun.generateHeapSnapshot("v8") : await cpuProfile(seconds);
    const name = what === "heap" ? "weft.heapsnapshot" : "weft.cpuprofile";
    return new Response(body, { headers: { "content-type": "application/json", "content-disposition": `attachment; filename="${name}"` } });
  } finally {
    underWay = false;
  }
}

async function cpuProfile(seconds: number): Promise<string> {
  const session = new Session();
  session.connect();
  try {
    await session.post("Profiler.enable");
    await session.post("Profiler.start");
    await Bun.sleep(seconds * 1000);
    const { profile: taken } = await session.post("Profiler.stop");
    return JSON.stringify(taken);
  } finally {
    session.disconnect();
  }
}

function said(code: number, reason: string, message: string): Response {
  return Response.json({ kind: "Status", apiVersion: "v1", metadata: {}, status: "Failure", message, reason, code }, { status: code });
}
