// Owns: `weft validate`: files judged without a control plane, by the code that judges them there: schema, semantics, contradictions among
// them, references. Asks nobody. rule: the one verb that imports `compile`, which is pure.

import { kindOf, kinds } from "../../api/kinds.ts";
import type { Condition, KubeObject, Violation } from "../../api/meta.ts";
import { suggest } from "../../api/schema.ts";
import { admit } from "../../compile/admit.ts";
import { buildWorld, compileAll } from "../../compile/compile.ts";
import { type Manifest, readManifests } from "../manifest.ts";
import { printed } from "../output.ts";
import { paint } from "../terminal.ts";
import type { Invocation } from "../verb.ts";

interface Finding {
  readonly level: "error" | "warning";
  readonly manifest: Manifest;
  readonly path: string;
  readonly message: string;
}

/** Conditions that say something about what an object refers to; whether workloads are there to enforce it no file can tell. */
const telling: ReadonlySet<string> = new Set(["Accepted", "ResolvedRefs", "FullyApplicable"]);

export async function run(invocation: Invocation): Promise<number> {
  const { args, terminal } = invocation;
  const { manifests, faults } = await readManifests([...args.list("filename"), ...args.operands], () => Bun.stdin.text());
  const found = judge(manifests, args.text("namespace") ?? "default", args.text("trust-domain") ?? "cluster.local", args.on("complete"));
  const errors = found.filter((finding) => finding.level === "error").length + faults.length;
  const status = errors > 0 ? 1 : 0;
  const plain = found.map(({ level, manifest, path, message }) => ({
    level,
    file: manifest.file,
    line: manifest.line(path),
    document: manifest.document,
    kind: manifest.object.kind,
    name: manifest.object.metadata.name,
    path,
    message,
  }));
  if (await printed(terminal, args.text("output"), { objects: manifests.length, errors, findings: plain, unreadable: faults }))
    return status;
  for (const fault of faults) terminal.err(`${paint(terminal.errColour, "red", "error:")} ${fault}\n`);
  for (const { level, manifest, path, message } of found) {
    const { kind, metadata } = manifest.object;
    const name = metadata.namespace === undefined ? metadata.name : `${metadata.namespace}/${metadata.name}`;
    const word = paint(terminal.errColour, level === "error" ? "red" : "yellow", `${level}:`);
    terminal.err(
      `${word} ${manifest.place(path)}: ${kind} ${name} (document ${manifest.document}): ${path === "" ? "" : `${path}: `}${message}\n`,
    );
  }
  const warnings = found.length + faults.length - errors;
  const count = (number: number, what: string) => `${number} ${what}${number === 1 ? "" : "s"}`;
  const summary = `${count(manifests.length, "object")}, ${count(errors, "error")}, ${count(warnings, "warning")}`;
  terminal.out(`${paint(terminal.colour, errors > 0 ? "red" : "green", summary)}\n`);
  return status;
}

/** Everything that is wrong, in the order of the files. Exported for its test. */
export function judge(manifests: readonly Manifest[], namespace: string, trustDomain: string, complete: boolean): readonly Finding[] {
  const found: Finding[] = [];
  const good = new Map<KubeObject, Manifest>();
  const byId = new Map<string, Manifest>();
  const add = (manifest: Manifest, violations: readonly Violation[], level: Finding["level"] = "error") => {
    for (const { path, message } of violations) found.push({ level, manifest, path, message });
  };
  for (const manifest of manifests) {
    const { object } = manifest;
    const kind = kindOf(object);
    if (kind === undefined) {
      add(manifest, [unknownKind(object)]);
      continue;
    }
    const candidate = structuredClone(object);
    delete candidate.status;
    if (kind.namespaced) candidate.metadata.namespace ??= namespace;
    const id = `${kind.plural}.${kind.group} ${candidate.metadata.namespace ?? ""}/${candidate.metadata.name}`;
    const twin = byId.get(id);
    if (twin !== undefined) add(manifest, [{ path: "metadata.name", message: `the same object stands at ${twin.place()}; keep one` }]);
    byId.set(id, manifest);
    candidate.apiVersion = kind.group === "" ? (kind.versions[0] ?? "v1") : `${kind.group}/${kind.versions[0]}`;
    const violations = violationsOf(kind, candidate);
    add(manifest, violations);
    if (violations.length === 0 && twin === undefined) good.set(candidate, manifest);
  }
  const world = buildWorld(good.keys(), trustDomain);
  for (const [object, manifest] of good) add(manifest, admit(world, object));
  const byKey = new Map(
    [...good].map(([object, manifest]) => [
      `${object.metadata.namespace ?? "default"}/${object.metadata.name} ${kindOf(object)?.plural}`,
      manifest,
    ]),
  );
  for (const { resource, namespace: within, name, status } of compileAll(world).statuses) {
    const manifest = byKey.get(`${within}/${name} ${resource.split(".")[0]}`);
    if (manifest === undefined) continue;
    for (const condition of conditionsOf(status)) {
      if (condition.status !== "False" || !telling.has(condition.type)) continue;
      const message = `${condition.reason}: ${condition.message}`;
      add(manifest, [{ path: "", message }], complete ? "error" : "warning");
    }
  }
  const order = new Map(manifests.map((manifest, at) => [manifest, at]));
  return found.sort(
    (a, b) => (order.get(a.manifest) ?? 0) - (order.get(b.manifest) ?? 0) || a.manifest.line(a.path) - b.manifest.line(b.path),
  );
}

function violationsOf(kind: NonNullable<ReturnType<typeof kindOf>>, candidate: KubeObject): readonly Violation[] {
  if (kind.virtual) return [{ path: "kind", message: `${kind.kind} is a view of live state and cannot be applied` }];
  try {
    kind.applyDefaults(candidate);
  } catch {
    // Of a wrong shape: `validate` names it.
  }
  return kind.validate(candidate);
}

function unknownKind(object: KubeObject): Violation {
  const same = kinds.find((kind) => kind.kind === object.kind);
  if (same !== undefined) {
    const served = same.versions.map((version) => (same.group === "" ? version : `${same.group}/${version}`)).join(", ");
    return { path: "apiVersion", message: `${object.kind} is served as ${served}, not ${object.apiVersion}` };
  }
  return {
    path: "kind",
    message: `weft has no ${object.kind} in ${object.apiVersion}${suggest(
      object.kind,
      kinds.map((kind) => kind.kind),
    )}`,
  };
}

function conditionsOf(status: Record<string, unknown>): Condition[] {
  const own = (status as { conditions?: Condition[] }).conditions ?? [];
  const ofParents = ((status as { parents?: { conditions?: Condition[] }[] }).parents ?? []).flatMap((parent) => parent.conditions ?? []);
  return [...own, ...ofParents];
}
