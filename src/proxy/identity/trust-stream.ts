// Owns: the stream on which the control plane tells of trust (SDS, state of the world): the roots of the mesh, with revocation lists for others, and who is
// denied. What is taken is acknowledged, what is not is refused with the reason. While there is no stream, what is held stays. Never decides about a peer.

import type { Clock } from "../../base/clock.ts";
import type { Logger } from "../../base/log.ts";
import type { Node } from "../../wire/gen/envoy/config/core/v3/base_pb.ts";
import { meshRootsSecret } from "../../wire/names.ts";
import { denyListSecret, secretStreamPath, secretTypeUrl } from "../../wire/trust.ts";
import type { ControlChannel } from "../xds/channel.ts";
import { type GrpcCall, grpcInvalidArgument, sayStatus } from "../xds/grpc.ts";
import { LastingStream } from "../xds/lasting-stream.ts";
import { decodeBinary } from "../xds/proto/binary.ts";
import { encodeBinary } from "../xds/proto/encode.ts";
import { DiscoveryRequest, DiscoveryResponse, Secret } from "../xds/proto/types.ts";

/** What came, as text; what did not come is undefined. */
export interface TrustUpdate {
  readonly rootsPem: string | undefined;
  readonly crlPem: string;
  readonly denyList: string | undefined;
}

export interface TrustStreamOptions {
  readonly clock: Clock;
  readonly log: Logger;
  readonly random: () => number;
  readonly channel: ControlChannel;
  readonly node: Node | undefined;
  /** Takes it up, whole or not at all; answers what is wrong with it. */
  readonly take: (update: TrustUpdate) => Promise<string | undefined>;
}

const names = [meshRootsSecret, denyListSecret];
/** gRPC's UNIMPLEMENTED: a control plane of another make, or an older one. */
const unimplemented = 12;

export function followTrust(options: TrustStreamOptions): LastingStream {
  const { clock, log, random, channel, node } = options;
  let call: GrpcCall | undefined;
  let taken = "";
  let complained = "";
  /** One after another: a later one must not be overtaken by an earlier. */
  let turn: Promise<void> = Promise.resolve();
  const send = (more: { versionInfo?: string; responseNonce?: string; error?: string }): void => {
    const { error, ...rest } = more;
    call?.send(
      encodeBinary(DiscoveryRequest, {
        ...(more.responseNonce === undefined && node !== undefined ? { node } : {}),
        typeUrl: secretTypeUrl,
        resourceNames: names,
        ...rest,
        ...(error === undefined ? {} : { errorDetail: { code: grpcInvalidArgument, message: error } }),
      }),
    );
  };
  return new LastingStream({
    clock,
    random,
    channel,
    path: secretStreamPath,
    opened(opened) {
      call = opened;
      taken = "";
      send({});
    },
    message(bytes) {
      const response = decodeBinary(DiscoveryResponse, bytes, () => {});
      const { nonce, versionInfo } = response;
      const on = call;
      turn = turn.then(async () => {
        let problem: string | undefined;
        try {
          problem = await options.take(read(response.resources.map((one) => one.value)));
        } catch (error) {
          problem = error instanceof Error ? error.message : String(error);
        }
        if (problem === undefined) taken = versionInfo;
        else log.error({ problem }, "What the control plane says of trust is refused; what was held stays.");
        if (call === on) send({ versionInfo: taken, responseNonce: nonce, ...(problem === undefined ? {} : { error: problem }) });
      });
    },
    ended(status) {
      call = undefined;
      const words = sayStatus(status);
      if (words === complained) return;
      complained = words;
      if (status.code === unimplemented)
        log.info({}, "This control plane tells nothing of trust beside certificates; roots come with each renewal.");
      else log.debug({ status: words }, "The stream of roots and deny list ended.");
    },
  });
}

/** Throws with a sentence on what is not to be understood. */
function read(resources: readonly Uint8Array[]): TrustUpdate {
  let rootsPem: string | undefined;
  let crlPem = "";
  let denyList: string | undefined;
  for (const bytes of resources) {
    const secret = decodeBinary(Secret, bytes, (field) => {
      throw new Error(`the secret has a field that is not known here (${String(field)})`);
    });
    if (secret.name === meshRootsSecret && secret.type.case === "validationContext") {
      rootsPem = textOf(secret.type.value.trustedCa);
      crlPem = secret.type.value.crl === undefined ? "" : textOf(secret.type.value.crl);
    } else if (secret.name === denyListSecret && secret.type.case === "genericSecret") denyList = textOf(secret.type.value.secret);
    else throw new Error(`a secret "${secret.name}" of type ${secret.type.case ?? "none"} was not asked for`);
  }
  return { rootsPem, crlPem, denyList };
}

function textOf(source: { readonly specifier: { readonly case?: string | undefined; readonly value?: unknown } } | undefined): string {
  const { case: kind, value } = source?.specifier ?? {};
  if (kind === "inlineBytes") return Buffer.from(value as Uint8Array).toString("utf8");
  if (kind === "inlineString") return value as string;
  throw new Error("a secret does not come inline");
}
