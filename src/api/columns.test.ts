import { expect, test } from "bun:test";
import { kindByName, kinds } from "./kinds.ts";
import type { KubeObject } from "./meta.ts";

/** `a b | c`: always shown, and with `-o wide`. What every table begins with is not named. */
function titles(name: string): string {
  const columns = kindByName(name)?.columns ?? [];
  const at = (priority: 0 | 1) => columns.filter((each) => each.priority === priority).map((each) => each.name);
  return [at(0).join(" "), ...(at(1).length === 0 ? [] : [at(1).join(" ")])].join(" | ");
}

/** The cells of an object under the columns that are always shown, but its age. */
function cells(object: Pick<KubeObject, "kind" | "metadata"> & Record<string, unknown>): unknown[] {
  const kind = kinds.find((each) => each.kind === object.kind);
  return (kind?.columns ?? [])
    .filter(({ type, priority }) => type !== "date" && priority === 0)
    .map((column) => column.value({ apiVersion: "", ...object }));
}

test("columns are those that users of each community know", () => {
  expect({
    namespaces: titles("namespaces"),
    services: titles("services"),
    endpointslices: titles("endpointslices"),
    secrets: titles("secrets"),
    configmaps: titles("configmaps"),
    events: titles("events"),
    leases: titles("leases"),
    roles: titles("roles"),
    clusterroles: titles("clusterroles"),
    rolebindings: titles("rolebindings"),
    gatewayclasses: titles("gatewayclasses"),
    gateways: titles("gateways"),
    httproutes: titles("httproutes"),
    grpcroutes: titles("grpcroutes"),
    tlsroutes: titles("tlsroutes"),
    tcproutes: titles("tcproutes"),
    udproutes: titles("udproutes"),
    referencegrants: titles("referencegrants"),
    listenersets: titles("listenersets"),
    virtualservices: titles("virtualservices"),
    destinationrules: titles("destinationrules"),
    serviceentries: titles("serviceentries"),
    sidecars: titles("sidecars"),
    authorizationpolicies: titles("authorizationpolicies"),
    peerauthentications: titles("peerauthentications"),
    telemetries: titles("telemetries"),
  }).toEqual({
    namespaces: "Status Age",
    services: "Type Cluster-IP External-IP Port(s) Age | Selector",
    endpointslices: "AddressType Ports Endpoints Age",
    secrets: "Type Data Age",
    configmaps: "Data Age",
    events: "Last Seen Type Reason Object Message | Subobject Source First Seen Count Name",
    leases: "Holder Age",
    roles: "Created At",
    clusterroles: "Created At",
    rolebindings: "Role Age | Users Groups ServiceAccounts",
    gatewayclasses: "Controller Accepted Age | Description",
    gateways: "Class Address Programmed Age",
    httproutes: "Hostnames Age | Parents",
    grpcroutes: "Hostnames Age | Parents",
    tlsroutes: "Hostnames Age | Parents",
    tcproutes: "Age | Parents",
    udproutes: "Age | Parents",
    referencegrants: "Age",
    listenersets: "Accepted Programmed Age | Gateway",
    virtualservices: "Gateways Hosts Age",
    destinationrules: "Host Age",
    serviceentries: "Hosts Location Resolution Age",
    sidecars: "Age | Hosts",
    authorizationpolicies: "Action Age",
    peerauthentications: "Mode Age",
    telemetries: "Age",
  });
});

test("policies say whether every target takes them", () => {
  const policy = (...accepted: string[]) =>
    cells({
      kind: "HedgingPolicy",
      metadata: { name: "a" },
      spec: { targetRefs: [{ name: "cart" }], after: "50ms" },
      ...(accepted.length > 0 && {
        status: { ancestors: accepted.map((status) => ({ conditions: [{ type: "Accepted", status }] })) },
      }),
    }).at(-1);
  expect([policy(), policy("True"), policy("True", "True"), policy("True", "False")]).toEqual(["Unknown", "True", "True", "False"]);
  for (const kind of ["BackendTLSPolicy", "RateLimitPolicy", "OverloadPolicy"]) expect(titles(kind.toLowerCase())).toContain("Accepted");
});

test("a shift that is held says so before the control plane has looked at it again, and one that is over stays over", () => {
  const phase = (was: string, paused: boolean) =>
    cells({ kind: "TrafficShift", metadata: { name: "a" }, spec: { paused }, status: { phase: was, percent: 20 } }).at(-1);
  expect([phase("Shifting", true), phase("Waiting", true), phase("Succeeded", true), phase("Waiting", false)]).toEqual([
    "Paused",
    "Paused",
    "Succeeded",
    "Waiting",
  ]);
});

test("of calls that were all refused at their caller nothing is said about encryption", () => {
  const column = kindByName("edges")?.columns.find(({ name }) => name === "mTLS");
  const cell = (mutualTls: boolean | null) =>
    column?.value({ apiVersion: "weft.dev/v1alpha1", kind: "Edge", metadata: { name: "e" }, status: { mutualTls } });
  expect([cell(true), cell(false), cell(null)]).toEqual(["true", "false", "-"]);
});
