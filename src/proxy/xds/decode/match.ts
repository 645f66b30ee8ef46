// Owns: string, header and query matchers, shared by routes and authorization. Never matches anything.

import { longestPattern } from "../../../wire/expression.ts";
import type { HeaderMatcher, QueryParameterMatcher } from "../../../wire/gen/envoy/config/route/v3/route_components_pb.ts";
import type { RegexMatchAndSubstitute } from "../../../wire/gen/envoy/type/matcher/v3/regex_pb.ts";
import type { StringMatcher } from "../../../wire/gen/envoy/type/matcher/v3/string_pb.ts";
import type { FractionalPercent } from "../../../wire/gen/envoy/type/v3/percent_pb.ts";
import type { HeaderMatch, QueryMatch, StringMatch, Substitution } from "../../config.ts";
import { compileRewrite } from "../../route/rewrite.ts";
import { at, choose, type Gate } from "./gate.ts";

const nothing: StringMatch = { kind: "exact", value: "", ignoreCase: false };

export function checkRegex(gate: Gate, path: string, pattern: string): void {
  if (pattern.length > longestPattern) {
    gate.add(path, `is longer than ${longestPattern} characters`);
    return;
  }
  try {
    const { compileExpression } = require("../../route/regex.ts") as typeof import("../../route/regex.ts");
    compileExpression(pattern, false);
  } catch (error) {
    gate.add(path, (error as Error).message);
  }
}

/** A regular expression and what is put where it matches. */
export function substitution(gate: Gate, rewrite: RegexMatchAndSubstitute, path: string): Substitution {
  const pattern = rewrite.pattern?.regex ?? "";
  if (pattern === "") gate.add(at(path, "pattern.regex"), "must not be empty");
  else if (pattern.length > longestPattern) gate.add(at(path, "pattern.regex"), `is longer than ${longestPattern} characters`);
  else {
    try {
      compileRewrite({ pattern, substitution: rewrite.substitution });
    } catch (error) {
      gate.add(path, (error as Error).message);
    }
  }
  return { pattern, substitution: rewrite.substitution };
}

const denominators: Readonly<Record<string, number>> = { HUNDRED: 100, TEN_THOUSAND: 10_000, MILLION: 1_000_000 };

/** 0 to 1; Envoy caps what is above. */
export function fraction(gate: Gate, percent: FractionalPercent | undefined, path: string): number {
  if (percent === undefined) {
    gate.add(path, "is missing");
    return 0;
  }
  const of = choose(
    gate,
    at(path, "denominator"),
    "envoy.type.v3.FractionalPercent.DenominatorType",
    percent.denominator,
    denominators,
    100,
  );
  return Math.min(1, percent.numerator / of);
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
const pseudoHeaders = [":method", ":path", ":authority", ":scheme"];

export function headerMatch(gate: Gate, path: string, matcher: HeaderMatcher): HeaderMatch {
  const name = matcher.name.toLowerCase();
  if (name.startsWith(":")) {
    if (!pseudoHeaders.includes(name))
      gate.add(at(path, "name"), `"${name}" is not supported; pseudo-headers here: ${pseudoHeaders.join(", ")}`);
  } else if (!headerName.test(name)) gate.add(at(path, "name"), `"${matcher.name}" is not a header name`);
  const specifier = matcher.headerMatchSpecifier;
  const common = { name, invert: matcher.invertMatch, ...(matcher.treatMissingHeaderAsEmpty ? { missingIsEmpty: true as const } : {}) };
  switch (specifier.case) {
    case "stringMatch":
      return { ...common, match: stringMatch(gate, at(path, "string_match"), specifier.value) };
    case "rangeMatch": {
      const { start, end } = specifier.value;
      if (end <= start) gate.add(at(path, "range_match"), `[${start}, ${end}) holds no number`);
      return { ...common, match: null, range: { start: Number(start), end: Number(end) } };
    }
    // The deprecated forms, as other control planes still send them.
    case "exactMatch":
      return { ...common, match: { kind: "exact", value: specifier.value, ignoreCase: false } };
    case "prefixMatch":
    case "suffixMatch":
    case "containsMatch": {
      const field = snake[specifier.case];
      if (specifier.value === "") gate.add(at(path, field), "must not be empty");
      return { ...common, match: { kind: kinds[specifier.case], value: specifier.value, ignoreCase: false } };
    }
    case "safeRegexMatch":
      checkRegex(gate, at(path, "safe_regex_match.regex"), specifier.value.regex);
      return { ...common, match: { kind: "regex", value: specifier.value.regex, ignoreCase: false } };
    // present_match: false asks for absence; nothing at all asks for presence.
    case "presentMatch":
      return { ...common, match: null, invert: !specifier.value !== matcher.invertMatch };
    case undefined:
      return { ...common, match: null };
  }
}

const snake = { prefixMatch: "prefix_match", suffixMatch: "suffix_match", containsMatch: "contains_match" } as const;
const kinds = { prefixMatch: "prefix", suffixMatch: "suffix", containsMatch: "contains" } as const;

export function queryMatch(gate: Gate, path: string, matcher: QueryParameterMatcher): QueryMatch {
  if (matcher.name === "") gate.add(at(path, "name"), "must not be empty");
  const specifier = matcher.queryParameterMatchSpecifier;
  if (specifier.case === "stringMatch") return { name: matcher.name, match: stringMatch(gate, at(path, "string_match"), specifier.value) };
  if (specifier.case === "presentMatch" && !specifier.value) gate.add(at(path, "present_match"), "false is not supported");
  return { name: matcher.name, match: null };
}
