// Owns: docs/reference/kinds.md, field by field what works and what is refused, from the very tables that validate. Run after a change of a kind:
// `bun scripts/generate-kind-docs.ts`. With `--check` writes nothing and exits 1 when the file is stale.

import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { DefinedKind } from "../src/api/define.ts";
import { refusedKinds } from "../src/api/kinds/refused.ts";
import { kinds } from "../src/api/kinds.ts";
import type { Schema } from "../src/api/schema.ts";
import { ruleRefusals } from "./kind-refusals.ts";
import { isPlanned, planned } from "./planned-fields.ts";

/** `works`; `kept`: stored and shown, without effect; `refused`; `planned`: refused until it is built. */
type Status = "works" | "kept" | "refused" | "planned";

interface Row {
  readonly path: string;
  readonly what: string;
  readonly status: Status;
  /** Of what is refused: the way out. */
  readonly instead: string;
}

/** Each field once, and each value of a field that is refused where others work. */
function rows({ definedBy: spec, kind }: DefinedKind): Row[] {
  const out: Row[] = [];
  const refused = spec.unimplemented ?? {};
  const informational = new Set(spec.informational ?? []);
  const refuse = (path: string, what: string): Row => ({
    path,
    what,
    status: isPlanned(kind, path) ? "planned" : "refused",
    instead: refused[path] ?? "",
  });
  const visit = (schema: Schema, path: string, required: boolean): void => {
    if (refused[path] !== undefined) return;
    const values = Object.keys(refused).filter((key) => key.startsWith(`${path}=`));
    const leaf = schema.properties === undefined && schema.items?.properties === undefined;
    if (leaf || values.length > 0) {
      const without = values.map((key) => key.slice(path.length + 1));
      const status = informational.has(path) ? "kept" : "works";
      out.push({ path, what: describe(schema, required, without), status, instead: "" });
      for (const key of values) out.push(refuse(key, "value"));
    }
    const inner = schema.type === "array" ? (schema.items ?? {}) : schema;
    const at = schema.type === "array" ? `${path}[]` : path;
    for (const [name, child] of Object.entries(inner.properties ?? {}))
      visit(child, `${at}.${name}`, inner.required?.includes(name) ?? false);
  };
  for (const [name, schema] of Object.entries(spec.fields)) visit(schema, name, spec.requiredFields?.includes(name) ?? false);
  for (const path of Object.keys(refused)) if (!path.includes("=")) out.push(refuse(path, ""));
  return out;
}

function describe(schema: Schema, required: boolean, refusedValues: readonly string[]): string {
  const of = schema.type === "array" ? (schema.items ?? {}) : schema;
  const parts = [
    schema.type === "array"
      ? `list of ${of.type ?? "object"}`
      : schema.additionalProperties === undefined
        ? (schema.type ?? "object")
        : `map to ${schema.additionalProperties.type}`,
  ];
  if (of.enum !== undefined)
    parts.push(
      of.enum
        .filter((value) => !refusedValues.includes(String(value)))
        .map((value) => `\`${value === "" ? '""' : String(value)}\``)
        .join(", "),
    );
  if (of.minimum !== undefined || of.maximum !== undefined) parts.push(`${of.minimum ?? ""} to ${of.maximum ?? ""}`);
  if (schema.maxItems !== undefined) parts.push(`at most ${schema.maxItems}`);
  if (of.maxLength !== undefined) parts.push(`at most ${of.maxLength} characters`);
  if (schema.default !== undefined) parts.push(`default \`${JSON.stringify(schema.default)}\``);
  if (required) parts.push("required");
  return parts.join("; ");
}

function section(kind: DefinedKind): string {
  const served = kind.versions.map((version) => `\`${kind.group === "" ? version : `${kind.group}/${version}`}\``).join(", ");
  const names = [kind.plural, kind.singular, ...kind.shortNames].map((name) => `\`${name}\``).join(", ");
  const lines = [
    `## ${kind.kind}`,
    "",
    `${served}; ${kind.namespaced ? "namespaced" : "cluster-scoped"}${kind.virtual ? "; read-only view of live state" : ""}. Names: ${names}.`,
    "",
  ];
  lines.push(
    `Columns: NAME, ${kind.columns.map((column) => column.name.toUpperCase() + (column.priority === 1 ? " (wide)" : "")).join(", ")}.`,
    "",
  );
  for (const note of kind.definedBy.notes ?? []) lines.push(`- ${note}`);
  if ((kind.definedBy.notes ?? []).length > 0) lines.push("");
  if (kind.virtual || refusedKinds.includes(kind)) return lines.join("\n");
  lines.push("| field | type | status | instead |", "|---|---|---|---|");
  for (const row of rows(kind)) lines.push(`| \`${row.path}\` | ${cell(row.what)} | ${row.status} | ${cell(row.instead)} |`);
  const rules = refusedByRules.get(kind.kind) ?? [];
  if (rules.length > 0) {
    lines.push("", "Refused by what stands in other fields, or by the value:", "");
    for (const { what, instead } of rules) lines.push(`- ${what}${instead === "" || instead === "…" ? "" : `: ${instead}`}`);
  }
  return `${lines.join("\n")}\n`;
}

/** What becomes of a kind as a whole. */
function overview(): string {
  const lines = ["| kind | API | works | kept | refused | planned |", "|---|---|---|---|---|---|"];
  for (const kind of kinds) {
    const name = `[${kind.kind}](#${kind.kind.toLowerCase()})`;
    const api = kind.group === "" ? "core" : kind.group;
    if (kind.virtual) lines.push(`| ${name} | ${api} | read-only view | | | |`);
    else if (refusedKinds.includes(kind)) {
      const later = isPlanned(kind.kind, "*");
      lines.push(`| ${name} | ${api} | | | ${later ? "" : "whole"} | ${later ? "whole" : ""} |`);
    } else {
      const all = rows(kind);
      const count = (status: Status): string => String(all.filter((row) => row.status === status).length || "");
      lines.push(`| ${name} | ${api} | ${count("works")} | ${count("kept")} | ${count("refused")} | ${count("planned")} |`);
    }
  }
  return lines.join("\n");
}

/** Kinds of the published packages that are not served at all: the API answers 404 for them, which kubectl says. */
function unserved(): string {
  const names = new Set<string>();
  for (const group of [
    "gateway-api/gateway.networking.k8s.io",
    "istio/networking.istio.io",
    "istio/security.istio.io",
    "istio/telemetry.istio.io",
    "istio/extensions.istio.io",
  ]) {
    const folder = join(import.meta.dir, "../node_modules/@kubernetes-models", group);
    for (const file of readdirSync(folder, { recursive: true }) as string[]) {
      const name = /\/([A-Z]\w*)\.mjs$/.exec(file)?.[1];
      if (name !== undefined && !name.endsWith("List") && !kinds.some((kind) => kind.kind === name))
        names.add(`${name} (${group.split("/")[1]})`);
    }
  }
  return names.size === 0
    ? "Every kind of the installed packages of Gateway API and Istio is known here."
    : `Kinds of these standards that are not known here: ${[...names].sort().join(", ")}.`;
}

function cell(text: string): string {
  return text.replaceAll("|", "\\|");
}

const refusedByRules = ruleRefusals();

const text = `# Kinds

What each kind takes, field by field. Generated by \`scripts/generate-kind-docs.ts\` from the tables that validate and the code that refuses; do not edit. \`npm run check\` fails when it is stale.

- **works**: in force. Where a value of such a field is refused, the value has a line of its own: \`spec.type=NodePort\`.
- **kept**: stored and shown, and says nothing to the mesh.
- **refused**: an object that has it is refused with its path and what to do instead. Never ignored.
- **planned**: refused like the others, until it is built.

A field that stands in no table here is unknown and refused with its path. \`apiVersion\`, \`kind\`, \`metadata\` and \`status\` are as everywhere in Kubernetes.
${unserved()}

${overview()}

${kinds.map(section).join("\n")}`;

const file = join(import.meta.dir, "../docs/reference/kinds.md");
const stale = !existsSync(file) || readFileSync(file, "utf8") !== text;
if (stale && process.argv.includes("--check")) {
  console.error("docs/reference/kinds.md is stale; run: bun scripts/generate-kind-docs.ts");
  process.exit(1);
}
if (stale) writeFileSync(file, text);

// Built meanwhile: no reason to stop, and no reason to keep.
for (const [name, paths] of Object.entries(planned)) {
  const refusals = Object.keys(kinds.find((kind) => kind.kind === name)?.definedBy.unimplemented ?? {});
  for (const path of paths)
    if (path !== "*" && !refusals.some((each) => each === path || each.endsWith(`.${path}`)))
      console.error(`scripts/planned-fields.ts: ${name} ${path} is not refused any more; remove it`);
}
