// Owns: the shape of a test vector: some bytes, the rule they are about, and what is to become of them.

import type { RefusalName } from "../reading.ts";

export interface Vector {
  /** RFC section, or the name of the attack. */
  readonly rule: string;
  readonly name: string;
  readonly raw: string;
  /** What each message is read as (see `summary`), and how the stream ends. */
  readonly messages: readonly string[];
  readonly end: "whole" | "more" | "tunnel" | RefusalName;
}

/** Read as these messages, to the last byte. */
export function yes(rule: string, name: string, raw: string, ...messages: readonly string[]): Vector {
  return { rule, name, raw, messages, end: "whole" };
}

/** Refused, after these messages. */
export function no(rule: string, name: string, end: RefusalName, raw: string, ...messages: readonly string[]): Vector {
  return { rule, name, raw, messages, end };
}

/** Not complete, after these messages. */
export function more(rule: string, name: string, raw: string, ...messages: readonly string[]): Vector {
  return { rule, name, raw, messages, end: "more" };
}
