// Owns: labelSelector and fieldSelector query parameters. Fields are names, namespaces and what the kind says can be selected by.

import type { KindDefinition, KubeObject } from "../../api/meta.ts";
import { badRequest } from "./status.ts";

export type Predicate = (object: KubeObject) => boolean;

/** undefined when nothing is selected (everything passes). Throws 400 with the part that is not understood. */
export function parseSelectors(query: URLSearchParams, kind: Pick<KindDefinition, "plural" | "selectableFields">): Predicate | undefined {
  const tests = [...labelTests(query.get("labelSelector") ?? ""), ...fieldTests(query.get("fieldSelector") ?? "", kind)];
  if (tests.length === 0) return undefined;
  return (object) => tests.every((passes) => passes(object));
}

const key = "(?:[a-z0-9](?:[-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9](?:[-A-Za-z0-9_.]*[A-Za-z0-9])?";
const value = "(?:[A-Za-z0-9](?:[-A-Za-z0-9_.]*[A-Za-z0-9])?)?";
const equality = new RegExp(`^(${key})\\s*(==|=|!=)\\s*(${value})$`);
const membership = new RegExp(`^(${key})\\s+(in|notin)\\s*\\(\\s*(${value}(?:\\s*,\\s*${value})*)\\s*\\)$`);
const presence = new RegExp(`^(!?)\\s*(${key})$`);

function labelTests(text: string): Predicate[] {
  return splitOutsideParentheses(text).map((part) => {
    const equal = equality.exec(part);
    if (equal !== null) {
      const [, name = "", operator, wanted = ""] = equal;
      // As in Kubernetes, `!=` also holds where the label is missing.
      return operator === "!=" ? (object) => labelOf(object, name) !== wanted : (object) => labelOf(object, name) === wanted;
    }
    const member = membership.exec(part);
    if (member !== null) {
      const [, name = "", operator, list = ""] = member;
      const wanted = new Set<string | undefined>(list.split(",").map((item) => item.trim()));
      return operator === "in" ? (object) => wanted.has(labelOf(object, name)) : (object) => !wanted.has(labelOf(object, name));
    }
    const present = presence.exec(part);
    if (present !== null) {
      const [, not, name = ""] = present;
      return not === "!" ? (object) => labelOf(object, name) === undefined : (object) => labelOf(object, name) !== undefined;
    }
    throw badRequest(
      `labelSelector: ${JSON.stringify(part)} is not understood; write KEY=VALUE, KEY!=VALUE, KEY in (A,B), KEY notin (A,B), KEY or !KEY, separated by commas`,
    );
  });
}

function labelOf(object: KubeObject, name: string): string | undefined {
  const labels = object.metadata.labels;
  return labels !== undefined && Object.hasOwn(labels, name) ? labels[name] : undefined;
}

function splitOutsideParentheses(text: string): string[] {
  const parts: string[] = [];
  let depth = 0;
  let start = 0;
  for (let at = 0; at <= text.length; at++) {
    const char = text[at];
    if (char === "(") depth++;
    else if (char === ")") depth--;
    else if (at === text.length || (char === "," && depth === 0)) {
      parts.push(text.slice(start, at).trim());
      start = at + 1;
    }
  }
  return parts.filter((part) => part !== "");
}

const everyKind: Readonly<Record<string, (object: KubeObject) => string>> = {
  "metadata.name": (object) => object.metadata.name,
  "metadata.namespace": (object) => object.metadata.namespace ?? "",
};

function fieldTests(text: string, kind: Pick<KindDefinition, "plural" | "selectableFields">): Predicate[] {
  const fields = { ...everyKind, ...kind.selectableFields };
  return text
    .split(/(?<!\\),/)
    .map((part) => part.trim())
    .filter((part) => part !== "")
    .map((part) => {
      const [, field = "", operator, wanted = ""] = /^([^=!\s]+)\s*(==|=|!=)\s*(.*)$/.exec(part) ?? [];
      const of = Object.hasOwn(fields, field) ? fields[field] : undefined;
      if (of === undefined) {
        throw badRequest(
          `fieldSelector: ${JSON.stringify(part)} is not supported; ${kind.plural} can be selected by ${Object.keys(fields).sort().join(", ")}, with = or !=`,
        );
      }
      const plain = wanted.replace(/\\([\\,=])/g, "$1");
      return operator === "!=" ? (object) => of(object) !== plain : (object) => of(object) === plain;
    });
}
