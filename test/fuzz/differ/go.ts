// Owns: reading requests with Go's net/http server, through the program that scripts/install-peers.sh builds from test/peers/go/http1reader.

import { findPeer } from "../../support/peers.ts";
import type { ForeignParser, ForeignReading } from "./foreign.ts";

export function goServer(): ForeignParser {
  return {
    name: "go",
    // Host becomes a field of the request, framing fields are consumed, Trailer is made a map.
    hides: ["host", "transfer-encoding", "content-length", "trailer", "connection"],
    sorted: true,
    read,
  };
}

async function read(streams: readonly Uint8Array[]): Promise<readonly ForeignReading[]> {
  const program = findPeer("http1reader");
  if (program === undefined) throw new Error("http1reader is not installed");
  const child = Bun.spawn([program], {
    stdin: new Blob(streams.map((stream) => `${Buffer.from(stream).toString("base64")}\n`)),
    stdout: "pipe",
    stderr: "inherit",
  });
  const lines = (await new Response(child.stdout).text()).split("\n").filter((line) => line !== "");
  if ((await child.exited) !== 0 || lines.length !== streams.length)
    throw new Error(`http1reader read ${lines.length} of ${streams.length} streams`);
  return lines.map((line) => {
    const { messages, end, why } = JSON.parse(line) as { messages: readonly GoMessage[]; end: ForeignReading["end"]; why: string };
    return { messages: messages.map(({ method, target, ...rest }) => ({ start: `${method} ${target}`, ...rest })), end, why };
  });
}

interface GoMessage {
  readonly method: string;
  readonly target: string;
  readonly minor: number;
  readonly fields: readonly (readonly [string, string])[];
  readonly body: string;
}
