// Owns: objects as meta.k8s.io/v1 Table and PartialObjectMetadata. Columns come from the kind.

import type { Column, KindDefinition, KubeObject } from "../../api/meta.ts";

export type IncludeObject = "None" | "Metadata" | "Object";

const nameColumn: Column = {
  name: "Name",
  type: "string",
  description: "Name must be unique within a namespace.",
  priority: 0,
  value: (object) => object.metadata.name,
};

const ageColumn: Column = {
  name: "Age",
  type: "date",
  description: "Time since the object was created.",
  priority: 0,
  value: (object) => object.metadata.creationTimestamp ?? "",
};

function columnsOf(kind: KindDefinition): readonly Column[] {
  // A kind that names this column itself says where everything stands.
  if (kind.columns.some((column) => column.name === "Name")) return kind.columns;
  const columns = [nameColumn, ...kind.columns];
  // Live state has no age of its own.
  if (!kind.virtual && !columns.some((column) => column.name === "Age" || column.name === "Created At")) columns.push(ageColumn);
  return columns;
}

/** `metadata` is the list's; `withColumns` false = rows only, as the later events of a watch have it. */
export function makeTable(
  kind: KindDefinition,
  objects: readonly KubeObject[],
  metadata: Record<string, unknown>,
  nowMs: number,
  include: IncludeObject,
  withColumns = true,
): Record<string, unknown> {
  const columns = columnsOf(kind);
  return {
    kind: "Table",
    apiVersion: "meta.k8s.io/v1",
    metadata,
    columnDefinitions: withColumns
      ? columns.map(({ name, type, description, priority }) => ({
          name,
          type,
          format: name === "Name" ? "name" : "",
          description,
          priority,
        }))
      : [],
    rows: objects.map((object) => ({
      cells: columns.map((column) => cell(column, object, nowMs)),
      ...(include !== "None" && { object: include === "Object" ? object : partialOf(object) }),
    })),
  };
}

/** The object's type and metadata alone. */
export function partialOf(object: KubeObject): Record<string, unknown> {
  return { kind: "PartialObjectMetadata", apiVersion: "meta.k8s.io/v1", metadata: object.metadata };
}

function cell(column: Column, object: KubeObject, nowMs: number): string | number | boolean {
  const value = column.value(object);
  if (column.type !== "date") return value;
  const at = typeof value === "number" ? value : Date.parse(String(value));
  return Number.isNaN(at) ? "<unknown>" : humanDuration(nowMs - at);
}

/** As kubectl writes ages: two units while they matter (`4m12s`, `3h7m`, `2d4h`), then one. */
export function humanDuration(ms: number): string {
  const seconds = Math.max(0, Math.floor(ms / 1000));
  if (seconds < 120) return `${seconds}s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 10) return two(minutes, "m", seconds % 60, "s");
  if (minutes < 180) return `${minutes}m`;
  const hours = Math.floor(minutes / 60);
  if (hours < 8) return two(hours, "h", minutes % 60, "m");
  if (hours < 48) return `${hours}h`;
  const days = Math.floor(hours / 24);
  if (days < 8) return two(days, "d", hours % 24, "h");
  if (days < 730) return `${days}d`;
  const years = Math.floor(days / 365);
  return years < 8 ? two(years, "y", days % 365, "d") : `${years}y`;
}

function two(large: number, largeUnit: string, small: number, smallUnit: string): string {
  return small === 0 ? `${large}${largeUnit}` : `${large}${largeUnit}${small}${smallUnit}`;
}
