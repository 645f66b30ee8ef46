// Owns: the server behind the fronts: nginx with one HTTP/1.1 and one plain-text HTTP/2 port, answers of 100 bytes, bodies of fixed sizes, the
// request id it was sent, and a gRPC method that answers with trailers. A foreign server, so that no subject talks to itself.
import { closeSync, ftruncateSync, mkdirSync, openSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { freePorts } from "../machine.ts";
import { untilAnswering } from "../probe.ts";
import type { Started, Workshop } from "../proc.ts";
import { HOST, LOAD_PATH } from "../subjects/subject.ts";

/** A gRPC message with this many bytes after its five-byte prefix, both ways. */
export const GRPC_MESSAGE_BYTES = 48;
export const bodySizes = { "64k": 64 << 10, "1m": 1 << 20, "1g": 1 << 30 } as const;

/** A gRPC frame around a protobuf message with one string field. */
export function grpcFrame(): Buffer {
  const text = Buffer.from("weft-bench ".repeat(5).slice(0, GRPC_MESSAGE_BYTES - 2));
  const message = Buffer.concat([Buffer.from([0x0a, text.length]), text]);
  return Buffer.concat([Buffer.from([0, 0, 0, 0, message.length]), message]);
}

/** Starts the origin on `cores`; its ports answer when this resolves. */
export async function startNginxOrigin(
  shop: Workshop,
  nginx: string,
  cores: string,
): Promise<{ readonly started: Started; readonly http1: number; readonly http2: number }> {
  const [http1, http2] = await freePorts(2);
  const root = join(shop.dir, "origin");
  mkdirSync(join(root, "api/body"), { recursive: true });
  writeFileSync(join(root, "api/body/64k"), Buffer.alloc(bodySizes["64k"], "weft-bench "));
  writeFileSync(join(root, "api/body/1m"), Buffer.alloc(bodySizes["1m"], "weft-bench "));
  const sparse = openSync(join(root, "api/body/1g"), "w"); // takes no room on the disk
  ftruncateSync(sparse, bodySizes["1g"]);
  closeSync(sparse);
  writeFileSync(join(root, "grpc"), grpcFrame());
  const temp = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
    .map((kind) => `${kind}_temp_path ${shop.dir}/origin-${kind};`)
    .join(" ");
  const file = join(shop.dir, "origin.conf");
  writeFileSync(
    file,
    `daemon off; worker_processes 1; pid ${shop.dir}/origin.pid; error_log stderr error; ${process.getuid?.() === 0 ? "user root;" : ""}
events { worker_connections 16384; }
http {
  access_log off; ${temp} sendfile on; tcp_nopush on; tcp_nodelay on; client_max_body_size 0;
  keepalive_requests 1000000000; keepalive_timeout 3600s; client_header_timeout 3600s; http2_max_concurrent_streams 1000; http2_chunk_size 16k; send_timeout 3600s;
  open_file_cache max=16; types {} default_type application/octet-stream;
  server {
    listen 127.0.0.1:${http1} backlog=4096; listen 127.0.0.1:${http2} http2 backlog=4096; root ${root};
    rewrite ^/api/two/(.*)$ /api/$1;
    location /api/items/ { default_type text/plain; return 200 "${"weft-bench ".repeat(10).slice(0, 100)}"; }
    location /api/echo { return 200 "x-request-id: $http_x_request_id\\r\\n"; }
    location /api/body/ { }
    location /bench.Echo/ { rewrite ^ /grpc break; error_page 405 =200 /grpc; }
    location = /grpc { default_type application/grpc; ssi on; ssi_types application/grpc; add_trailer grpc-status 0; }
    location / { return 404; }
  }
}
`,
  );
  const started = shop.start("origin", [nginx, "-p", shop.dir, "-e", "stderr", "-c", file], cores);
  await untilAnswering(started, { port: http1!, host: HOST, path: LOAD_PATH }, performance.now());
  return { started, http1: http1!, http2: http2! };
}
