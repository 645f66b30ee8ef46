// Owns: the certificates of the mutual-TLS case, made anew for each run: one CA, two workloads under it, a stranger under the same CA and
// an impostor under another. Must never be used outside the bench's temporary folder.
import { writeFileSync } from "node:fs";
import { join } from "node:path";

export interface Identity {
  readonly certFile: string;
  readonly keyFile: string;
  /** Certificate and key in one file, as HAProxy wants them. */
  readonly bothFile: string;
  readonly spiffeId: string;
  /** Common name; nginx and HAProxy check this where Weft and Envoy check the SPIFFE ID. */
  readonly commonName: string;
}

export interface Certificates {
  readonly caFile: string;
  readonly client: Identity;
  readonly server: Identity;
  /** Right CA, wrong name. */
  readonly stranger: Identity;
  /** Right name, wrong CA, in the server's and the client's role. */
  readonly impostorServer: Identity;
  readonly impostorClient: Identity;
}

/** P-256 keys and certificates with SPIFFE URI names under `dir`; throws with OpenSSL's own words if it fails. */
export function makeCertificates(openssl: string, dir: string): Certificates {
  const run = (args: readonly string[]): void => {
    const ran = Bun.spawnSync([openssl, ...args], { cwd: dir, stdout: "pipe", stderr: "pipe" });
    if (ran.exitCode !== 0) throw new Error(`openssl ${args[0]} failed: ${ran.stderr.toString().trim()}`);
  };
  const authority = (name: string): void => {
    run(["ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", `${name}.key`]);
    run([
      "req",
      "-x509",
      "-new",
      "-key",
      `${name}.key`,
      "-out",
      `${name}.crt`,
      "-days",
      "2",
      "-subj",
      `/O=bench ${name}`,
      "-addext",
      "keyUsage=critical,keyCertSign,cRLSign",
    ]);
  };
  const leaf = (file: string, name: string, ca: string): Identity => {
    const spiffeId = `spiffe://bench.local/ns/bench/sa/${name}`;
    writeFileSync(
      join(dir, `${file}.ext`),
      `basicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature\nextendedKeyUsage=serverAuth,clientAuth\nsubjectAltName=URI:${spiffeId}\n`,
    );
    run(["ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", `${file}.ec`]);
    run(["pkcs8", "-topk8", "-nocrypt", "-in", `${file}.ec`, "-out", `${file}.key`]);
    run(["req", "-new", "-key", `${file}.key`, "-out", `${file}.csr`, "-subj", `/CN=${name}`]);
    run([
      "x509",
      "-req",
      "-in",
      `${file}.csr`,
      "-CA",
      `${ca}.crt`,
      "-CAkey",
      `${ca}.key`,
      "-CAcreateserial",
      "-days",
      "2",
      "-extfile",
      `${file}.ext`,
      "-out",
      `${file}.crt`,
    ]);
    const bothFile = join(dir, `${file}.pem`);
    writeFileSync(bothFile, Bun.spawnSync(["cat", `${file}.crt`, `${file}.key`], { cwd: dir }).stdout);
    return { certFile: join(dir, `${file}.crt`), keyFile: join(dir, `${file}.key`), bothFile, spiffeId, commonName: name };
  };
  authority("ca");
  authority("other-ca");
  return {
    caFile: join(dir, "ca.crt"),
    client: leaf("client", "client", "ca"),
    server: leaf("server", "server", "ca"),
    stranger: leaf("stranger", "stranger", "ca"),
    impostorServer: leaf("impostor-server", "server", "other-ca"),
    impostorClient: leaf("impostor-client", "client", "other-ca"),
  };
}
