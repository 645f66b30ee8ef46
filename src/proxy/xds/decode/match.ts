// Owns: string, header and query matchers, shared by routes and authorization. Never matches anything.

import type { HeaderMatcher, QueryParameterMatcher } from "../../../wire/gen/envoy/config/route/v3/route_components_pb.ts";
import type { StringMatcher } from "../../../wire/gen/envoy/type/matcher/v3/string_pb.ts";
import type { HeaderMatch, QueryMatch, StringMatch } from "../../config.ts";
import { at, type Gate } from "./gate.ts";

const nothing: StringMatch = { kind: "exact", value: "", ignoreCase: false };

/** RE2 limits nothing by length; we do, since a pattern is compiled before anything else can refuse it. */
const maxPatternLength = 4096;

export function checkRegex(gate: Gate, path: string, pattern: string): void {
  if (pattern.length > maxPatternLength) {
    gate.add(path, `is longer than ${maxPatternLength} characters`);
    return;
  }
  // Loaded on first use: most configurations have no regular expression, and the library costs a megabyte.
  const { RE2JS } = require("re2js") as typeof import("re2js");
  try {
    RE2JS.compile(pattern);
  } catch (error) {
    gate.add(path, `"${pattern}" is not a regular expression in RE2 syntax: ${error instanceof Error ? error.message : String(error)}`);
  }
}

export function stringMatch(gate: Gate, path: string, matcher: StringMatcher | undefined): StringMatch {
  if (matcher === undefined) {
    gate.add(path, "is missing");
    return nothing;
  }
  const pattern = matcher.matchPattern;
  const ignoreCase = matcher.ignoreCase;
  switch (pattern.case) {
    case "exact":
      return { kind: "exact", value: pattern.value, ignoreCase };
    case "prefix":
    case "suffix":
    case "contains":
      if (pattern.value === "") gate.add(at(path, pattern.case), "must not be empty");
      return { kind: pattern.case, value: pattern.value, ignoreCase };
    case "safeRegex":
      checkRegex(gate, at(path, "safe_regex.regex"), pattern.value.regex);
      // Envoy: "This has no effect for the safe_regex match."
      return { kind: "regex", value: pattern.value.regex, ignoreCase: false };
    case undefined:
      gate.add(path, "needs one of exact, prefix, suffix, contains, safe_regex");
      return nothing;
  }
}

const headerName = /^[!#$%&'*+.^_`|~0-9a-z-]+$/;
const pseudoHeaders = [":method", ":path", ":authority"];

export function headerMatch(gate: Gate, path: string, matcher: HeaderMatcher): HeaderMatch {
  const name = matcher.name.toLowerCase();
  if (name.startsWith(":")) {
    if (!pseudoHeaders.includes(name))
      gate.add(at(path, "name"), `"${name}" is not supported; pseudo-headers here: ${pseudoHeaders.join(", ")}`);
  } else if (!headerName.test(name)) gate.add(at(path, "name"), `"${matcher.name}" is not a header name`);
  const specifier = matcher.headerMatchSpecifier;
  if (specifier.case === "stringMatch") {
    return { name, match: stringMatch(gate, at(path, "string_match"), specifier.value), invert: matcher.invertMatch };
  }
  // present_match: false asks for absence; nothing at all asks for presence.
  const absent = specifier.case === "presentMatch" && !specifier.value;
  return { name, match: null, invert: absent !== matcher.invertMatch };
}

export function queryMatch(gate: Gate, path: string, matcher: QueryParameterMatcher): QueryMatch {
  if (matcher.name === "") gate.add(at(path, "name"), "must not be empty");
  const specifier = matcher.queryParameterMatchSpecifier;
  if (specifier.case === "stringMatch") return { name: matcher.name, match: stringMatch(gate, at(path, "string_match"), specifier.value) };
  if (specifier.case === "presentMatch" && !specifier.value) gate.add(at(path, "present_match"), "false is not supported");
  return { name: matcher.name, match: null };
}
