// Owns: what is counted of one gRPC call: its status and its messages both ways. One object per stream, made with its first gRPC call and reused.

import type { Head } from "../http1/head.ts";
import { grpcStatusIn, grpcStatusOf, MessageCounter } from "./grpc.ts";

export class GrpcCall {
  /** As answered; -1: the answer had none. */
  status = -1;
  service = "";
  method = "";
  readonly sent = new MessageCounter();
  readonly received = new MessageCounter();

  begin(service: string, method: string): void {
    this.status = -1;
    this.service = service;
    this.method = method;
    this.sent.reset();
    this.received.reset();
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
