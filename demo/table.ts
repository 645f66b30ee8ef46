// Owns: the demo's live table. Reads the mesh's edges over its API and draws them; the story never looks here.

interface Edge {
  metadata: { name: string };
  status: {
    source: { app: string; version: string };
    destination: { app: string; version: string };
    protocol: string;
    requestsPerSecond: number;
    successRatio: number | null;
    p50Ms: number | null;
    p99Ms: number | null;
    bytesPerSecond: number;
    mutualTls: boolean | null;
  };
}

/** Reads the edges; undefined while the control plane is away. */
export async function readEdges(dashboardUrl: string): Promise<readonly Edge[] | undefined> {
  const url = new URL(dashboardUrl);
  const token = url.searchParams.get("token") ?? "";
  try {
    const answer = await fetch(`${url.origin}/apis/weft.dev/v1alpha1/edges`, {
      headers: { authorization: `Bearer ${token}` },
      signal: AbortSignal.timeout(1500),
    });
    if (!answer.ok) return undefined;
    return ((await answer.json()) as { items: Edge[] }).items;
  } catch {
    return undefined;
  }
}

const number = (value: number | null, digits: number): string => (value === null ? "-" : value.toFixed(digits));

const named = (end: { app: string; version: string }): string =>
  end.version === "" || end.version === "unknown" ? end.app : `${end.app} ${end.version}`;

export function drawEdges(edges: readonly Edge[] | undefined): string[] {
  if (edges === undefined) return ["(the control plane is away; traffic goes on)"];
  const rows = edges
    .map(({ status: s }) => [
      `${named(s.source)} -> ${named(s.destination)}`,
      s.protocol === "tcp" ? `${(s.bytesPerSecond / 1024).toFixed(1)} KiB` : number(s.requestsPerSecond, 1),
      s.protocol === "tcp" ? "-" : s.successRatio === null ? "-" : `${(s.successRatio * 100).toFixed(1)} %`,
      s.protocol === "tcp" ? "-" : number(s.p50Ms, 1),
      s.protocol === "tcp" ? "-" : number(s.p99Ms, 1),
      s.mutualTls === null ? "-" : s.mutualTls ? "yes" : "NO",
    ])
    .sort((a, b) => (a[0] as string).localeCompare(b[0] as string));
  const all = [["edge", "req/s", "success", "p50 ms", "p99 ms", "mTLS"], ...rows];
  const widths = [0, 1, 2, 3, 4, 5].map((column) => Math.max(...all.map((row) => (row[column] as string).length)));
  return all.map((row) =>
    row.map((cell, column) => (column === 0 ? cell.padEnd(widths[column] as number) : cell.padStart(widths[column] as number))).join("  "),
  );
}
