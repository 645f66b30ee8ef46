// Owns: the streams on which proxies hear of trust (SDS, state of the world): the roots of the mesh and who is denied. Each holder of an identity keeps one
// open; what it has accepted is the proof that a new root may be issued from. Never sends a key, never decides what is trusted.

import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import type { ServerDuplexStream, ServiceDefinition } from "@grpc/grpc-js";
import { status } from "@grpc/grpc-js";
import type { Logger } from "../../base/log.ts";
import { SecretSchema } from "../../wire/gen/envoy/extensions/transport_sockets/tls/v3/secret_pb.ts";
import {
  type DiscoveryRequest,
  DiscoveryRequestSchema,
  DiscoveryResponseSchema,
} from "../../wire/gen/envoy/service/discovery/v3/discovery_pb.ts";
import { parseGrpcNodeId } from "../../wire/grpc-names.ts";
import { meshRootsSecret, parseNodeId } from "../../wire/names.ts";
import { formatIdentity, type Identity } from "../../wire/spiffe.ts";
import { denyListSecret, secretStreamPath, secretTypeUrl } from "../../wire/trust.ts";
import { codeOf, failureOf, type OpenCalls, type WhoIs } from "./caller.ts";

/** What is told now. */
export interface TrustNews {
  readonly rootsPem: string;
  /** Revocation lists for TLS stacks of others; empty: none. */
  readonly crlPem: string;
  readonly denyList: string;
}

type Call = ServerDuplexStream<DiscoveryRequest, Uint8Array>;

export interface TrustStreamsDeps {
  readonly log: Logger;
  readonly news: () => TrustNews;
  readonly whoIs: (call: Call) => Promise<WhoIs>;
  readonly standing: OpenCalls;
  readonly fail: (call: { emit(event: "error", error: unknown): boolean }, code: status, details: string) => void;
}

/** One holder of an identity, as it stands. */
export interface TrustHolder {
  /** `NAMESPACE/NAME` of its node, else its identity. */
  readonly key: string;
  /** `ip:port` of its connection. */
  readonly peer: string;
  /** The roots that it has accepted; undefined: none yet. */
  readonly rootsPem: string | undefined;
  /** Why it did not accept what it was sent last. */
  readonly problem: string | undefined;
  readonly call: Pick<Call, "getAuthContext">;
}

/** Of one mesh's holders; the same bound as streams that wait to be let in. */
export const mostTrustStreams = 65_536;
/** Of a reason. */
const mostShown = 500;

const asIs = (bytes: Uint8Array): Buffer => Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);

export const secretService: ServiceDefinition = {
  streamSecrets: {
    path: secretStreamPath,
    requestStream: true,
    responseStream: true,
    requestSerialize: () => {
      throw new Error("a server writes no requests");
    },
    requestDeserialize: (bytes: Buffer) => fromBinary(DiscoveryRequestSchema, bytes),
    responseSerialize: asIs,
    responseDeserialize: () => {
      throw new Error("a server reads no responses");
    },
  },
};

interface Open {
  key: string;
  readonly identity: Identity;
  readonly call: Call;
  wanted: readonly string[];
  serial: number;
  /** Told and not answered; what comes meanwhile waits. */
  underWay: { readonly nonce: string; readonly news: TrustNews } | undefined;
  sent: TrustNews | undefined;
  accepted: TrustNews | undefined;
  problem: string | undefined;
}

export class TrustStreams {
  readonly #deps: TrustStreamsDeps;
  readonly #open = new Set<Open>();

  constructor(deps: TrustStreamsDeps) {
    this.#deps = deps;
  }

  readonly stream = (call: Call): void => {
    if (this.#open.size >= mostTrustStreams) {
      this.#deps.fail(call, status.RESOURCE_EXHAUSTED, `${mostTrustStreams} streams of secrets are open already`);
      return;
    }
    let over = false;
    const waiting: DiscoveryRequest[] = [];
    let one: Open | undefined;
    let leave = () => {};
    const end = () => {
      over = true;
      leave();
      if (one !== undefined) this.#open.delete(one);
    };
    call.on("data", (request: DiscoveryRequest) => {
      if (one !== undefined) this.#receive(one, request);
      else if (waiting.length < 8) waiting.push(request);
    });
    call.on("end", () => {
      if (!over) call.end();
      end();
    });
    for (const event of ["cancelled", "close", "error"]) call.on(event, end);
    this.#deps.whoIs(call).then(
      (who) => {
        if (over) return;
        if (!who.ok) {
          this.#deps.fail(call, codeOf(who), who.reason);
          return;
        }
        leave = this.#deps.standing.add(who, (why) => this.#deps.fail(call, status.UNAUTHENTICATED, why));
        if (over) return;
        const { identity } = who;
        one = {
          key: formatIdentity(identity),
          identity,
          call,
          wanted: [],
          serial: 0,
          underWay: undefined,
          sent: undefined,
          accepted: undefined,
          problem: undefined,
        };
        this.#open.add(one);
        for (const request of waiting.splice(0)) this.#receive(one, request);
      },
      (cause: unknown) => {
        this.#deps.log.error({ cause }, "A stream of secrets could not be opened");
        const { code, details } = failureOf(cause, "the stream could not be opened; the control plane's log says why");
        if (!over) this.#deps.fail(call, code, details);
      },
    );
  };

  /** Tells everybody what is new to them. */
  publish(): void {
    for (const one of [...this.#open]) this.#tell(one);
  }

  holders(): readonly TrustHolder[] {
    return [...this.#open]
      .filter((one) => one.wanted.includes(meshRootsSecret))
      .map(({ key, call, accepted, problem }) => ({ key, peer: call.getPeer(), rootsPem: accepted?.rootsPem, problem, call }));
  }

  #receive(one: Open, request: DiscoveryRequest): void {
    const node = request.node === undefined ? undefined : (parseNodeId(request.node.id) ?? parseGrpcNodeId(request.node.id));
    if (node !== undefined && node.namespace === one.identity.namespace) one.key = `${node.namespace}/${node.workload}`;
    if (request.typeUrl !== "" && request.typeUrl !== secretTypeUrl) {
      this.#deps.fail(one.call, status.INVALID_ARGUMENT, `this stream has secrets only, not ${request.typeUrl.slice(0, 200)}`);
      return;
    }
    const unknown = request.resourceNames.filter((name) => name !== meshRootsSecret && name !== denyListSecret);
    if (unknown.length > 0) {
      this.#deps.fail(
        one.call,
        status.INVALID_ARGUMENT,
        `there is no secret ${unknown.join(", ").slice(0, 200)} here; there are ${meshRootsSecret} (the roots) and ${denyListSecret}. Keys never travel: a certificate is asked for with a request of one's own`,
      );
      return;
    }
    if (one.underWay !== undefined && request.responseNonce === one.underWay.nonce) {
      if (request.errorDetail === undefined) {
        one.accepted = one.underWay.news;
        one.problem = undefined;
      } else {
        one.problem = request.errorDetail.message.slice(0, mostShown);
        this.#deps.log.warn({ holder: one.key, peer: one.call.getPeer(), reason: one.problem }, "Roots or deny list were refused");
      }
      one.underWay = undefined;
    }
    const changed = request.resourceNames.length !== one.wanted.length || request.resourceNames.some((name) => !one.wanted.includes(name));
    one.wanted = request.resourceNames;
    this.#tell(one, changed);
  }

  #tell(one: Open, anew = false): void {
    if (one.wanted.length === 0 || one.underWay !== undefined) return;
    const news = this.#deps.news();
    if (!anew && one.sent !== undefined && same(one.sent, news)) return;
    one.serial++;
    const nonce = String(one.serial);
    one.sent = news;
    one.underWay = { nonce, news };
    const resources = one.wanted.map((name) => ({
      $typeName: "google.protobuf.Any" as const,
      typeUrl: secretTypeUrl,
      value: name === meshRootsSecret ? rootsSecret(news) : denySecret(news),
    }));
    one.call.write(
      toBinary(DiscoveryResponseSchema, create(DiscoveryResponseSchema, { versionInfo: nonce, nonce, typeUrl: secretTypeUrl, resources })),
    );
  }
}

function same(a: TrustNews, b: TrustNews): boolean {
  return a.rootsPem === b.rootsPem && a.crlPem === b.crlPem && a.denyList === b.denyList;
}

const inline = (text: string) => ({ specifier: { case: "inlineBytes" as const, value: Buffer.from(text) } });

function rootsSecret({ rootsPem, crlPem }: TrustNews): Uint8Array {
  const crl = crlPem === "" ? {} : { crl: inline(crlPem), onlyVerifyLeafCertCrl: true };
  const value = { trustedCa: inline(rootsPem), ...crl };
  return toBinary(SecretSchema, create(SecretSchema, { name: meshRootsSecret, type: { case: "validationContext", value } }));
}

function denySecret({ denyList }: TrustNews): Uint8Array {
  const value = { secret: inline(denyList) };
  return toBinary(SecretSchema, create(SecretSchema, { name: denyListSecret, type: { case: "genericSecret", value } }));
}
