// Kinds of Istio and of the Gateway API's experiments that are not built: each is found, and each object refused with what to use instead.

import { expect, test } from "bun:test";
import { kindOf, kinds } from "../kinds.ts";
import type { KubeObject } from "../meta.ts";
import { refusedKinds } from "./refused.ts";

test("every refused kind is served, takes no object, and names the way out", () => {
  for (const refused of refusedKinds) {
    expect(kinds).toContain(refused);
    for (const version of refused.versions) {
      const object: KubeObject = {
        apiVersion: `${refused.group}/${version}`,
        kind: refused.kind,
        metadata: { name: "x", ...(refused.namespaced ? { namespace: "shop" } : {}) },
        spec: { anything: { at: ["all"] } },
      };
      const found = kindOf(object);
      found?.applyDefaults(object);
      const violations = found?.validate(object) ?? [];
      expect(violations.map(({ path }) => path)).toEqual(["kind"]);
      expect(violations[0]?.message).toMatch(
        new RegExp(`^${refused.kind} is not implemented by this version of Weft, and is refused.*: .{40,}`),
      );
    }
  }
  expect(refusedKinds.map(({ kind }) => kind)).toEqual(expect.arrayContaining(["EnvoyFilter", "XBackendTrafficPolicy"]));
});
