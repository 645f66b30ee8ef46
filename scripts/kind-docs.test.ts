// docs/reference/kinds.md says what is so: everything that it calls refused is refused by the kind, at that path and in words.

import { describe, expect, test } from "bun:test";
import type { DefinedKind } from "../src/api/define.ts";
import { kinds } from "../src/api/kinds.ts";
import type { KubeObject } from "../src/api/meta.ts";
import type { Schema } from "../src/api/schema.ts";
import { ruleRefusals } from "./kind-refusals.ts";

/** An object that has nothing but the field. */
function objectWith(kind: DefinedKind, generic: string): KubeObject {
  const [path = "", value] = generic.split("=") as [string, string?];
  const version = kind.versions[0] as string;
  const object: Record<string, unknown> = {
    apiVersion: kind.group === "" ? version : `${kind.group}/${version}`,
    kind: kind.kind,
    metadata: { name: "x", ...(kind.namespaced ? { namespace: "shop" } : {}) },
  };
  let at: Record<string, unknown> = object;
  let schema: Schema | undefined = { properties: kind.definedBy.fields };
  const parts = path.split(".");
  for (const [n, part] of parts.entries()) {
    const name = part.replaceAll("[]", "");
    schema = schema?.properties?.[name];
    const last = n === parts.length - 1;
    const inner: unknown = last ? (value ?? sample(schema)) : {};
    at[name] = part.endsWith("[]") ? [inner] : inner;
    if (part.endsWith("[]")) schema = schema?.items;
    at = inner as Record<string, unknown>;
  }
  return object as KubeObject;
}

function sample(schema: Schema | undefined): unknown {
  if (schema?.type === "array") return [];
  if (schema?.type === "string") return "x";
  if (schema?.type === "integer" || schema?.type === "int-or-string") return 1;
  return schema?.type === "boolean" ? true : {};
}

describe("what the page calls refused", () => {
  for (const kind of kinds) {
    const refusals = Object.keys(kind.definedBy.unimplemented ?? {});
    if (refusals.length === 0) continue;
    test(`of ${kind.kind} is refused`, () => {
      for (const generic of refusals) {
        const path = (generic.split("=")[0] as string).replaceAll("[]", "[0]");
        const said = kind.validate(objectWith(kind, generic)).filter((each) => each.path === path);
        expect([generic, said.map(({ message }) => message).join("; ")]).toEqual([generic, expect.stringContaining("is not implemented")]);
      }
    });
  }
});

test("refusals by rules are read out of the code of the kind, and of no other", () => {
  const rules = ruleRefusals();
  const words = (kind: string) => (rules.get(kind) ?? []).map(({ what, instead }) => `${what}: ${instead}`);
  expect(words("Service")).toEqual(['value "https": use http: the mesh encrypts; or tcp when the application itself speaks TLS']);
  expect(words("HTTPRoute")).toContain('value "CONNECT": tunnels follow the route that matches everything');
  expect(words("HTTPRoute").join()).toContain("attach the route to a Service that the ServiceEntry's hosts stand behind");
  expect(words("ServiceEntry")).toEqual(["a Unix socket: name an IP address"]);
  expect(words("PeerAuthentication")).toEqual([]);
});
