// Owns: reading objects from files, folders and stdin, with the place each came from, so that a fault can be shown at its line.
// Reads; never asks the control plane.

import { readdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import type { Document, LineCounter, Node } from "yaml";
import type { KubeObject } from "../api/meta.ts";
import { CliFailure, reasonOf } from "./failure.ts";

export interface Manifest {
  readonly object: KubeObject;
  /** `shop.yaml` or `stdin`. */
  readonly file: string;
  /** From 1. */
  readonly document: number;
  /** `shop.yaml:12`, for the object or for a field such as `spec.rules[0].matches[1].path`: the nearest line that exists. */
  place(fieldPath?: string): string;
  line(fieldPath?: string): number;
}

export interface Reading {
  readonly manifests: readonly Manifest[];
  /** Whole lines, one for each fault. Nothing is left out for the sake of an earlier one. */
  readonly faults: readonly string[];
}

const extensions = [".yaml", ".yml", ".json"];

/** `sources`: files, folders (their *.yaml, *.yml, *.json by name, not deeper) or `-`. Throws CliFailure for a source that cannot be read. */
export async function readManifests(sources: readonly string[], stdin: () => Promise<string>): Promise<Reading> {
  const yaml = await import("yaml");
  const manifests: Manifest[] = [];
  const faults: string[] = [];
  for (const source of sources) {
    for (const [file, text] of await textsOf(source, stdin)) {
      const lines = new yaml.LineCounter();
      const documents = yaml.parseAllDocuments(text, { lineCounter: lines, prettyErrors: false, uniqueKeys: true });
      documents.forEach((document, i) => {
        readDocument(document as Document.Parsed, file, i + 1, lines, manifests, faults);
      });
    }
  }
  if (manifests.length === 0 && faults.length === 0) throw new CliFailure(`there is no object in ${sources.join(", ")}`);
  return { manifests, faults };
}

/** What others lean on goes first; within a rank, the order of the files. */
const rank: Readonly<Record<string, number>> = { Namespace: 0, Service: 1, EndpointSlice: 2, WorkloadEntry: 2 };

export function rankOf(object: Pick<KubeObject, "kind">): number {
  return rank[object.kind] ?? 3;
}

export function inOrder(manifests: readonly Manifest[]): Manifest[] {
  return [...manifests].sort((a, b) => rankOf(a.object) - rankOf(b.object));
}

async function textsOf(source: string, stdin: () => Promise<string>): Promise<[file: string, text: string][]> {
  if (source === "-") return [["stdin", await stdin()]];
  try {
    if (!statSync(source).isDirectory()) return [[source, readFileSync(source, "utf8")]];
    const names = readdirSync(source).filter((name) => extensions.some((e) => name.endsWith(e)));
    if (names.length === 0) throw new CliFailure(`the folder ${source} has no file that ends in ${extensions.join(", ")}`);
    return names.sort().map((name) => [join(source, name), readFileSync(join(source, name), "utf8")]);
  } catch (error) {
    if (error instanceof CliFailure) throw error;
    const code = (error as NodeJS.ErrnoException).code;
    throw new CliFailure(
      code === "ENOENT" ? `there is no file or folder ${source}` : `${source} cannot be read (${code ?? reasonOf(error)})`,
    );
  }
}

function readDocument(
  document: Document.Parsed,
  file: string,
  number: number,
  lines: LineCounter,
  manifests: Manifest[],
  faults: string[],
): void {
  const at = (offset: number) => {
    const { line, col } = lines.linePos(offset);
    return `${file}:${line}:${col}`;
  };
  if (document.errors.length > 0) {
    for (const error of document.errors) faults.push(`${at(error.pos[0])}: not YAML: ${oneLine(error.message)} (document ${number})`);
    return;
  }
  let value: unknown;
  try {
    value = document.toJS({ maxAliasCount: 100 });
  } catch (error) {
    faults.push(`${file} document ${number}: ${reasonOf(error)}`);
    return;
  }
  if (value === null || value === undefined) return; // an empty document between two ---
  const start = document.contents === null ? 0 : document.contents.range[0];
  if (typeof value !== "object" || Array.isArray(value)) {
    faults.push(
      `${at(start)}: an object is a mapping with apiVersion, kind and metadata; this is ${Array.isArray(value) ? "a list" : `"${String(value).slice(0, 40)}"`} (document ${number})`,
    );
    return;
  }
  const add = (object: Record<string, unknown>, prefix: (string | number)[]) => {
    const line = (fieldPath = "") => lines.linePos(offsetOf(document, [...prefix, ...splitPath(fieldPath)]) ?? start).line;
    const place = (fieldPath = "") => `${file}:${line(fieldPath)}`;
    const metadata = object.metadata as { name?: unknown } | undefined;
    const wrong: string[] = [];
    if (typeof object.apiVersion !== "string") wrong.push("apiVersion: is missing, for example v1 or gateway.networking.k8s.io/v1");
    if (typeof object.kind !== "string") wrong.push("kind: is missing, for example Service");
    if (typeof metadata !== "object" || metadata === null) wrong.push("metadata: is missing, with the object's name in it");
    else if (typeof metadata.name !== "string" || metadata.name === "") wrong.push("metadata.name: is missing");
    if (wrong.length > 0) for (const fault of wrong) faults.push(`${place()}: ${fault} (document ${number})`);
    else manifests.push({ object: object as unknown as KubeObject, file, document: number, place, line });
  };
  const object = value as Record<string, unknown>;
  // `kubectl get -o yaml` of several objects gives a List.
  if (typeof object.kind === "string" && object.kind.endsWith("List") && Array.isArray(object.items)) {
    object.items.forEach((item, i) => {
      add(item as Record<string, unknown>, ["items", i]);
    });
  } else add(object, []);
}

/** `spec.rules[0].path`, `metadata.labels[app.kubernetes.io/name]`, `spec.ports["http"]` as steps. Exported for its test. */
export function splitPath(path: string): (string | number)[] {
  const steps: (string | number)[] = [];
  for (const match of path.matchAll(/\[([^\]]*)\]|([^.[\]]+)/g)) {
    const inside = match[1];
    if (inside === undefined) steps.push(match[2] as string);
    else steps.push(/^[0-9]+$/.test(inside) ? Number(inside) : inside.replace(/^["']|["']$/g, ""));
  }
  return steps;
}

/** Where the deepest step that exists begins; for a key, the key itself. */
function offsetOf(document: Document.Parsed, steps: readonly (string | number)[]): number | undefined {
  let node: unknown = document.contents;
  let offset = (node as Node | null)?.range?.[0];
  for (const step of steps) {
    const items = (node as { items?: unknown[] } | null)?.items;
    if (!Array.isArray(items)) break;
    if (typeof step === "number") {
      node = items[step];
      if (node === undefined) break;
      offset = (node as Node).range?.[0] ?? offset;
      continue;
    }
    const pair = items.find((p) => String((p as { key?: { value?: unknown } }).key?.value) === step) as
      | { key: Node; value: unknown }
      | undefined;
    if (pair === undefined) break;
    offset = pair.key.range?.[0] ?? offset;
    node = pair.value;
  }
  return offset ?? undefined;
}

function oneLine(text: string): string {
  return text.replace(/\s+/g, " ").trim();
}
