// Owns: HAProxy configurations that do the work of the bench's Envoy bootstraps: routing by host and path, a refusal before an allowance,
// counters per frontend, backend and server (HAProxy keeps them always), request ids. One thread, like everybody here.
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Certificates } from "../certs.ts";
import type { HopPorts, PairPorts } from "./bootstrap.ts";
import type { FrontPorts, FrontWants } from "./front-bootstrap.ts";
import { HOST } from "./subject.ts";

// HAProxy takes two descriptors for each of them at its start, and many systems stop at 20 000.
const FRONT_CONNECTIONS = 9900;

const common = (connections: number): string => `global
  nbthread 1
  maxconn ${connections}
  ssl-default-bind-options ssl-min-ver TLSv1.3
  ssl-default-server-options ssl-min-ver TLSv1.3
defaults
  mode http
  option http-keep-alive
  timeout connect 5s
  timeout client 1h
  timeout server 15s
  timeout http-request 10s
  http-reuse always
  balance leastconn
`;

const COMMON = common(4096);

const REQUEST_ID = "  http-request set-header x-request-id %[uuid()] unless { req.hdr(x-request-id) -m found }\n";
const POLICIES = `  http-request deny deny_status 403 if { path_beg /api/admin }
  http-request deny deny_status 403 unless { method GET HEAD } { path_beg /api/ }
`;

const stats = (port: number): string => `frontend stats
  bind 127.0.0.1:${port}
  stats enable
  stats uri /
`;

function command(path: string, dir: string, name: string, text: string): readonly string[] {
  const file = join(dir, `${name}.cfg`);
  writeFileSync(file, text);
  return [path, "-db", "-f", file];
}

export function haproxyHop(path: string, dir: string, ports: HopPorts): readonly string[] {
  return command(
    path,
    dir,
    "haproxy-hop",
    `${COMMON}frontend hop
  bind 127.0.0.1:${ports.listen}
${POLICIES}${REQUEST_ID}  acl shop hdr(host) -i ${HOST}
  acl other hdr(host) -i other.example
  use_backend nowhere if other
  use_backend nowhere if shop { path /api/health }
  use_backend nowhere if shop { path_beg /static/ }
  use_backend origin if shop { path_beg /api/ }
backend origin
  server one 127.0.0.1:${ports.origin}
backend nowhere
  server one 127.0.0.1:${ports.origin}
${stats(ports.admin)}`,
  );
}

export function haproxyPairClient(path: string, dir: string, ports: PairPorts, certs: Certificates): readonly string[] {
  const tls = `ssl verify required ca-file ${certs.caFile} crt ${certs.client.bothFile} sni str(server) verifyhost server alpn http/1.1`;
  return command(
    path,
    dir,
    `haproxy-a${ports.tag ?? ""}`,
    `${COMMON}frontend outbound
  bind 127.0.0.1:${ports.listen}
${REQUEST_ID}  acl shop hdr(host) -i ${HOST}
  acl other hdr(host) -i other.example
  use_backend server if other
  use_backend impostor if shop { path /impostor }
  use_backend stranger if shop { path /stranger }
  use_backend server if shop { path_beg /api/ }
backend server
  server one 127.0.0.1:${ports.middle} ${tls}
backend impostor
  server one 127.0.0.1:${ports.impostor} ${tls}
backend stranger
  server one 127.0.0.1:${ports.stranger} ${tls}
${stats(ports.adminA)}`,
  );
}

export function haproxyPairServer(path: string, dir: string, ports: PairPorts, certs: Certificates): readonly string[] {
  return command(
    path,
    dir,
    `haproxy-b${ports.tag ?? ""}`,
    `${COMMON}frontend inbound
  bind 127.0.0.1:${ports.middle} ssl crt ${certs.server.bothFile} ca-file ${certs.caFile} verify required alpn http/1.1
  http-request deny deny_status 403 unless { ssl_c_s_dn(CN) -m str ${certs.client.commonName} }
${POLICIES}${REQUEST_ID}  default_backend origin
backend origin
  server one 127.0.0.1:${ports.origin}
${stats(ports.adminB)}`,
  );
}

/** Plain, TLS and opaque listeners; HTTP/2 is recognised on the plain one by its preface. */
export function haproxyFront(path: string, dir: string, ports: FrontPorts, certs: Certificates, wants: FrontWants): readonly string[] {
  const alpn = wants.http2 ? "alpn h2,http/1.1" : "alpn http/1.1";
  const tls = `  bind 127.0.0.1:${ports.tls} ssl crt ${certs.server.bothFile} ${alpn}
  bind 127.0.0.1:${ports.mutual} ssl crt ${certs.server.bothFile} ca-file ${certs.caFile} verify required ${alpn}
`;
  const second = `backend two
  server one 127.0.0.1:${ports.originHttp2} proto h2
backend calls
  server one 127.0.0.1:${ports.originGrpc} proto h2
`;
  const opaque = `listen opaque
  mode tcp
  bind 127.0.0.1:${ports.tcp}
  tcp-request connection reject unless { src 127.0.0.0/8 }
  server one 127.0.0.1:${ports.originHttp1}
`;
  return command(
    path,
    dir,
    "haproxy-front",
    `${common(FRONT_CONNECTIONS)}frontend front
  bind 127.0.0.1:${ports.plain}
${wants.tls ? tls : ""}  http-request deny deny_status 403 if { path_beg /api/admin }
  acl reading method GET HEAD
  acl calling method POST
  http-request deny deny_status 403 unless reading { path_beg /api/ } or calling { path_beg /bench.Echo/ } or calling { path_beg /api/upload/ }
${REQUEST_ID}  acl shop hdr(host) -i ${HOST}
  acl other hdr(host) -i other.example
  use_backend nowhere if other
  use_backend nowhere if shop { path /api/health }
  use_backend nowhere if shop { path_beg /static/ }
${wants.http2 ? "  use_backend two if shop { path_beg /api/two/ }\n  use_backend calls if shop { path_beg /bench.Echo/ }\n" : ""}  use_backend origin if shop { path_beg /api/ }
backend origin
  server one 127.0.0.1:${ports.originHttp1}
backend nowhere
  server one 127.0.0.1:${ports.originHttp1}
${wants.http2 ? second : ""}${wants.tcp ? opaque : ""}${stats(ports.admin)}`,
  );
}
