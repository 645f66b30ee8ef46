// Owns: the calls of two services beside discovery: load reports in, client status out. Who is calling, and how a call fails, is the server's.

import type { ServerDuplexStream, ServerUnaryCall, sendUnaryData } from "@grpc/grpc-js";
import { status } from "@grpc/grpc-js";
import type { Logger } from "../../base/log.ts";
import type { LoadStatsRequest } from "../../wire/gen/envoy/service/load_stats/v3/lrs_pb.ts";
import type { ClientStatusRequest } from "../../wire/gen/envoy/service/status/v3/csds_pb.ts";
import { type Admitted, admitNode, type FindEntry } from "./admission.ts";
import { type AnyCall, codeOf, failureOf, type OpenCalls, type WhoIs } from "./caller.ts";
import { clientStatus } from "./client-status.ts";
import { type LoadReports, loadRequest } from "./load.ts";
import type { Session } from "./session.ts";

/** What these calls ask of the server. */
export interface Asked {
  readonly log: Logger;
  readonly findEntry: FindEntry;
  /** Whether an `Authorization` header may list every proxy; undefined: nobody. */
  readonly mayListProxies: ((authorization: string) => Promise<boolean>) | undefined;
  readonly whoIs: (call: AnyCall) => Promise<WhoIs>;
  readonly standing: OpenCalls;
  /** Ends a streaming call with a status. */
  readonly fail: (call: { emit(event: "error", error: unknown): boolean }, code: status, details: string) => void;
}

/** A stream whose first message names the node; the others are reports. */
export function loadStream(deps: Asked, loads: LoadReports) {
  return (call: ServerDuplexStream<LoadStatsRequest, Uint8Array>) => {
    let state: "new" | "checking" | "over" | Admitted = "new";
    let leave = () => {};
    const isOver = () => state === "over";
    const end = () => {
      state = "over";
      leave();
    };
    call.on("data", (request: LoadStatsRequest) => {
      if (typeof state === "object") {
        loads.add(state, request.clusterStats);
        return;
      }
      // Whoever does not wait to be asked has nothing that counts.
      if (state !== "new") return;
      state = "checking";
      const begin = async () => {
        const who = await deps.whoIs(call);
        const verdict = who.ok ? await admitNode(request.node?.id ?? "", who.identity, deps.findEntry) : who;
        if (state === "over") return;
        if (!verdict.ok) {
          end();
          deps.fail(call, who.ok ? status.PERMISSION_DENIED : codeOf(who), verdict.reason);
          return;
        }
        if (who.ok) leave = deps.standing.add(who, (why) => deps.fail(call, status.UNAUTHENTICATED, why));
        if (isOver()) return;
        state = verdict.node;
        call.write(loadRequest);
      };
      begin().catch((cause: unknown) => {
        deps.log.error({ cause }, "A load report stream could not be opened");
        const { code, details } = failureOf(cause, "the stream could not be opened; the control plane's log says why");
        if (state !== "over") deps.fail(call, code, details);
        end();
      });
    });
    call.on("end", () => {
      if (state !== "over") call.end();
      end();
    });
    for (const event of ["cancelled", "close", "error"]) call.on(event, end);
  };
}

type Answered = { readonly ok: true; readonly bytes: Uint8Array } | { readonly ok: false; readonly code: status; readonly reason: string };

/** Whoever may list proxies sees all; a workload's own proof shows what runs under its identity. */
export function statusCalls(deps: Asked, sessions: ReadonlySet<Session>) {
  const answer = async (call: AnyCall, request: ClientStatusRequest): Promise<Answered> => {
    const header = call.metadata.get("authorization")[0];
    let seen: Iterable<Session> = sessions;
    if (header === undefined || deps.mayListProxies === undefined || !(await deps.mayListProxies(String(header)))) {
      const who = await deps.whoIs(call);
      if (!who.ok) return { ok: false, code: codeOf(who), reason: who.reason };
      const { namespace, serviceAccount } = who.identity;
      const own = ({ node }: Session) => node?.identity.namespace === namespace && node.identity.serviceAccount === serviceAccount;
      seen = [...sessions].filter(own);
    }
    const found = clientStatus(request, seen);
    return found.ok ? found : { ok: false, code: status.INVALID_ARGUMENT, reason: found.reason };
  };
  const broken = (cause: unknown) => failureOf(cause, "the answer could not be made; the control plane's log says why");
  return {
    fetchClientStatus: (call: ServerUnaryCall<ClientStatusRequest, Uint8Array>, reply: sendUnaryData<Uint8Array>) => {
      answer(call, call.request).then(
        (found) => (found.ok ? reply(null, found.bytes) : reply({ code: found.code, details: found.reason })),
        (cause: unknown) => {
          deps.log.error({ cause }, "Client status could not be told");
          reply(broken(cause));
        },
      );
    },
    streamClientStatus: (call: ServerDuplexStream<ClientStatusRequest, Uint8Array>) => {
      let over = false;
      const finish = () => {
        over = true;
      };
      call.on("data", (request: ClientStatusRequest) => {
        // One at a time: an answer may be large.
        call.pause();
        answer(call, request).then(
          (found) => {
            if (over) return;
            if (!found.ok) {
              finish();
              deps.fail(call, found.code, found.reason);
            } else call.write(found.bytes, () => call.resume());
          },
          (cause: unknown) => {
            deps.log.error({ cause }, "Client status could not be told");
            const { code, details } = broken(cause);
            if (!over) deps.fail(call, code, details);
            finish();
          },
        );
      });
      call.on("end", () => {
        if (!over) call.end();
      });
      for (const event of ["cancelled", "close", "error"]) call.on(event, finish);
    },
  };
}
