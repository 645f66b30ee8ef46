// What is told of a client, resource by resource, and what is not told.

import { expect, test } from "bun:test";
import { create, fromBinary, type MessageInitShape } from "@bufbuild/protobuf";
import { ClientResourceStatus } from "../../wire/gen/envoy/admin/v3/config_dump_shared_pb.ts";
import { ClientStatusRequestSchema, ClientStatusResponseSchema, ConfigStatus } from "../../wire/gen/envoy/service/status/v3/csds_pb.ts";
import { clientStatus, maxAnswerBytes, maxClients } from "./client-status.ts";
import { Ledger } from "./ledger.ts";
import type { Session } from "./session.ts";
import { snapshot } from "./support.ts";

function session(workload: string, ledger = new Ledger("delta")): Session {
  const node = { namespace: "shop", workload, client: "proxy" };
  return { ledger, node, agent: "test", peer: "127.0.0.1:1", lastRejection: { atMs: 1_000 } } as unknown as Session;
}

function told(request: MessageInitShape<typeof ClientStatusRequestSchema>, ...sessions: Session[]) {
  const answer = clientStatus(create(ClientStatusRequestSchema, request), sessions);
  return answer.ok ? fromBinary(ClientStatusResponseSchema, answer.bytes).config : answer.reason;
}

const nameIn = (values: Readonly<Record<string, number>>, value: number): string | undefined =>
  Object.keys(values).find((name) => values[name] === value);

function ledger(): Ledger {
  const made = new Ledger("delta");
  made.setTarget(snapshot("shop/a", { cluster: ["good", "bad", "late"] }));
  made.receiveDelta("cluster", ["good", "bad", "nobody"], [], {}, "", undefined);
  const offer = made.next();
  made.receiveDelta("cluster", [], [], {}, offer?.nonce ?? "", "cluster bad: no");
  made.receiveDelta("cluster", ["late"], [], {}, "", undefined);
  return made;
}

test("accepted, rejected with its reason, asked for, not there", () => {
  const [client] = told({}, session("a", ledger()));
  if (typeof client !== "object") throw new Error(String(client));
  expect(client.node?.id).toBe("sidecar~shop~a");
  const rows = client.genericXdsConfigs.map((each) => [
    each.name,
    nameIn(ClientResourceStatus, each.clientStatus),
    nameIn(ConfigStatus, each.configStatus),
    each.xdsConfig !== undefined,
    each.errorState?.details ?? "",
  ]);
  expect(rows.sort()).toEqual([
    ["bad", "NACKED", "ERROR", false, "cluster bad: no"],
    ["good", "ACKED", "SYNCED", true, ""],
    ["late", "REQUESTED", "NOT_SENT", false, ""],
    ["nobody", "DOES_NOT_EXIST", "NOT_SENT", false, ""],
  ]);
});

test("without contents where they are not wanted", () => {
  const [client] = told({ excludeResourceContents: true }, session("a", ledger()));
  expect((client as Exclude<typeof client, string>)?.genericXdsConfigs.every((each) => each.xdsConfig === undefined)).toBe(true);
});

test("by node id; a matcher that is not known is refused, never passed over", () => {
  const match = (pattern: object) =>
    ({ nodeMatchers: [{ nodeId: { matchPattern: pattern } }] }) as MessageInitShape<typeof ClientStatusRequestSchema>;
  const ids = (request: MessageInitShape<typeof ClientStatusRequestSchema>) => {
    const found = told(request, session("a"), session("b"));
    return typeof found === "string" ? found : found.map((each) => each.node?.id);
  };
  expect(ids(match({ case: "exact", value: "sidecar~shop~b" }))).toEqual(["sidecar~shop~b"]);
  expect(ids(match({ case: "prefix", value: "sidecar~" }))).toEqual(["sidecar~shop~a", "sidecar~shop~b"]);
  expect(ids(match({ case: "suffix", value: "~a" }))).toEqual(["sidecar~shop~a"]);
  expect(ids(match({ case: "safeRegex", value: { regex: ".*" } }))).toContain("node_matchers[0]");
  expect(ids({ nodeMatchers: [{}] })).toContain("node_matchers[0]");
});

test("an answer has an end: by clients, and by bytes", () => {
  const many = Array.from({ length: maxClients + 1 }, (_each, n) => session(`w${n}`));
  expect(told({}, ...many)).toContain(`more than ${maxClients} clients`);
  const heavy = new Ledger("delta");
  const base = snapshot("shop/a", { cluster: ["big"] });
  const big = { ...base.resources.cluster.get("big"), value: new Uint8Array(maxAnswerBytes / 2) } as never;
  heavy.setTarget({ ...base, resources: { ...base.resources, cluster: new Map([["big", big]]) } });
  heavy.receiveDelta("cluster", [], [], {}, "", undefined);
  heavy.receiveDelta("cluster", [], [], {}, heavy.next()?.nonce ?? "", undefined);
  expect(told({}, session("a", heavy), session("b", heavy))).toContain(`more than ${maxAnswerBytes} bytes`);
  expect(told({ excludeResourceContents: true }, session("a", heavy), session("b", heavy))).toHaveLength(2);
});
