// The socket as a program meets it, over real gRPC: who may ask, what is told and told anew, and what is refused.

import { afterEach, expect, test } from "bun:test";
import { mkdirSync, mkdtempSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Client, credentials, type Metadata, Metadata as MetadataOf, type ServiceError } from "@grpc/grpc-js";
import { silentLogger } from "../../base/log.ts";
import { writePem } from "../../base/pem.ts";
import { decodeBinary } from "../xds/proto/binary.ts";
import { encodeBinary } from "../xds/proto/encode.ts";
import { DiscoveryRequest, DiscoveryResponse, Secret, X509BundlesResponse, X509SvidResponse } from "../xds/proto/types.ts";
import type { Svid } from "./answers.ts";
import { serveWorkloadApi } from "./server.ts";

const der = (text: string) => new TextEncoder().encode(text);
const svid = (n: number): Svid => ({
  uri: "spiffe://cluster.local/ns/shop/sa/cart",
  certificatePem: writePem("CERTIFICATE", der(`leaf ${n}`)) + writePem("CERTIFICATE", der("middle")),
  privateKeyPem: writePem("PRIVATE KEY", der(`key ${n}`)),
  rootsPem: writePem("CERTIFICATE", der("root")),
});

const cleanUp: (() => void)[] = [];
afterEach(() => {
  for (const each of cleanUp.splice(0).reverse()) each();
});

async function served(first: Svid | undefined) {
  const dir = mkdtempSync(join(tmpdir(), "weft-workload-"));
  const path = join(dir, "api.sock");
  let now = first;
  const api = await serveWorkloadApi({ path, log: silentLogger, current: () => now });
  const client = new Client(`unix:${path}`, credentials.createInsecure());
  cleanUp.push(
    () => rmSync(dir, { recursive: true, force: true }),
    () => api.close(),
    () => client.close(),
  );
  return {
    path,
    client,
    change(next: Svid | undefined) {
      now = next;
      api.changed();
    },
  };
}

const header = (): Metadata => {
  const metadata = new MetadataOf();
  metadata.set("workload.spiffe.io", "true");
  return metadata;
};
const bytes = (value: Uint8Array): Buffer => Buffer.from(value);

/** What a server stream says, in order, and how it ended. */
function stream(client: Client, path: string, metadata: Metadata, request: Uint8Array = new Uint8Array(0)) {
  const got: Uint8Array[] = [];
  const waiting: (() => void)[] = [];
  const call = client.makeServerStreamRequest<Uint8Array, Uint8Array>(path, bytes, (raw) => raw, request, metadata);
  const ended = new Promise<ServiceError>((resolve) => call.on("error", (error) => resolve(error as ServiceError)));
  call.on("data", (each: Uint8Array) => {
    got.push(each);
    for (const go of waiting.splice(0)) go();
  });
  cleanUp.push(() => call.cancel());
  const atLeast = async (count: number): Promise<Uint8Array> => {
    while (got.length < count) await new Promise<void>((resolve) => waiting.push(resolve));
    return got[count - 1] as Uint8Array;
  };
  return { ended, atLeast, got };
}

test("an X.509-SVID is told, and told again when it is renewed", async () => {
  const { client, change, path } = await served(svid(1));
  expect(statSync(path).mode & 0o777).toBe(0o600);
  const watch = stream(client, "/SpiffeWorkloadAPI/FetchX509SVID", header());
  const first = decodeBinary(X509SvidResponse, await watch.atLeast(1), () => {});
  expect(first.svids).toHaveLength(1);
  expect({ ...first.svids[0] }).toMatchObject({ spiffeId: "spiffe://cluster.local/ns/shop/sa/cart" });
  expect(String(Buffer.from(first.svids[0]?.x509Svid ?? []))).toBe("leaf 1middle");
  expect(String(Buffer.from(first.svids[0]?.x509SvidKey ?? []))).toBe("key 1");
  expect(String(Buffer.from(first.svids[0]?.bundle ?? []))).toBe("root");
  change(svid(2));
  const second = decodeBinary(X509SvidResponse, await watch.atLeast(2), () => {});
  expect(String(Buffer.from(second.svids[0]?.x509SvidKey ?? []))).toBe("key 2");
  const bundles = stream(client, "/SpiffeWorkloadAPI/FetchX509Bundles", header());
  expect(Object.keys(decodeBinary(X509BundlesResponse, await bundles.atLeast(1), () => {}).bundles)).toEqual(["spiffe://cluster.local"]);
});

test("before there is an identity a caller waits for it", async () => {
  const { client, change } = await served(undefined);
  const watch = stream(client, "/SpiffeWorkloadAPI/FetchX509SVID", header());
  // Something that is answered on the same connection, so that the call above has surely arrived.
  expect((await stream(client, "/SpiffeWorkloadAPI/FetchJWTBundles", header()).ended).code).toBe(12);
  expect(watch.got).toEqual([]);
  change(svid(1));
  expect(decodeBinary(X509SvidResponse, await watch.atLeast(1), () => {}).svids).toHaveLength(1);
});

test("a caller without the security header is refused, and so are JWTs", async () => {
  const { client } = await served(svid(1));
  const refused = await stream(client, "/SpiffeWorkloadAPI/FetchX509SVID", new MetadataOf()).ended;
  expect([refused.code, refused.details]).toEqual([3, "the metadata workload.spiffe.io: true is missing (SPIFFE Workload Endpoint, 5.1)"]);
  const noJwt = await stream(client, "/SpiffeWorkloadAPI/FetchJWTBundles", header()).ended;
  expect([noJwt.code, noJwt.details]).toEqual([12, "this mesh issues X.509-SVIDs only; use FetchX509SVID"]);
});

test("Envoy's secrets go by SPIRE's names; another name is refused with those there are", async () => {
  const { client, change } = await served(svid(1));
  const call = client.makeBidiStreamRequest<Uint8Array, Uint8Array>(
    "/envoy.service.secret.v3.SecretDiscoveryService/StreamSecrets",
    bytes,
    (raw) => raw,
    new MetadataOf(),
  );
  const answers: Uint8Array[] = [];
  let more = Promise.withResolvers<void>();
  call.on("data", (each: Uint8Array) => {
    answers.push(each);
    more.resolve();
    more = Promise.withResolvers<void>();
  });
  const ended = new Promise<ServiceError>((resolve) => call.on("error", (error: Error) => resolve(error as ServiceError)));
  call.write(encodeBinary(DiscoveryRequest, { resourceNames: ["default", "ROOTCA"] }));
  await more.promise;
  const first = decodeBinary(DiscoveryResponse, answers[0] as Uint8Array, () => {});
  const found = first.resources.map((any) => decodeBinary(Secret, any.value, () => {}));
  expect(found.map((secret) => [secret.name, secret.type.case])).toEqual([
    ["default", "tlsCertificate"],
    ["ROOTCA", "validationContext"],
  ]);
  // An acknowledgement is not answered; a renewal is.
  call.write(encodeBinary(DiscoveryRequest, { resourceNames: ["default", "ROOTCA"], versionInfo: "1", responseNonce: "1" }));
  change(svid(2));
  await more.promise;
  expect(decodeBinary(DiscoveryResponse, answers[1] as Uint8Array, () => {}).versionInfo).toBe("2");
  call.write(encodeBinary(DiscoveryRequest, { resourceNames: ["other"] }));
  const error = await ended;
  expect([error.code, error.details]).toEqual([
    3,
    'there is no secret other; this socket has "default" (the identity) and "ROOTCA" (its roots)',
  ]);
});

test("bytes that are no request end their own call only", async () => {
  const { client } = await served(svid(1));
  const call = client.makeBidiStreamRequest<Uint8Array, Uint8Array>(
    "/envoy.service.secret.v3.SecretDiscoveryService/StreamSecrets",
    bytes,
    (raw) => raw,
    new MetadataOf(),
  );
  const ended = new Promise<ServiceError>((resolve) => call.on("error", (error: Error) => resolve(error as ServiceError)));
  call.write(new Uint8Array([0xff, 0xff, 0xff]));
  expect((await ended).details).toBe("this is no DiscoveryRequest");
  expect(await stream(client, "/SpiffeWorkloadAPI/FetchX509SVID", header()).atLeast(1)).toBeDefined();
});

test("a socket that a dead proxy left is replaced; anything else that stands there is not", async () => {
  const { path } = await served(svid(1));
  const second = await serveWorkloadApi({ path, log: silentLogger, current: () => svid(3) });
  const client = new Client(`unix:${path}`, credentials.createInsecure());
  cleanUp.push(
    () => second.close(),
    () => client.close(),
  );
  const got = decodeBinary(X509SvidResponse, await stream(client, "/SpiffeWorkloadAPI/FetchX509SVID", header()).atLeast(1), () => {});
  expect(String(Buffer.from(got.svids[0]?.x509SvidKey ?? []))).toBe("key 3");

  const dir = mkdtempSync(join(tmpdir(), "weft-workload-"));
  cleanUp.push(() => rmSync(dir, { recursive: true, force: true }));
  const file = join(dir, "file");
  writeFileSync(file, "mine");
  mkdirSync(join(dir, "folder"));
  const options = { log: silentLogger, current: () => undefined };
  await expect(serveWorkloadApi({ ...options, path: file })).rejects.toThrow("something that is no socket stands there");
  await expect(serveWorkloadApi({ ...options, path: join(dir, "folder") })).rejects.toThrow("something that is no socket stands there");
  await expect(serveWorkloadApi({ ...options, path: join(dir, "none", "x.sock") })).rejects.toThrow("cannot listen there");
  await expect(serveWorkloadApi({ ...options, path: `/${"x".repeat(120)}` })).rejects.toThrow(
    "the path may have 103 bytes, this one has 121",
  );
});
