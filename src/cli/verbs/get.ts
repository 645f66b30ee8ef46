// Owns: `weft get`: lists as the server's own tables, or the objects themselves, once or as they change.

import type { KubeObject } from "../../api/meta.ts";
import { ApiFailure, type Client, tableAccept, Unreachable } from "../client.ts";
import { groupVersion, pathOf, type Resource, shownName } from "../discovery.ts";
import { UsageFailure } from "../failure.ts";
import { age, type CellLike, table, toJson, toYaml } from "../output.ts";
import { openSession, type Session } from "../session.ts";
import type { Invocation } from "../verb.ts";

interface Column {
  readonly name: string;
  readonly type?: string;
  readonly priority?: number;
}
interface Row {
  readonly cells: readonly unknown[];
  readonly object?: { readonly metadata?: KubeObject["metadata"] };
}
interface Table {
  readonly kind: "Table";
  readonly metadata?: { readonly resourceVersion?: string };
  readonly columnDefinitions: readonly Column[];
  readonly rows: readonly Row[];
}
interface List {
  readonly kind: string;
  readonly metadata?: { readonly resourceVersion?: string };
  readonly items?: readonly KubeObject[];
}

/** One request: a collection or an object. */
interface Target {
  readonly resource: Resource;
  readonly namespace: string | undefined;
  readonly name: string | undefined;
}

export async function run(invocation: Invocation): Promise<number> {
  const { args } = invocation;
  const session = openSession(invocation);
  const targets = await targetsOf(invocation, session);
  const format = args.text("output") ?? "table";
  if (args.on("watch")) {
    const only = targets.length === 1 ? targets[0] : undefined;
    if (only === undefined) throw new UsageFailure("-w watches one kind at a time");
    return await watch(invocation, session.client, only, format);
  }
  if (format === "table" || format === "wide") return await printTables(invocation, session, targets, format === "wide");
  return await printObjects(invocation, session.client, targets, format);
}

/** `KIND`, `KIND,KIND`, `CATEGORY` (all), `KIND NAME...`, `KIND/NAME...`. */
async function targetsOf({ args }: Invocation, session: Session): Promise<readonly Target[]> {
  const [first, ...rest] = args.operands as [string, ...string[]];
  const everywhere = args.on("all-namespaces");
  const place = (resource: Resource) => (resource.namespaced && !everywhere ? session.namespace : undefined);
  const named = args.operands.filter((o) => o.includes("/"));
  if (everywhere && (named.length > 0 || rest.length > 0))
    throw new UsageFailure("a NAME is looked up in one namespace: use -n instead of -A");
  if (named.length > 0) {
    if (named.length !== args.operands.length)
      throw new UsageFailure(`write KIND/NAME for all, or KIND NAME..., not both: ${args.operands.join(" ")}`);
    const targets: Target[] = [];
    for (const operand of named) {
      const slash = operand.indexOf("/");
      const resource = await session.find(operand.slice(0, slash));
      targets.push({ resource, namespace: place(resource), name: operand.slice(slash + 1) });
    }
    return targets;
  }
  const kinds: Resource[] = [];
  for (const word of first.split(",").filter((w) => w !== "")) {
    const category = (await session.resources()).filter((r) => r.categories.includes(word.toLowerCase()));
    if (category.length > 0) kinds.push(...category);
    else kinds.push(await session.find(word));
  }
  if (rest.length === 0) return kinds.map((resource) => ({ resource, namespace: place(resource), name: undefined }));
  return kinds.flatMap((resource) => rest.map((name) => ({ resource, namespace: place(resource), name })));
}

function pathFor(target: Target, selector: string | undefined): string {
  const query = selector === undefined || target.name !== undefined ? "" : `?labelSelector=${encodeURIComponent(selector)}`;
  return pathOf(target.resource, target.namespace, target.name) + query;
}

async function printTables({ args, terminal }: Invocation, session: Session, targets: readonly Target[], wide: boolean): Promise<number> {
  const everywhere = args.on("all-namespaces");
  const selector = args.text("selector");
  const failures: ApiFailure[] = [];
  const found: { target: Target; answer: Table }[] = [];
  const answers = await Promise.all(
    targets.map(async (target) => {
      try {
        return {
          target,
          answer: asTable(await session.client.json<Table | List | KubeObject>(pathFor(target, selector), { accept: tableAccept })),
        };
      } catch (error) {
        if (error instanceof ApiFailure && targets.length > 1 && target.name !== undefined) return error;
        throw error;
      }
    }),
  );
  for (const answer of answers) {
    if (answer instanceof ApiFailure) failures.push(answer);
    else found.push(answer);
  }
  // Rows of one kind asked for by several names make one table.
  const groups = new Map<string, { target: Target; columns: readonly Column[]; rows: Row[] }>();
  for (const { target, answer } of found) {
    const key = `${target.resource.plural}.${target.resource.group}`;
    const group = groups.get(key);
    if (group === undefined) groups.set(key, { target, columns: answer.columnDefinitions, rows: [...answer.rows] });
    else group.rows.push(...answer.rows);
  }
  const full = [...groups.values()].filter((g) => g.rows.length > 0);
  full.forEach(({ target, columns, rows }, i) => {
    if (i > 0) terminal.out("\n");
    const prefix = groups.size > 1 ? target.resource : undefined;
    const shape = shapeOf(columns, wide, everywhere && target.resource.namespaced, prefix);
    terminal.out(table(shape.header, rows.map(shape.row), terminal.colour));
  });
  for (const failure of failures) terminal.err(`error: ${failure.message}\n`);
  if (full.length === 0 && failures.length === 0) {
    const where = everywhere || targets.every((t) => !t.resource.namespaced) ? "" : ` in namespace ${session.namespace}`;
    const what = targets.length === 1 ? (targets[0] as Target).resource.plural : "objects";
    terminal.err(`no ${what}${selector === undefined ? "" : ` with ${selector}`}${where}\n`);
  }
  return failures.length === 0 ? 0 : 1;
}

/** A server that knows no tables sends the objects; names and ages are still good for a table. */
function asTable(answer: Table | List | KubeObject): Table {
  if (answer.kind === "Table") return answer as Table;
  const items = (answer as List).items ?? [answer as KubeObject];
  const rows = items.map((object) => ({
    cells: [object.metadata.name, age(Date.now() - Date.parse(object.metadata.creationTimestamp ?? ""))],
    object,
  }));
  const resourceVersion = (answer as List).metadata?.resourceVersion;
  return {
    kind: "Table",
    metadata: resourceVersion === undefined ? {} : { resourceVersion },
    columnDefinitions: [{ name: "Name" }, { name: "Age" }],
    rows,
  };
}

interface Shape {
  readonly header: readonly string[];
  readonly row: (row: Row) => readonly CellLike[];
}

function shapeOf(columns: readonly Column[], wide: boolean, withNamespace: boolean, prefix: Resource | undefined): Shape {
  const shown = columns.map((column, i) => ({ column, i })).filter(({ column }) => wide || (column.priority ?? 0) === 0);
  return {
    header: [...(withNamespace ? ["NAMESPACE"] : []), ...shown.map(({ column }) => column.name.toUpperCase())],
    row: ({ cells, object }) => [
      ...(withNamespace ? [object?.metadata?.namespace ?? ""] : []),
      ...shown.map(({ column, i }): CellLike => {
        const value = cells[i];
        if (i === 0 && prefix !== undefined) return shownName(prefix, String(value));
        return cellText(value, column);
      }),
    ],
  };
}

/** Words that mean good or bad get a colour; a column of type `date` may hold a time or an age already. */
function cellText(value: unknown, column: Column): CellLike {
  if (value === null || value === undefined || value === "") return "<none>";
  const text = String(value);
  if (column.type === "date" && /^\d{4}-\d\d-\d\dT/.test(text)) return age(Date.now() - Date.parse(text));
  if (column.type === "integer" || column.type === "number") return { text, right: false };
  if (text === "True" || text === "true" || text === "Ready" || text === "Healthy") return { text, tone: "green" };
  if (text === "False" || text === "false" || text === "Unhealthy") return { text, tone: "yellow" };
  return text;
}

async function printObjects({ args, terminal }: Invocation, client: Client, targets: readonly Target[], format: string): Promise<number> {
  const selector = args.text("selector");
  const objects: KubeObject[] = [];
  const single = targets.length === 1 && targets[0]?.name !== undefined;
  for (const target of targets) {
    const answer = await client.json<List | KubeObject>(pathFor(target, selector));
    if (target.name !== undefined) objects.push(answer as KubeObject);
    else for (const item of (answer as List).items ?? []) objects.push(typed(item, target.resource));
  }
  if (format === "name") {
    const of = (object: KubeObject) => targets.find((t) => t.resource.kind === object.kind)?.resource;
    for (const object of objects) {
      const resource = of(object);
      terminal.out(`${resource === undefined ? object.metadata.name : shownName(resource, object.metadata.name)}\n`);
    }
    return 0;
  }
  const shown = args.on("show-managed-fields") ? objects : objects.map(withoutManagers);
  const value = single ? shown[0] : { apiVersion: "v1", kind: "List", items: shown };
  terminal.out(format === "json" ? toJson(value) : await toYaml(value));
  return 0;
}

/** The server's account of who manages which field, longer than most objects: for who asks for it, as in kubectl. */
function withoutManagers(object: KubeObject): KubeObject {
  const { managedFields: _, ...metadata } = object.metadata;
  return { ...object, metadata };
}

/** Items of a list may come without apiVersion and kind (Kubernetes leaves them out). */
function typed(object: KubeObject, resource: Resource): KubeObject {
  return { ...object, apiVersion: groupVersion(resource.group, resource.version), kind: resource.kind };
}

/** The list first, then each change as it comes, until Ctrl-C. A watch that ends (server restart, compaction) begins again. */
async function watch({ args, terminal, stop }: Invocation, client: Client, target: Target, format: string): Promise<number> {
  const asTables = format === "table" || format === "wide";
  const { resource, namespace, name } = target;
  const accept = asTables ? { accept: tableAccept } : {};
  const query = new URLSearchParams();
  const selector = args.text("selector");
  if (selector !== undefined) query.set("labelSelector", selector);
  if (name !== undefined) query.set("fieldSelector", `metadata.name=${name}`);
  const collection = pathOf(resource, namespace);
  let columns: readonly Column[] = [];
  let widths: readonly number[] = [];
  let headed = false;

  const print = async (type: string, object: unknown): Promise<void> => {
    if (!asTables) {
      if (format === "name") terminal.out(`${shownName(resource, (object as KubeObject).metadata.name)}\n`);
      else {
        const shown = args.on("show-managed-fields") ? object : withoutManagers(object as KubeObject);
        terminal.out(format === "json" ? `${JSON.stringify({ type, object: shown })}\n` : `---\n${await toYaml(shown)}`);
      }
      return;
    }
    const answer = asTable(object as Table);
    if (answer.columnDefinitions?.length > 0) columns = answer.columnDefinitions;
    if (answer.rows.length === 0) return;
    const shape = shapeOf(columns, format === "wide", args.on("all-namespaces") && resource.namespaced, undefined);
    const rows = answer.rows.map((row) => {
      const cells = shape.row(row);
      return type === "DELETED" ? [...cells.slice(0, -1), { text: "deleted", tone: "red" as const }] : cells;
    });
    // Later rows keep the widths of the first ones, so that the columns stay under their heads.
    const text = (cell: CellLike) => (typeof cell === "string" ? cell : cell.text);
    widths = shape.header.map((head, i) => Math.max(widths[i] ?? 0, head.length, ...rows.map((row) => text(row[i] as CellLike).length)));
    const ruler = widths.map((w) => "x".repeat(w));
    const lines = table(shape.header, [ruler, ...rows], terminal.colour).split("\n");
    terminal.out([...(headed ? [] : [lines[0]]), ...lines.slice(2)].join("\n"));
    headed = true;
  };

  // What was printed last of each object: after a gap only what changed in it is printed.
  const seen = new Map<string, string>();
  const keyOf = (metadata: KubeObject["metadata"] | undefined) => `${metadata?.namespace ?? ""}/${metadata?.name ?? ""}`;
  const isNews = (metadata: KubeObject["metadata"] | undefined): boolean => {
    const revision = metadata?.resourceVersion ?? "";
    if (revision !== "" && seen.get(keyOf(metadata)) === revision) return false;
    seen.set(keyOf(metadata), revision);
    return true;
  };
  const printList = async (list: Table | List): Promise<void> => {
    if (asTables) {
      const answer = asTable(list);
      await print("ADDED", { ...answer, rows: answer.rows.filter((row) => isNews(row.object?.metadata)) });
    } else for (const item of (list as List).items ?? []) if (isNews(item.metadata)) await print("ADDED", typed(item, resource));
  };

  let announced = false;
  while (!stop.aborted) {
    try {
      const suffix = query.size > 0 ? `?${query}` : "";
      const list = await client.json<Table | List>(collection + suffix, { ...accept, signal: stop });
      await printList(list);
      announced = true;
      const watchQuery = new URLSearchParams(query);
      watchQuery.set("watch", "true");
      watchQuery.set("resourceVersion", list.metadata?.resourceVersion ?? "");
      for await (const line of client.lines(`${collection}?${watchQuery}`, { ...accept, signal: stop })) {
        const event = JSON.parse(line) as { type: string; object: (Table | KubeObject) & { rows?: readonly Row[] } };
        if (event.type === "BOOKMARK") continue;
        if (event.type === "ERROR") break; // compacted or gone: list again
        isNews((event.object.rows?.[0]?.object ?? (event.object as KubeObject)).metadata);
        await print(event.type, event.object);
      }
    } catch (error) {
      if (stop.aborted) break;
      if (!announced || !(error instanceof Unreachable) || !error.retryable) throw error;
    }
    if (!stop.aborted) await Bun.sleep(500);
  }
  return 0;
}
