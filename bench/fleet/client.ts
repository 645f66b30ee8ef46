// Owns: one simulated proxy: delta xDS over gRPC (grpc-js) on a TLS connection of its own, subscribed as a sidecar is: all clusters and listeners,
// then the endpoints and routes that these name. Accepts everything at once and keeps names and versions only. Has no certificate: it shows a join
// token, which the control plane takes for a stream as well; so a fleet costs no certificates, which `docs/bench.md` says.
import { create, fromBinary, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import { Client, type ClientDuplexStream, credentials, Metadata } from "@grpc/grpc-js";
import {
  DeltaDiscoveryRequestSchema,
  type DeltaDiscoveryResponse,
  DeltaDiscoveryResponseSchema,
} from "../../src/wire/gen/envoy/service/discovery/v3/discovery_pb.ts";
import { nodeId } from "../../src/wire/names.ts";
import { typeUrl, type XdsType, xdsTypeOf } from "../../src/wire/xds-types.ts";

type Request = MessageInitShape<typeof DeltaDiscoveryRequestSchema>;

export interface Fleet {
  readonly address: string;
  readonly caPem: string;
  readonly token: string;
  readonly namespace: string;
  /** A resource came and was accepted. */
  readonly onAccepted: (proxy: SimulatedProxy, type: XdsType, name: string, atMs: number) => void;
}

const method = "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources";
/** Between an ended stream and the next try, at random up to twice this: what a fleet does when its control plane restarts. */
const backoffMs = 250;

export class SimulatedProxy {
  readonly name: string;
  readonly at: number;
  readonly #fleet: Fleet;
  readonly #wanted: Readonly<Record<XdsType, number>>;
  readonly held: Readonly<Record<XdsType, Map<string, string>>> = {
    cluster: new Map(),
    endpoint: new Map(),
    listener: new Map(),
    route: new Map(),
  };
  /** Streams that ended, with the last reason. */
  ended = 0;
  lastEnd = "";
  #client: Client | undefined;
  #stream: ClientDuplexStream<Request, DeltaDiscoveryResponse> | undefined;
  #stopped = false;
  #retry: ReturnType<typeof setTimeout> | undefined;

  /** `uses`: services that it has as upstreams. */
  constructor(at: number, name: string, uses: number, fleet: Fleet) {
    this.at = at;
    this.name = name;
    this.#fleet = fleet;
    // Its application's own cluster and listener besides.
    this.#wanted = { cluster: uses + 1, endpoint: uses, listener: uses + 1, route: uses };
  }

  /** It holds all that it should. */
  get configured(): boolean {
    return (Object.keys(this.#wanted) as XdsType[]).every((type) => this.held[type].size === this.#wanted[type]);
  }

  connect(): void {
    if (this.#stopped) return;
    for (const map of Object.values(this.held)) map.clear();
    const { address, caPem, token, namespace } = this.#fleet;
    this.#client ??= new Client(address, credentials.createSsl(Buffer.from(caPem)), {
      "grpc.use_local_subchannel_pool": 1,
      "grpc.ssl_target_name_override": "weft",
      "grpc.default_authority": "weft",
      "grpc.initial_reconnect_backoff_ms": backoffMs,
      "grpc.min_reconnect_backoff_ms": backoffMs,
      "grpc.max_reconnect_backoff_ms": backoffMs * 4,
    });
    const metadata = new Metadata({ waitForReady: true });
    metadata.set("authorization", `Bearer ${token}`);
    const stream = this.#client.makeBidiStreamRequest(
      method,
      (message: Request) => Buffer.from(toBinary(DeltaDiscoveryRequestSchema, create(DeltaDiscoveryRequestSchema, message))),
      (bytes: Buffer) => fromBinary(DeltaDiscoveryResponseSchema, bytes),
      metadata,
    );
    this.#stream = stream;
    stream.on("data", (message: DeltaDiscoveryResponse) => this.#receive(stream, message));
    stream.on("error", (error: Error) => this.#lost(stream, error.message));
    stream.on("end", () => this.#lost(stream, "ended"));
    stream.write({ node: { id: nodeId(namespace, this.name), userAgentName: "weft-bench" }, typeUrl: typeUrl.cluster });
    stream.write({ typeUrl: typeUrl.listener });
  }

  stop(): void {
    this.#stopped = true;
    clearTimeout(this.#retry);
    this.#stream?.cancel();
    this.#client?.close();
  }

  #receive(stream: ClientDuplexStream<Request, DeltaDiscoveryResponse>, message: DeltaDiscoveryResponse): void {
    const type = xdsTypeOf(message.typeUrl);
    if (type === undefined || type === "host") throw new Error(`the control plane sent ${message.typeUrl}, which nobody asked for`);
    const held = this.held[type];
    const fresh: string[] = [];
    for (const { name, version } of message.resources) {
      if (!held.has(name)) fresh.push(name);
      held.set(name, version);
    }
    for (const name of message.removedResources) held.delete(name);
    stream.write({ typeUrl: message.typeUrl, responseNonce: message.nonce });
    const atMs = performance.now();
    for (const { name } of message.resources) this.#fleet.onAccepted(this, type, name, atMs);
    if (type === "cluster")
      this.#subscribe(
        stream,
        "endpoint",
        fresh.filter((name) => name.startsWith("outbound|")),
      );
    if (type === "listener")
      this.#subscribe(
        stream,
        "route",
        fresh.filter((name) => name.startsWith("upstream|")),
      );
  }

  #subscribe(stream: ClientDuplexStream<Request, DeltaDiscoveryResponse>, type: XdsType, names: readonly string[]): void {
    if (names.length > 0) stream.write({ typeUrl: typeUrl[type], resourceNamesSubscribe: [...names] });
  }

  #lost(stream: ClientDuplexStream<Request, DeltaDiscoveryResponse>, why: string): void {
    if (this.#stopped || this.#stream !== stream) return;
    this.#stream = undefined;
    this.ended++;
    this.lastEnd = why;
    this.#retry = setTimeout(() => this.connect(), Math.random() * 2 * backoffMs);
  }
}
