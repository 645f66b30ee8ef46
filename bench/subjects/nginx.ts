// Owns: nginx configurations that do the work of the bench's Envoy bootstraps, as far as nginx goes: routing by host and location, refusals
// by `deny` and `limit_except`, request ids. nginx has no counters per route or endpoint: only `stub_status`, so it does a little less.
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Certificates } from "../certs.ts";
import type { HopPorts, PairPorts } from "./bootstrap.ts";
import type { FrontPorts, FrontWants } from "./front-bootstrap.ts";
import { HOST } from "./subject.ts";

const FOREVER = "keepalive_requests 1000000000; keepalive_timeout 3600s;"; // the default closes a connection after 1000 requests

function command(path: string, dir: string, name: string, http: string, connections = 4096): readonly string[] {
  const file = join(dir, `${name}.conf`);
  const temp = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"].map((kind) => `${kind}_temp_path ${dir}/${name}-${kind};`).join(" ");
  writeFileSync(
    file,
    `daemon off; worker_processes 1; pid ${dir}/${name}.pid; error_log stderr error; ${process.getuid?.() === 0 ? "user root;" : ""}
events { worker_connections ${connections}; }
http {
  access_log off; ${temp} ${FOREVER}
  map $http_x_request_id $id { "" $request_id; default $http_x_request_id; }
  proxy_http_version 1.1;
  proxy_set_header Connection "";
  proxy_set_header Host $host;
  proxy_set_header X-Request-Id $id;
${http}}
`,
  );
  return [path, "-p", dir, "-e", "stderr", "-c", file];
}

const upstream = (name: string, port: number): string =>
  `  upstream ${name} { least_conn; server 127.0.0.1:${port}; keepalive 256; keepalive_requests 1000000000; keepalive_timeout 3600s; }\n`;
const status = (port: number): string => `  server { listen 127.0.0.1:${port}; location / { stub_status; } }\n`;
const POLICIES = "location /api/admin { deny all; }";
const readOnly = (pass: string): string => `limit_except GET { deny all; } proxy_pass ${pass};`; // GET admits HEAD as well

export function nginxHop(path: string, dir: string, ports: HopPorts): readonly string[] {
  return command(
    path,
    dir,
    "nginx-hop",
    `${upstream("origin", ports.origin)}${upstream("nowhere", ports.origin)}${status(ports.admin)}  server { listen 127.0.0.1:${ports.listen} default_server; return 404; }
  server { listen 127.0.0.1:${ports.listen}; server_name other.example; location / { proxy_pass http://nowhere; } }
  server { listen 127.0.0.1:${ports.listen}; server_name ${HOST};
    ${POLICIES}
    location = /api/health { ${readOnly("http://nowhere")} }
    location /static/ { deny all; }
    location /api/ { ${readOnly("http://origin")} }
    location / { deny all; }
  }
`,
  );
}

export function nginxPairClient(path: string, dir: string, ports: PairPorts, certs: Certificates): readonly string[] {
  return command(
    path,
    dir,
    `nginx-a${ports.tag ?? ""}`,
    `${upstream("server", ports.middle)}${upstream("impostor", ports.impostor)}${upstream("stranger", ports.stranger)}${status(ports.adminA)}
  proxy_ssl_protocols TLSv1.3; proxy_ssl_verify on; proxy_ssl_verify_depth 2; proxy_ssl_trusted_certificate ${certs.caFile};
  proxy_ssl_certificate ${certs.client.certFile}; proxy_ssl_certificate_key ${certs.client.keyFile};
  proxy_ssl_server_name on; proxy_ssl_name ${certs.server.commonName};
  server { listen 127.0.0.1:${ports.listen} default_server; return 404; }
  server { listen 127.0.0.1:${ports.listen}; server_name other.example; location / { proxy_pass https://server; } }
  server { listen 127.0.0.1:${ports.listen}; server_name ${HOST};
    location = /impostor { proxy_pass https://impostor; }
    location = /stranger { proxy_pass https://stranger; }
    location /api/ { proxy_pass https://server; }
    location / { return 404; }
  }
`,
  );
}

export function nginxPairServer(path: string, dir: string, ports: PairPorts, certs: Certificates): readonly string[] {
  return command(
    path,
    dir,
    `nginx-b${ports.tag ?? ""}`,
    `${upstream("origin", ports.origin)}${status(ports.adminB)}
  ssl_protocols TLSv1.3; ssl_certificate ${certs.server.certFile}; ssl_certificate_key ${certs.server.keyFile};
  ssl_client_certificate ${certs.caFile}; ssl_verify_client on; ssl_verify_depth 2;
  server { listen 127.0.0.1:${ports.middle} ssl default_server;
    if ($ssl_client_s_dn != "CN=${certs.client.commonName}") { return 403; }
    ${POLICIES}
    location /api/ { ${readOnly("http://origin")} }
    location / { deny all; }
  }
`,
  );
}

/** Plain and TLS listeners, with HTTP/2 in front on a port of its own where the text is plain. nginx speaks HTTP/2 to no origin but for gRPC. */
export function nginxFront(
  path: string,
  dir: string,
  ports: FrontPorts,
  http2Port: number,
  certs: Certificates,
  wants: FrontWants,
): readonly string[] {
  const h2 = wants.http2 ? " http2" : "";
  const certificate = `ssl_protocols TLSv1.3; ssl_certificate ${certs.server.certFile}; ssl_certificate_key ${certs.server.keyFile};`;
  const routes = `
    proxy_max_temp_file_size 0; client_max_body_size 0;
    ${POLICIES}
    location = /api/health { ${readOnly("http://nowhere")} }
    location /static/ { deny all; }
    location /api/upload/ { limit_except POST { deny all; } proxy_pass http://origin; }
    location /api/ { ${readOnly("http://origin")} }
    ${wants.http2 ? "location /bench.Echo/ { limit_except POST { deny all; } grpc_set_header X-Request-Id $id; grpc_pass grpc://calls; }" : ""}
    location / { deny all; }
  }
`;
  const server = (listen: string, extra: string): string =>
    `  server { listen ${listen} default_server backlog=4096; ${extra} return 404; }
  server { listen ${listen}; server_name other.example; ${extra} location / { proxy_pass http://nowhere; } }
  server { listen ${listen}; server_name ${HOST}; ${extra}${routes}`;
  const servers = [
    server(`127.0.0.1:${ports.plain}`, ""),
    ...(wants.http2 ? [server(`127.0.0.1:${http2Port} http2`, "")] : []),
    ...(wants.tls
      ? [
          server(`127.0.0.1:${ports.tls} ssl${h2}`, certificate),
          server(
            `127.0.0.1:${ports.mutual} ssl${h2}`,
            `${certificate} ssl_client_certificate ${certs.caFile}; ssl_verify_client on; ssl_verify_depth 2;`,
          ),
        ]
      : []),
  ];
  const upstreams = [
    upstream("origin", ports.originHttp1),
    upstream("nowhere", ports.originHttp1),
    ...(wants.http2 ? [upstream("two", ports.originHttp2), upstream("calls", ports.originGrpc)] : []),
  ];
  return command(path, dir, "nginx-front", `${upstreams.join("")}${status(ports.admin)}${servers.join("")}`, 24_000);
}
