// Owns: the demo's outside look at a sidecar's port: what an eavesdropper or an intruder would meet. Asks nothing of the mesh.

import { connect as connectPlain } from "node:net";
import { connect as connectTls } from "node:tls";

export interface WireFacts {
  readonly protocol: string;
  readonly identity: string;
  /** A TLS client without a certificate got an answer to its request. */
  readonly answeredWithoutCertificate: boolean;
  /** A plain-text request got an HTTP answer with a good status. */
  readonly answeredPlainText: boolean;
}

const request = "GET / HTTP/1.1\r\nhost: probe\r\nconnection: close\r\n\r\n";

/** Knocks at a port with TLS but no certificate, and with plain text. */
export async function lookAt(host: string, port: number): Promise<WireFacts> {
  const tls = await knockTls(host, port);
  return { ...tls, answeredPlainText: /^HTTP\/1\.[01] 2/.test(await knockPlain(host, port)) };
}

function knockTls(host: string, port: number): Promise<Omit<WireFacts, "answeredPlainText">> {
  return new Promise((resolve) => {
    let protocol = "none";
    let identity = "";
    let text = "";
    const socket = connectTls({ host, port, rejectUnauthorized: false, ALPNProtocols: ["http/1.1"] }, () => {
      protocol = socket.getProtocol() ?? "none";
      identity = socket.getPeerCertificate().subjectaltname ?? "";
      socket.write(request);
    });
    socket.setTimeout(3000, () => socket.destroy());
    socket.on("data", (bytes) => {
      text += bytes.toString("latin1");
    });
    socket.on("error", () => {});
    socket.on("close", () => resolve({ protocol, identity, answeredWithoutCertificate: text.startsWith("HTTP/") }));
  });
}

function knockPlain(host: string, port: number): Promise<string> {
  return new Promise((resolve) => {
    let text = "";
    const socket = connectPlain(port, host, () => socket.write(request));
    socket.setTimeout(3000, () => socket.destroy());
    socket.on("data", (bytes) => {
      text += bytes.toString("latin1");
    });
    socket.on("error", () => {});
    socket.on("close", () => resolve(text));
  });
}
