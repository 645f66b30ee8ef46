// Owns: what is counted of one gRPC call: its method, its status and its messages both ways.

import type { Series } from "../../base/metric.ts";
import type { Head } from "../http1/head.ts";
import { grpcStatusIn, grpcStatusOf, MessageCounter } from "./grpc.ts";

/** A method that has been called, with its series as they are found (`telemetry/request.ts` makes and owns them). */
export class GrpcMethod {
  /** `/package.Service/Method`, as it stands in the request. */
  readonly path: Uint8Array;
  readonly service: string;
  readonly method: string;
  /** By side and status. */
  readonly series: (Series | undefined)[] = [];

  constructor(path: Uint8Array, service: string, method: string) {
    this.path = path;
    this.service = service;
    this.method = method;
  }
}

export class GrpcCall {
  /** As answered; -1: the answer had none. */
  status = -1;
  readonly method: GrpcMethod;
  readonly sent = new MessageCounter();
  readonly received = new MessageCounter();

  constructor(method: GrpcMethod) {
    this.method = method;
  }
}

export function sawAnswerHead(call: GrpcCall, bytes: Uint8Array, head: Head, from: number, to: number): void {
  const status = grpcStatusOf(bytes, head);
  if (status >= 0) call.status = status;
  if (to > from) call.sent.scan(bytes, from, to);
}

export function sawAnswerBytes(call: GrpcCall, bytes: Uint8Array, from: number, to: number): void {
  if (to > from) call.sent.scan(bytes, from, to);
}

export function sawTrailers(call: GrpcCall, bytes: Uint8Array, from: number, to: number): void {
  const status = grpcStatusIn(bytes, from, to);
  if (status >= 0) call.status = status;
}
