// Owns: the gRPC connections to the members of an etcd cluster: which member is asked, moving on when one does not answer, logging in. Never knows
// what the keys mean, and never repeats a write by itself: whether it was carried out is for the caller to find out.

import { readFileSync } from "node:fs";
import { isIP } from "node:net";
import { checkServerIdentity } from "node:tls";
import { create, type DescMessage, fromBinary, type MessageShape, toBinary } from "@bufbuild/protobuf";
import { Client, type ClientDuplexStream, credentials, Metadata } from "@grpc/grpc-js";
import {
  AuthenticateRequestSchema,
  AuthenticateResponseSchema,
  LeaseGrantRequestSchema,
  LeaseGrantResponseSchema,
  LeaseKeepAliveRequestSchema,
  LeaseKeepAliveResponseSchema,
  LeaseRevokeRequestSchema,
  LeaseRevokeResponseSchema,
  type RangeRequest,
  RangeRequestSchema,
  type RangeResponse,
  RangeResponseSchema,
  type TxnRequest,
  TxnRequestSchema,
  type TxnResponse,
  TxnResponseSchema,
  type WatchRequest,
  WatchRequestSchema,
  type WatchResponse,
  WatchResponseSchema,
} from "../../../wire/gen/etcd/etcdserverpb/rpc_pb.ts";
import { StoreFailure } from "../store.ts";
import { type Trouble, troubleOf } from "./failure.ts";

/** How a store in etcd is reached. Files are read at each connection, so that renewed certificates are taken up. */
export interface EtcdAddress {
  /** `host:port`, at least one. */
  readonly members: readonly string[];
  /** Everything is kept below it; begins with a slash, has none at its end. */
  readonly prefix: string;
  readonly tls:
    | { readonly caFile?: string | undefined; readonly certificateFile?: string | undefined; readonly keyFile?: string | undefined }
    | undefined;
  readonly user: { readonly name: string; readonly password: () => string } | undefined;
}

export interface ConnectionOptions {
  /** Of one call to one member, ms; a member that stands still is left after it. Default 2 000. */
  readonly callTimeoutMs?: number;
  /** Of a call over all members, ms; default 6 000. */
  readonly totalTimeoutMs?: number;
  readonly random?: () => number;
}

/** A message this large is no answer of a store of ours. */
const largestMessageBytes = 64 * 1024 * 1024;
/** Between two rounds over all members. */
const roundPauseMs = 100;
/** A member that stopped (SIGSTOP, a cut network) is noticed on a watch within their sum. */
const keepaliveMs = 2_000;
const keepaliveTimeoutMs = 2_000;

/** Thrown by calls: `trouble` says whether another try makes sense. */
export class EtcdError extends StoreFailure {
  readonly trouble: Trouble;
  constructor(trouble: Trouble) {
    super(trouble.error.message, { cause: trouble.error.cause });
    this.trouble = trouble;
  }
}

export interface WatchStream {
  cancel(): void;
}

export class EtcdConnection {
  readonly address: EtcdAddress;
  readonly #callTimeoutMs: number;
  readonly #totalTimeoutMs: number;
  readonly #clients: (Client | undefined)[];
  #at: number;
  #token: Promise<string> | undefined;
  #closed = false;

  constructor(address: EtcdAddress, options: ConnectionOptions = {}) {
    this.address = address;
    this.#callTimeoutMs = options.callTimeoutMs ?? 2_000;
    this.#totalTimeoutMs = options.totalTimeoutMs ?? 6_000;
    this.#clients = address.members.map(() => undefined);
    // Control planes spread over the members.
    this.#at = Math.floor((options.random ?? Math.random)() * address.members.length) % address.members.length;
  }

  /** The member asked first. */
  get member(): string {
    return this.address.members[this.#at] as string;
  }

  range(request: RangeRequest): Promise<RangeResponse> {
    return this.#call("/etcdserverpb.KV/Range", RangeRequestSchema, request, RangeResponseSchema, true);
  }

  /**
   * `repeatable`: doing it twice is the same as doing it once (reads); else an unknown outcome is thrown at once, for the caller to clear up.
   */
  txn(request: TxnRequest, repeatable: boolean): Promise<TxnResponse> {
    return this.#call("/etcdserverpb.KV/Txn", TxnRequestSchema, request, TxnResponseSchema, repeatable);
  }

  async grantLease(ttlSeconds: number): Promise<bigint> {
    const request = create(LeaseGrantRequestSchema, { TTL: BigInt(ttlSeconds) });
    const answer = await this.#call("/etcdserverpb.Lease/LeaseGrant", LeaseGrantRequestSchema, request, LeaseGrantResponseSchema, true);
    return answer.ID;
  }

  async revokeLease(id: bigint): Promise<void> {
    const request = create(LeaseRevokeRequestSchema, { ID: id });
    await this.#call("/etcdserverpb.Lease/LeaseRevoke", LeaseRevokeRequestSchema, request, LeaseRevokeResponseSchema, true);
  }

  /** Seconds that the lease lives on; 0 = it is gone. */
  async keepLeaseAlive(id: bigint): Promise<number> {
    const request = create(LeaseKeepAliveRequestSchema, { ID: id });
    return this.#eachMember(true, async (client, metadata) => {
      const stream = client.makeBidiStreamRequest(
        "/etcdserverpb.Lease/LeaseKeepAlive",
        encoder(LeaseKeepAliveRequestSchema),
        decoder(LeaseKeepAliveResponseSchema),
        metadata,
        { deadline: Date.now() + this.#callTimeoutMs },
      );
      try {
        return await new Promise<number>((resolve, reject) => {
          stream.on("data", (answer) => resolve(Number(answer.TTL)));
          stream.on("error", reject);
          stream.on("end", () => reject(new Error("the stream ended without an answer")));
          stream.write(request);
        });
      } finally {
        stream.on("error", () => undefined);
        stream.cancel();
      }
    });
  }

  /**
   * One watch on the member asked at present. `ended` is called once; the member is then left, so that the next call goes to another one. A
   * member that has lost its cluster ends the watch by itself.
   */
  async watch(
    request: WatchRequest,
    on: { readonly message: (message: WatchResponse) => void; readonly ended: (why: string) => void },
  ): Promise<WatchStream> {
    const at = this.#at;
    const metadata = await this.#metadata(at);
    // Without it a member that is cut off from the others would be silent for ever.
    metadata.set("hasleader", "true");
    const stream: ClientDuplexStream<WatchRequest, WatchResponse> = this.#client(at).makeBidiStreamRequest(
      "/etcdserverpb.Watch/Watch",
      encoder(WatchRequestSchema),
      decoder(WatchResponseSchema),
      metadata,
      {},
    );
    let over = false;
    const end = (why: string) => {
      if (over) return;
      over = true;
      this.#leave(at);
      on.ended(why);
    };
    stream.on("data", (message) => {
      if (!over) on.message(message);
    });
    stream.on("error", (cause) => {
      const trouble = troubleOf(cause, this.address.members[at] as string, this.address.user?.name);
      if (trouble.cure === "login") this.#token = undefined;
      end(trouble.error.message);
    });
    stream.on("end", () => end("the member ended the watch"));
    stream.write(request);
    return {
      cancel: () => {
        over = true;
        stream.cancel();
      },
    };
  }

  /** The present member seems behind or dead: others are asked first from now on. */
  moveOn(): void {
    this.#leave(this.#at);
  }

  close(): void {
    this.#closed = true;
    for (const client of this.#clients) client?.close();
    this.#clients.fill(undefined);
  }

  #call<I extends DescMessage, O extends DescMessage>(
    path: string,
    input: I,
    request: MessageShape<I>,
    output: O,
    repeatable: boolean,
  ): Promise<MessageShape<O>> {
    return this.#eachMember(repeatable, (client, metadata) => this.#unary(client, path, input, request, output, metadata));
  }

  #unary<I extends DescMessage, O extends DescMessage>(
    client: Client,
    path: string,
    input: I,
    request: MessageShape<I>,
    output: O,
    metadata: Metadata,
  ): Promise<MessageShape<O>> {
    return new Promise((resolve, reject) => {
      client.makeUnaryRequest(
        path,
        encoder(input),
        decoder(output),
        request,
        metadata,
        { deadline: Date.now() + this.#callTimeoutMs },
        (error, answer) => {
          if (error !== null) reject(error);
          else if (answer === undefined) reject(new Error("an empty answer"));
          else resolve(answer);
        },
      );
    });
  }

  /** Asks one member after the other, several rounds, until one answers or the time is over. */
  async #eachMember<T>(repeatable: boolean, ask: (client: Client, metadata: Metadata) => Promise<T>): Promise<T> {
    // By the clock that never steps.
    const end = performance.now() + this.#totalTimeoutMs;
    let logins = 0;
    for (let attempt = 1; ; attempt++) {
      if (this.#closed) throw new StoreFailure("the store in etcd is closed");
      const at = this.#at;
      let asked = false;
      try {
        const metadata = await this.#metadata(at);
        asked = true;
        return await ask(this.#client(at), metadata);
      } catch (cause) {
        const trouble =
          cause instanceof EtcdError ? cause.trouble : troubleOf(cause, this.address.members[at] as string, this.address.user?.name);
        if (trouble.cure === "login" && this.address.user !== undefined && logins++ < 2) {
          this.#token = undefined;
          continue;
        }
        if (trouble.cure !== "member") throw new EtcdError(trouble);
        this.#leave(at);
        if ((asked && !repeatable && trouble.unknownOutcome) || performance.now() >= end) throw new EtcdError(trouble);
        if (attempt % this.address.members.length === 0) await Bun.sleep(roundPauseMs);
      }
    }
  }

  async #metadata(at: number): Promise<Metadata> {
    const metadata = new Metadata();
    const { user } = this.address;
    if (user === undefined) return metadata;
    this.#token ??= this.#login(at, user);
    const token = this.#token;
    try {
      metadata.set("token", await token);
    } catch (cause) {
      if (this.#token === token) this.#token = undefined;
      throw cause;
    }
    return metadata;
  }

  async #login(at: number, user: { readonly name: string; readonly password: () => string }): Promise<string> {
    const request = create(AuthenticateRequestSchema, { name: user.name, password: user.password() });
    const path = "/etcdserverpb.Auth/Authenticate";
    return (await this.#unary(this.#client(at), path, AuthenticateRequestSchema, request, AuthenticateResponseSchema, new Metadata()))
      .token;
  }

  #leave(at: number): void {
    if (this.#at !== at) return;
    this.#at = (at + 1) % this.address.members.length;
  }

  #client(at: number): Client {
    const known = this.#clients[at];
    if (known !== undefined) return known;
    const { tls, members } = this.address;
    const member = members[at] as string;
    const ip = ipOf(member);
    const secure = tls === undefined ? credentials.createInsecure() : secureChannel(tls, ip);
    const client = new Client(member, secure, {
      // A server name (SNI) is never an address (RFC 6066 section 3), and Bun refuses one; the certificate is checked for the address all the same.
      ...(ip !== undefined && { "grpc.ssl_target_name_override": "etcd" }),
      "grpc.max_receive_message_length": largestMessageBytes,
      "grpc.max_send_message_length": largestMessageBytes,
      "grpc.keepalive_time_ms": keepaliveMs,
      "grpc.keepalive_timeout_ms": keepaliveTimeoutMs,
      // A member that comes back is taken up again soon.
      "grpc.initial_reconnect_backoff_ms": 100,
      "grpc.max_reconnect_backoff_ms": 1_000,
      // Repeating is decided here, where it is known what may be repeated.
      "grpc.enable_retries": 0,
    });
    this.#clients[at] = client;
    return client;
  }
}

/** The address of a member that is named by one. */
function ipOf(member: string): string | undefined {
  const host = member.slice(0, member.lastIndexOf(":")).replace(/^\[|\]$/g, "");
  return isIP(host) === 0 ? undefined : host;
}

function secureChannel(tls: NonNullable<EtcdAddress["tls"]>, ip: string | undefined) {
  const read = (path: string | undefined, flag: string): Buffer | null => {
    if (path === undefined) return null;
    try {
      return readFileSync(path);
    } catch (cause) {
      throw new StoreFailure(`${flag} ${path} cannot be read (${(cause as NodeJS.ErrnoException).code ?? String(cause)})`, { cause });
    }
  };
  return credentials.createSsl(
    read(tls.caFile, "--etcd-ca"),
    read(tls.keyFile, "--etcd-key"),
    read(tls.certificateFile, "--etcd-cert"),
    ip === undefined ? {} : { checkServerIdentity: (_name, certificate) => checkServerIdentity(ip, certificate) },
  );
}

function encoder<D extends DescMessage>(schema: D): (message: MessageShape<D>) => Buffer {
  return (message) => {
    const bytes = toBinary(schema, message);
    return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  };
}

function decoder<D extends DescMessage>(schema: D): (bytes: Buffer) => MessageShape<D> {
  return (bytes) => fromBinary(schema, bytes);
}
