// A long list of endpoints that was followed from version to version is the list that would be decoded anew, whatever has changed in between; and what has the
// same bytes is the same object. Broken bytes are refused as if there had been no version before.

import { expect, test } from "bun:test";
import { create, toBinary } from "@bufbuild/protobuf";
import { ClusterLoadAssignmentSchema } from "../../../wire/gen/envoy/config/endpoint/v3/endpoint_pb.ts";
import { seeded } from "../../balance/testing/simulate.ts";
import type { EndpointConfig } from "../../config.ts";
import { decodeResource } from "./resource.ts";

const world = { readFile: () => new Uint8Array(0), staticSecrets: new Map(), controlClusters: new Set<string>() };

function bytesOf(hosts: readonly string[], zone = "a", weight?: number): Uint8Array {
  return toBinary(
    ClusterLoadAssignmentSchema,
    create(ClusterLoadAssignmentSchema, {
      clusterName: "big",
      endpoints: [
        {
          locality: { region: "r", zone },
          ...(weight === undefined ? {} : { loadBalancingWeight: weight }),
          lbEndpoints: hosts.map((address) => ({
            hostIdentifier: {
              case: "endpoint" as const,
              value: {
                address: {
                  address: { case: "socketAddress" as const, value: { address, portSpecifier: { case: "portValue" as const, value: 80 } } },
                },
              },
            },
          })),
        },
      ],
    }),
  );
}

function decode(bytes: Uint8Array, before?: readonly EndpointConfig[]): readonly EndpointConfig[] | string {
  const found = decodeResource("endpoint", bytes, world, before === undefined ? undefined : { name: "big", config: before });
  return "violations" in found ? JSON.stringify(found.violations) : found.config;
}

for (let seed = 1; seed <= 12; seed++)
  test(`version after version (seed ${seed})`, () => {
    const random = seeded(seed);
    const some = (below: number): number => Math.floor(random() * below);
    // Of different lengths, so that everything behind moves.
    const stranger = (): string => `${1 + some(223)}.${some(256)}.${some(256)}.${1 + some(254)}`;
    let hosts: readonly string[] = Array.from({ length: 60 + some(200) }, stranger);
    let held = decode(bytesOf(hosts)) as readonly EndpointConfig[];
    let zone = "a";
    for (let step = 0; step < 40; step++) {
      const at = some(hosts.length + 1);
      const kind = some(9);
      const before = hosts;
      if (kind < 3) hosts = hosts.toSpliced(at, 1, stranger());
      else if (kind === 3) hosts = hosts.toSpliced(at, 0, stranger(), stranger());
      else if (kind === 4) hosts = hosts.toSpliced(at, 1 + some(3));
      else if (kind === 5) hosts = hosts.toSpliced(at, some(50), ...Array.from({ length: some(50) }, stranger));
      else if (kind === 6) hosts = hosts.with(some(hosts.length), stranger()).with(some(hosts.length), stranger());
      else if (kind === 7) hosts = [...hosts.slice(at), ...hosts.slice(0, at)];
      else zone = zone === "a" ? "elsewhere" : "a";
      const bytes = bytesOf(hosts, zone, some(4) === 0 ? 7 : undefined);
      const now = decode(bytes, held) as readonly EndpointConfig[];
      expect(now).toEqual(decode(bytes) as EndpointConfig[]);
      if (kind < 5 && zone === "a" && before.length > 70) expect(now.length).toBeGreaterThan(60);
      held = now;
    }
  });

test("one replaced: all others are the same objects, and the version before can still be asked about", () => {
  const hosts = Array.from({ length: 1_000 }, (_, n) => `10.0.${n >> 8}.${n & 255}`);
  const first = decode(bytesOf(hosts)) as readonly EndpointConfig[];
  const second = decode(bytesOf(hosts.with(500, "192.168.100.200")), first) as readonly EndpointConfig[];
  expect(second.filter((one, n) => one !== first[n])).toHaveLength(1);
  // As where the second was not taken in the end.
  const other = decode(bytesOf(hosts.with(7, "192.168.1.1")), first);
  expect(other).toEqual(decode(bytesOf(hosts.with(7, "192.168.1.1"))));
  const third = decode(bytesOf(hosts.with(500, "10.1.1.1")), second) as readonly EndpointConfig[];
  expect(third.filter((one, n) => one !== second[n])).toHaveLength(1);
});

test("broken bytes are refused, and leave what was there as it was", () => {
  const hosts = Array.from({ length: 300 }, (_, n) => `10.0.${n >> 8}.${n & 255}`);
  const before = bytesOf(hosts);
  const whole = bytesOf(hosts.with(100, "10.9.9.9"));
  const random = seeded(5);
  for (let n = 0; n < 150; n++) {
    const held = decode(before) as readonly EndpointConfig[];
    const broken = whole.slice();
    broken[Math.floor(random() * broken.length)] = Math.floor(random() * 256);
    expect(decode(broken, held)).toEqual(decode(broken));
  }
  expect(decode(whole.subarray(0, whole.length - 3), decode(before) as readonly EndpointConfig[])).toEqual(
    decode(whole.subarray(0, whole.length - 3)),
  );
});
