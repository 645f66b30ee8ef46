import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { create } from "@bufbuild/protobuf";
import { systemClock } from "../../base/clock.ts";
import { DeltaDiscoveryResponseSchema } from "../../wire/gen/envoy/service/discovery/v3/discovery_pb.ts";
import type { Http2Connection } from "../http2/client.ts";
import { connectHttp2, type Http2TlsOptions } from "../http2/socket.ts";
import { GrpcCall, type GrpcStatus } from "./grpc.ts";
import { decodeBinary } from "./proto/binary.ts";
import { encodeBinary } from "./proto/encode.ts";
import { DeltaDiscoveryRequest, DeltaDiscoveryResponse, IstioCertificateRequest, IstioCertificateResponse } from "./proto/types.ts";
import { createTestAuthority, type FakeControlPlane, startFakeControlPlane, type TestAuthority, until } from "./testing.ts";

let authority: TestAuthority;
let tlsServer: FakeControlPlane;
let plainServer: FakeControlPlane;

beforeAll(async () => {
  authority = createTestAuthority();
  const issued = authority.issue("URI:spiffe://mesh/ns/weft-system/sa/weft");
  tlsServer = await startFakeControlPlane({ tls: { ca: authority.caPem, ...issued } });
  plainServer = await startFakeControlPlane();
});
afterAll(() => {
  tlsServer.stop();
  plainServer.stop();
  authority.close();
});

function connect(port: number, tls: Http2TlsOptions | null): Promise<Http2Connection> {
  return new Promise((resolve, reject) => {
    connectHttp2({
      clock: systemClock,
      address: { host: "127.0.0.1", port },
      tls,
      timeoutMs: 2000,
      opened: resolve,
      closed: (reason) => reject(new Error(reason)),
    });
  });
}

const deltaPath = "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources";

for (const kind of ["plain", "tls"] as const) {
  describe(`against grpc-js, ${kind}`, () => {
    const server = () => (kind === "tls" ? tlsServer : plainServer);
    const open = () =>
      connect(
        server().port,
        kind === "plain" ? null : { roots: authority.caPem, certificate: null, serverName: "", verify: (peer) => peer.chainProblem },
      );
    const scheme = kind === "tls" ? "https" : "http";

    test("a stream carries messages both ways, small and large", async () => {
      const connection = await open();
      const got: Uint8Array[] = [];
      const ends: GrpcStatus[] = [];
      const call = new GrpcCall(
        connection,
        { path: deltaPath, authority: "xds", scheme, metadata: [{ name: "authorization", value: "Bearer x", sensitive: true }] },
        { message: (bytes) => got.push(bytes), ended: (status) => ends.push(status), writable: () => {} },
      );
      call.send(encodeBinary(DeltaDiscoveryRequest, { typeUrl: "one" }));
      const stream = await until(() => server().delta.at(-1)?.requests.length === 1 && server().delta.at(-1));
      expect(stream.requests[0]?.typeUrl).toBe("one");
      expect(stream.metadata.get("authorization")).toEqual(["Bearer x"]);
      const sizes = [0, 1, 20_000, 3_000_000];
      for (const size of sizes) {
        stream.send(create(DeltaDiscoveryResponseSchema, { nonce: String(size), removedResources: ["x".repeat(size)] }));
      }
      await until(() => got.length === sizes.length, "four answers");
      const decoded = got.map((bytes) => decodeBinary(DeltaDiscoveryResponse, bytes, () => {}));
      expect(decoded.map((d) => d.nonce)).toEqual(sizes.map(String));
      expect(decoded.map((d) => d.removedResources[0]?.length)).toEqual(sizes);
      // Larger than any window: flow control must let it through piece by piece.
      call.send(encodeBinary(DeltaDiscoveryRequest, { typeUrl: "two", responseNonce: "y".repeat(2_000_000) }));
      await until(() => stream.requests.length === 2, "the large request");
      expect(stream.requests[1]?.responseNonce.length).toBe(2_000_000);
      call.finish();
      await until(() => ends.length === 1, "the end");
      expect(ends[0]?.code).toBe(0);
      connection.close("the test is over");
    });

    test("an error status comes with its message", async () => {
      const connection = await open();
      const ends: GrpcStatus[] = [];
      const call = new GrpcCall(
        connection,
        { path: "/istio.v1.auth.IstioCertificateService/CreateCertificate", authority: "xds", scheme, metadata: [] },
        { message: () => {}, ended: (status) => ends.push(status), writable: () => {} },
      );
      call.send(encodeBinary(IstioCertificateRequest, { csr: "x" }));
      call.finish();
      await until(() => ends.length === 1);
      expect(ends[0]).toEqual({ code: 12, message: "no authority here" });
      server().sign = () => ["a", "b"];
      const answers: Uint8Array[] = [];
      const again = new GrpcCall(
        connection,
        { path: "/istio.v1.auth.IstioCertificateService/CreateCertificate", authority: "xds", scheme, metadata: [] },
        { message: (bytes) => answers.push(bytes), ended: (status) => ends.push(status), writable: () => {} },
      );
      again.send(encodeBinary(IstioCertificateRequest, { csr: "x" }));
      again.finish();
      await until(() => ends.length === 2);
      expect(ends[1]?.code).toBe(0);
      expect(decodeBinary(IstioCertificateResponse, answers[0] as Uint8Array, () => {}).certChain).toEqual(["a", "b"]);
      connection.close("the test is over");
    });

    test("an unknown method and a dead server end calls with a status", async () => {
      const connection = await open();
      const ends: GrpcStatus[] = [];
      const events = { message: () => {}, ended: (status: GrpcStatus) => ends.push(status), writable: () => {} };
      new GrpcCall(connection, { path: "/no.Such/Method", authority: "xds", scheme, metadata: [] }, events).finish();
      await until(() => ends.length === 1);
      expect(ends[0]?.code).toBe(12);
      const other = await startFakeControlPlane();
      const doomed = await connect(other.port, null);
      const call = new GrpcCall(doomed, { path: deltaPath, authority: "xds", scheme: "http", metadata: [] }, events);
      call.send(encodeBinary(DeltaDiscoveryRequest, { typeUrl: "one" }));
      await until(() => other.delta.length === 1);
      other.stop();
      await until(() => ends.length === 2);
      expect(ends[1]?.code === 14 || ends[1]?.code === 1).toBe(true);
      connection.close("the test is over");
    });
  });
}

test("a server of another authority, or another name, is refused before a byte is sent", async () => {
  const stranger = createTestAuthority("stranger");
  const tls = (roots: string, verify: Http2TlsOptions["verify"]): Http2TlsOptions => ({ roots, certificate: null, serverName: "", verify });
  await expect(
    connect(
      tlsServer.port,
      tls(stranger.caPem, (peer) => peer.chainProblem),
    ),
  ).rejects.toThrow(/self signed certificate in certificate chain|unable to/);
  await expect(
    connect(
      tlsServer.port,
      tls(authority.caPem, (peer) => peer.chainProblem ?? "not who it should be"),
    ),
  ).rejects.toThrow("not who it should be");
  stranger.close();
});
