// Owns: `weft bug-report`: what somebody else needs to find a fault, as one file. Never holds a token, a key or a kubeconfig.

import { closeSync, existsSync, fsyncSync, openSync, writeSync } from "node:fs";
import type { KubeObject } from "../../api/meta.ts";
import { pathOf } from "../discovery.ts";
import { CliFailure, reasonOf, UsageFailure } from "../failure.ts";
import { bytes } from "../output.ts";
import { openSession } from "../session.ts";
import type { Invocation } from "../verb.ts";
import { findings } from "./check.ts";

/** kubectl keeps whole copies of objects there. */
const copies = "kubectl.kubernetes.io/last-applied-configuration";
/** Lines of the control plane's log of what it did and saw. */
const lastLogLines = 2_000;
/** Words of the name of an annotation, header or field behind which people keep what nobody should see. */
const telling = /(secret|token|password|passwd|credential|api-?key|private|authorization|cookie)/i;

export async function run(invocation: Invocation): Promise<number> {
  const { args, terminal, stop } = invocation;
  const [path] = args.operands;
  if (path === undefined || path === "") throw new UsageFailure("weft bug-report needs a FILE");
  if (existsSync(path)) throw new CliFailure(`${path} is there already; name another file, or remove it`);
  const session = openSession(invocation);
  const { client } = session;
  const files: Record<string, string> = {};
  const missing: string[] = [];
  /** A part that cannot be had is said, and the rest goes on: a report is wanted most when something is broken. */
  const part = async (name: string, make: () => Promise<string>) => {
    try {
      files[name] = make === undefined ? "" : await make();
    } catch (error) {
      missing.push(`${name}: ${reasonOf(error)}`);
    }
  };
  const json = (value: unknown) => `${JSON.stringify(value, undefined, 2)}\n`;
  await part("version.json", async () =>
    json({ server: await client.json("/version"), bun: Bun.version, platform: process.platform, arch: process.arch }),
  );
  await part("check.json", async () => json(await findings(invocation)));
  await part("metrics.txt", async () => (await client.raw("/metrics", { accept: "*/*", timeoutMs: 15_000 })).text());
  await part("history.json", async () => json(await client.json("/weft/v1alpha1/history?limit=200&all=true")));
  await part("log.jsonl", async () => {
    const lines: string[] = [];
    for await (const line of client.lines("/insight/v1alpha1/logs", { signal: AbortSignal.any([stop, AbortSignal.timeout(15_000)]) })) {
      lines.push(redactedLine(line));
      if (lines.length > lastLogLines) lines.shift();
    }
    return `${lines.join("\n")}\n`;
  });
  for (const resource of await session.resources().catch(() => [])) {
    if (!resource.verbs.includes("list") || resource.plural === "jointokens" || resource.plural === "secrets") continue;
    const name = resource.group === "" ? resource.plural : `${resource.plural}.${resource.group}`;
    await part(`objects/${name}.json`, async () => {
      const list = await client.json<{ items: KubeObject[] }>(pathOf(resource, undefined));
      return json(list.items.map(redacted));
    });
  }
  if (missing.length > 0) files["missing.txt"] = `${missing.join("\n")}\n`;
  const archive = await new Bun.Archive(files, { compress: "gzip" }).bytes();
  const fd = openSync(path, "wx", 0o600);
  try {
    writeSync(fd, archive);
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
  terminal.out(`${path}: ${Object.keys(files).length} files, ${bytes(archive.length)}\n`);
  for (const line of missing) terminal.err(`left out: ${line}\n`);
  terminal.err("it has names and addresses of your services in it, and no tokens or keys; look into it before you give it away\n");
  return 0;
}

/** Without copies, and without what sounds like a secret: values of annotations, headers and fields. */
export function redacted(object: KubeObject): KubeObject {
  const { managedFields: _managed, annotations, ...metadata } = object.metadata;
  const { metadata: _metadata, ...rest } = object;
  const whole = (name: string) => object.kind === "ConfigMap" && (name === "data" || name === "binaryData");
  const shown = Object.fromEntries(
    Object.entries(rest).map(([name, value]) => [
      name,
      whole(name) ? Object.fromEntries(Object.keys(value as object).map((key) => [key, mark])) : hidden(value, 0),
    ]),
  );
  const made = { ...shown, metadata } as KubeObject;
  if (annotations === undefined) return made;
  const kept = Object.entries(annotations)
    .filter(([name]) => name !== copies)
    .map(([name, value]) => [name, telling.test(name) ? mark : value]);
  return { ...made, metadata: { ...metadata, annotations: Object.fromEntries(kept) as Record<string, string> } };
}

const mark = "[redacted]";
/** Deeper than any kind goes. */
const mostDepth = 60;
/** What is compared with the value of a header, query parameter or cookie of a telling name; in a list that has the name beside it. */
const compared = new Set(["value", "values", "exact", "prefix", "regex", "suffix", "contains"]);
/** Of a map under a telling name: names of objects and kinds stay, they are what a report is about. */
const plain = /^(name|namespace|kind|group|key|type|path|ttl|apiVersion)$/;

/**
 * `{authorization: …}` of a map of headers, whatever matcher is under it, `{name: Authorization, value: …}` of a list, and fields that are called so.
 * Contents of ConfigMaps are not looked into: they go whole.
 */
function hidden(value: unknown, depth: number): unknown {
  if (depth > mostDepth) return mark;
  if (typeof value !== "object" || value === null) return value;
  if (Array.isArray(value)) return value.map((each) => hidden(each, depth + 1));
  const record = value as Record<string, unknown>;
  const named = [record.name, record.key].some((name) => typeof name === "string" && telling.test(name));
  return Object.fromEntries(
    Object.entries(record).map(([name, inner]) => {
      const secret = (named && compared.has(name)) || (telling.test(name) && !/(Name|Ref|Refs|Port)$/.test(name));
      return [name, secret ? emptied(inner, depth + 1) : hidden(inner, depth + 1)];
    }),
  );
}

/** Every text of it hidden, but for what says what it is. */
function emptied(value: unknown, depth: number): unknown {
  if (typeof value === "string" || depth > mostDepth) return mark;
  if (typeof value !== "object" || value === null) return value;
  if (Array.isArray(value)) return value.map((each) => emptied(each, depth + 1));
  return Object.fromEntries(
    Object.entries(value).map(([name, inner]) => [name, plain.test(name) && typeof inner === "string" ? inner : emptied(inner, depth + 1)]),
  );
}

/** Of a line of the log: values in the query of a request. */
export function redactedLine(line: string): string {
  return line.replace(/([?&][\w.-]*(?:secret|token|passw|credential|key|code|signature)[\w.-]*=)[^&\s"\\]+/gi, `$1${mark}`);
}
