import { expect, test } from "bun:test";
import { auditLine } from "./audit.ts";

const base = { at: "2026-11-24T03:00:00.123Z", user: "alice", verb: "create", code: 201, from: "10.0.0.5:4711", agent: "kubectl/v1.34" };

test.each([
  [
    { ...base, resource: "services", namespace: "shop", name: "cart" },
    "2026-11-24 03:00:00Z 201 alice create services/cart in shop from 10.0.0.5:4711 kubectl/v1.34",
  ],
  [
    { ...base, actingAs: "admin", code: 403, reason: "Forbidden", dryRun: true as const, resource: "nodes", name: "a" },
    "2026-11-24 03:00:00Z 403 admin as alice create nodes/a (dry run, Forbidden) from 10.0.0.5:4711 kubectl/v1.34",
  ],
  [
    {
      ...base,
      verb: "post",
      path: "/weft/v1alpha1/transactions",
      code: 200,
      from: "",
      operations: [{ verb: "delete", resource: "services", namespace: "shop", name: "a", code: 200 }],
    },
    "2026-11-24 03:00:00Z 200 alice post /weft/v1alpha1/transactions from here kubectl/v1.34\n    200 delete services/a in shop",
  ],
])("%#", (line, text) => {
  expect(auditLine(line, false)).toBe(text);
});
