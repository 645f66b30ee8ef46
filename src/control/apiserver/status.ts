// Owns: every answer that is not a success, as meta/v1 Status. One maker per Kubernetes reason; nobody else writes a status code.
// Never decides when: it only words.

import type { Violation } from "../../api/meta.ts";

export interface Status {
  readonly kind: "Status";
  readonly apiVersion: "v1";
  readonly metadata: { readonly continue?: string };
  readonly status: "Success" | "Failure";
  readonly message?: string;
  readonly reason?: string;
  readonly details?: StatusDetails;
  readonly code: number;
}

export interface StatusDetails {
  readonly name?: string;
  readonly group?: string;
  readonly kind?: string;
  readonly uid?: string;
  readonly causes?: readonly { readonly reason: string; readonly message: string; readonly field?: string }[];
  readonly retryAfterSeconds?: number;
}

/** Thrown by handlers, turned into a response at the edge of `server.ts`. */
export class ApiError extends Error {
  override readonly name = "ApiError";
  readonly status: Status;
  constructor(code: number, reason: string, message: string, details?: StatusDetails, metadata: Status["metadata"] = {}) {
    super(message);
    this.status = { kind: "Status", apiVersion: "v1", metadata, status: "Failure", message, reason, ...(details && { details }), code };
  }
}

/** What a message is about: `httproutes.gateway.networking.k8s.io "reviews"`. */
export interface Subject {
  readonly plural: string;
  readonly group: string;
  readonly name: string;
}

function called(subject: Subject): string {
  const resource = subject.group === "" ? subject.plural : `${subject.plural}.${subject.group}`;
  return subject.name === "" ? resource : `${resource} ${JSON.stringify(subject.name)}`;
}

function details(subject: Subject): StatusDetails {
  return { name: subject.name, ...(subject.group !== "" && { group: subject.group }), kind: subject.plural };
}

export const badRequest = (message: string) => new ApiError(400, "BadRequest", message);
export const unauthorized = (reason: string) => new ApiError(401, "Unauthorized", reason);
export const pathNotFound = (message: string) => new ApiError(404, "NotFound", message, {});
export const notFound = (subject: Subject) => new ApiError(404, "NotFound", `${called(subject)} not found`, details(subject));
export const methodNotAllowed = (message: string) => new ApiError(405, "MethodNotAllowed", message, {});
export const notAcceptable = (message: string) => new ApiError(406, "NotAcceptable", message);
export const unsupportedMediaType = (message: string) => new ApiError(415, "UnsupportedMediaType", message);
export const bodyTooLarge = (message: string) => new ApiError(413, "RequestEntityTooLarge", message);
export const bodyTooSlow = (message: string) => new ApiError(408, "Timeout", message);
/** 429; kubectl and client-go wait as long and try again. */
export const tooManyRequests = (message: string, seconds: number) =>
  new ApiError(429, "TooManyRequests", message, { retryAfterSeconds: seconds });
export const expired = (message: string) => new ApiError(410, "Expired", message);
/** In Kubernetes' words, which clients' programmers look for; the token lists the rest as it is now. */
export const continueExpired = (token: string) =>
  new ApiError(
    410,
    "Expired",
    "The provided continue parameter is too old to display a consistent list result. You can start a new list without the continue parameter, or use the continue token in this response to retrieve the remainder of the results. Continuing with the provided token results in an inconsistent list - objects that were created, modified, or deleted between the time the first chunk was returned and now may show up in the list.",
    undefined,
    { continue: token },
  );
export const unavailable = (message: string) => new ApiError(503, "ServiceUnavailable", message);
export const internalError = (message: string) => new ApiError(500, "InternalError", message);

export function forbidden(subject: Subject | undefined, reason: string): ApiError {
  if (subject === undefined) return new ApiError(403, "Forbidden", `forbidden: ${reason}`, {});
  return new ApiError(403, "Forbidden", `${called(subject)} is forbidden: ${reason}`, details(subject));
}

export function alreadyExists(subject: Subject): ApiError {
  return new ApiError(409, "AlreadyExists", `${called(subject)} already exists`, details(subject));
}

export function conflict(subject: Subject, why: string): ApiError {
  return new ApiError(409, "Conflict", `Operation cannot be fulfilled on ${called(subject)}: ${why}`, details(subject));
}

/** A server-side apply that would change what others manage; kubectl prints the message and says what can be done. */
export function applyConflict(message: string, causes: readonly { readonly manager: string; readonly path: string }[]): ApiError {
  return new ApiError(409, "Conflict", message, {
    causes: causes.map(({ manager, path }) => ({ reason: "FieldManagerConflict", message: `conflict with ${manager}`, field: path })),
  });
}

export const modified = "the object has been modified; please apply your changes to the latest version and try again";

/** The client has seen a future this store does not have (its data folder was replaced): client-go then lists anew. */
export function revisionTooLarge(asked: number, current: number): ApiError {
  return new ApiError(504, "Timeout", `Too large resource version: ${asked}, current: ${current}`, {
    causes: [{ reason: "ResourceVersionTooLarge", message: "Too large resource version" }],
    retryAfterSeconds: 1,
  });
}

/** 422: every violation as a cause with its path. kubectl prints the causes, one a line. */
export function invalid(kind: string, group: string, name: string, violations: readonly Violation[]): ApiError {
  const lines = violations.map((each) => `${each.path}: ${each.message}`);
  const listed = lines.length === 1 ? lines[0] : `[${lines.join(", ")}]`;
  const qualified = group === "" ? kind : `${kind}.${group}`;
  return new ApiError(422, "Invalid", `${qualified} ${JSON.stringify(name)} is invalid: ${listed}`, {
    name,
    ...(group !== "" && { group }),
    kind,
    causes: violations.map((each) => ({ reason: "FieldValueInvalid", message: each.message, field: each.path })),
  });
}

/** The answer to a deletion. */
export function deleted(subject: Subject, uid: string | undefined): Status {
  return {
    kind: "Status",
    apiVersion: "v1",
    metadata: {},
    status: "Success",
    details: { ...details(subject), ...(uid !== undefined && { uid }) },
    code: 200,
  };
}
