// Owns: the servers behind the fronts for answers over HTTP/2: HAProxy, which answers by itself and passes on to nginx what it has no answer for, and
// nghttpd, whose answers end with the trailers of gRPC. nginx spends four times as much on a small answer, and twice as much on a large one; on the core that it shares with the load generator
// it was the limit, and a subject that waits for its load pays a wake-up for every second request.
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { freePorts } from "../machine.ts";
import type { Found, Tool } from "../peers.ts";
import { untilAnswering } from "../probe.ts";
import type { Workshop } from "../proc.ts";
import { GRPC_PATH, HOST, LOAD_PATH, OVER_HTTP2 } from "../subjects/subject.ts";
import { bodySizes, grpcFrame } from "./nginx-origin.ts";

export interface QuickOrigins {
  /** HAProxy's port, for `/api/two`. */
  readonly http2: number;
  /** nghttpd's port, for calls. */
  readonly grpc: number;
}

/** Starts both on `cores`, the first before nginx's plain-text HTTP/2 port `behind`. Throws when a program is missing. */
export async function startQuickOrigins(
  input: { readonly shop: Workshop; readonly tools: Readonly<Record<Tool, Found>> },
  behind: number,
  cores: string,
  /** Bodies come from HAProxy too, which needs buffers for them; those of small answers stay small. */
  bodies: boolean,
): Promise<QuickOrigins> {
  const { haproxy, nghttpd } = input.tools;
  if (haproxy.path === null) throw new Error(`the origin of this case is HAProxy: ${haproxy.install}`);
  if (nghttpd.path === null) throw new Error(`the gRPC origin of this case is nghttpd: ${nghttpd.install}`);
  const [http2, grpc] = await freePorts(2);
  await startHaproxy(input.shop, haproxy.path, { port: http2!, behind }, cores, bodies);
  startNghttpd(input.shop, nghttpd.path, grpc!, cores);
  return { http2: http2!, grpc: grpc! };
}

async function startHaproxy(
  shop: Workshop,
  path: string,
  ports: { readonly port: number; readonly behind: number },
  cores: string,
  bodies: boolean,
): Promise<void> {
  const file = join(shop.dir, "quick-origin.cfg");
  const files = bodies ? Object.keys(bodySizes).filter((name) => name !== "1g") : [];
  writeFileSync(
    file,
    `global
  nbthread 1
  maxconn ${bodies ? 200 : 4096}
${bodies ? `  tune.bufsize ${bodySizes["1m"] + 65_536}\n` : ""}  tune.h2.max-concurrent-streams 1000
defaults
  mode http
  timeout connect 5s
  timeout client 1h
  timeout server 1h
frontend quick
  bind 127.0.0.1:${ports.port}
  http-request return status 200 content-type text/plain string "${"weft-bench ".repeat(10).slice(0, 100)}" if { path_beg ${OVER_HTTP2}/items/ }
  http-request return status 200 content-type text/plain lf-string "x-request-id: %[req.hdr(x-request-id)]\\r\\n" if { path ${OVER_HTTP2}/echo }
${files
  .map(
    (name) =>
      `  http-request return status 200 content-type application/octet-stream file ${shop.dir}/origin/api/body/${name} if { path ${OVER_HTTP2}/body/${name} }\n`,
  )
  .join("")}  default_backend whole
backend whole
  server nginx 127.0.0.1:${ports.behind} proto h2
`,
  );
  const started = shop.start("quick-origin", [path, "-db", "-f", file], cores);
  await untilAnswering(started, { port: ports.port, host: HOST, path: LOAD_PATH.replace("/api", OVER_HTTP2) }, performance.now());
}

/** It speaks nothing but HTTP/2, and listens within milliseconds; the subjects' checks ask it first. */
function startNghttpd(shop: Workshop, path: string, port: number, cores: string): void {
  const root = join(shop.dir, "calls");
  const file = join(root, GRPC_PATH);
  mkdirSync(join(file, ".."), { recursive: true });
  writeFileSync(file, grpcFrame());
  const types = join(shop.dir, "calls.types");
  writeFileSync(types, "application/grpc grpc\n");
  const flags = [
    "--no-tls",
    "--no-content-length",
    "--trailer=grpc-status: 0",
    `--mime-types-file=${types}`,
    "--max-concurrent-streams=1000",
    "-a",
    "127.0.0.1",
  ];
  shop.start("call-origin", [path, ...flags, "-d", root, String(port)], cores);
}
