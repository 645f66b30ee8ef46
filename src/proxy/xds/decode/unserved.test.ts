// Ways of Envoy's to bring configuration by other streams are refused by their names, with the way out.

import { expect, test } from "bun:test";
import { create, toBinary } from "@bufbuild/protobuf";
import { BinaryWriter, WireType } from "@bufbuild/protobuf/wire";
import { RouteConfigurationSchema, VhdsSchema } from "../../../wire/gen/envoy/config/route/v3/route_pb.ts";
import { OnDemandSchema } from "../../../wire/gen/envoy/extensions/filters/http/on_demand/v3/on_demand_pb.ts";
import { HttpConnectionManager, Listener, OnDemand } from "../proto/types.ts";
import { type DecodeWorld, decodeStrict, Gate, sayViolations } from "./gate.ts";
import { decodeResource } from "./resource.ts";

const world: DecodeWorld = { readFile: () => new Uint8Array(0), staticSecrets: new Map(), controlClusters: new Set() };
const field = (number: number, inner: Uint8Array | string): Uint8Array => {
  const writer = new BinaryWriter().tag(number, WireType.LengthDelimited);
  return (typeof inner === "string" ? writer.string(inner) : writer.bytes(inner)).finish();
};

test("filters by ECDS and scoped routes", () => {
  const gate = new Gate(world);
  // http_filters[0]: name, config_discovery; scoped_routes.
  decodeStrict(
    gate,
    HttpConnectionManager,
    Buffer.concat([field(5, Buffer.concat([field(1, "wasm"), field(5, "")])), field(31, "")]),
    "hcm",
  );
  // filter_chains[0].filters[0] and listener_filters[0].
  const filter = Buffer.concat([field(1, "x"), field(5, "")]);
  decodeStrict(gate, Listener, Buffer.concat([field(3, field(3, filter)), field(9, filter)]), "");
  expect(gate.violations.map(({ path, message }) => `${path}: ${message.split(":")[0]}`)).toEqual([
    "hcm.http_filters[0]: config_discovery (ECDS) is not supported",
    "hcm: scoped_routes (SRDS) is not supported",
    "filter_chains[0].filters[0]: config_discovery (ECDS) is not supported",
    "listener_filters[0]: config_discovery (ECDS) is not supported",
  ]);
  expect(decodeStrict(new Gate(world), OnDemand, toBinary(OnDemandSchema, create(OnDemandSchema, { odcds: {} })), "")?.odcds).toBeDefined();
});

test("virtual hosts on demand where they could not come, or would lack what the table adds", () => {
  const ads = create(VhdsSchema, { configSource: { configSourceSpecifier: { case: "ads", value: {} }, resourceApiVersion: 2 } });
  const said = (more: object, of: DecodeWorld = world): string => {
    const bytes = toBinary(RouteConfigurationSchema, create(RouteConfigurationSchema, { name: "r", vhds: ads, ...more }));
    const read = decodeResource("route", bytes, of);
    return "violations" in read ? sayViolations(read.violations) : `taken, ${JSON.stringify(read.config.onDemand)}`;
  };
  expect(said({})).toBe('taken, {"absent":[]}');
  expect(said({}, { ...world, delta: true })).toBe('taken, {"absent":[]}');
  expect(said({}, { ...world, delta: false })).toContain("vhds: needs the delta variant");
  expect(said({ vhds: create(VhdsSchema) })).toContain("vhds.config_source: needs ads");
  expect(said({ ignorePortInHostMatching: true })).toContain("vhds: is not supported beside ignore_port_in_host_matching");
  expect(said({ requestHeadersToRemove: ["x"] })).toContain("vhds: is not supported beside edits");
});
