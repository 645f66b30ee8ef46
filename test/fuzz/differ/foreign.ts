// Owns: the shape in which another parser's reading of a stream is compared with ours.

export interface ForeignMessage {
  /** `GET /a` or `200`. */
  readonly start: string;
  readonly minor: number;
  /** Lower-case names; values without white space at their ends. A parser that knows no order gives them sorted by name. */
  readonly fields: readonly (readonly [string, string])[];
  readonly body: string;
}

export interface ForeignReading {
  readonly messages: readonly ForeignMessage[];
  /** `closed`: it would read no further, as a message said so. */
  readonly end: "whole" | "more" | "refused" | "tunnel" | "closed";
  /** Its words for a refusal. */
  readonly why: string;
}

export interface ForeignParser {
  readonly name: string;
  /** Fields that it takes out of the list, lower case. */
  readonly hides: readonly string[];
  readonly sorted: boolean;
  read(streams: readonly Uint8Array[]): Promise<readonly ForeignReading[]>;
}
