// Owns: asking the policies, and handing out permits (rule 12: nobody else makes one).
// Order is the listener's: the first filter that refuses ends it; `deny` filters refuse on a match, `allow` filters refuse without one.

import { hasEscapedSlash, needsNormalizing, normalize, pathEnd } from "./path.ts";
import { grant, type Permit } from "./permit.ts";
import type { CompiledRbac } from "./rules.ts";
import { Subject } from "./subject.ts";

/** The subject of the question being asked; filled by the caller, valid until the next question. */
export const subject = new Subject();

/** After a refusal: which policy, for the log (`rbac_access_denied_matched_policy[NAME]`, as Envoy has it). */
export const denial = { details: "", reason: "" };

/** Set when the path was normalised: what is to be forwarded in place of the original, [0, size) of `bytes` (query included); else size is 0. */
export const rewrittenPath = { bytes: new Uint8Array(0), size: 0 };

/** The permit, or null with `denial` filled. */
export function judge(filters: readonly CompiledRbac[]): Permit | null {
  for (let i = 0; i < filters.length; i++) if (refuses(filters[i] as CompiledRbac)) return null;
  return grant();
}

/** As `judge`, for chains whose policies read the path that `setPath` was given: escaped slashes are judged in both readings. */
export function judgePath(filters: readonly CompiledRbac[]): Permit | null {
  const permit = judge(filters);
  const { pathBytes: bytes, pathFrom: from, pathTo: to } = subject;
  if (permit === null || !hasEscapedSlash(bytes, from, to)) return permit;
  const out = new Uint8Array(to - from);
  const size = normalize(bytes, from, to, out, true);
  if (size < 0) {
    denial.details = "rbac_access_denied_escaped_path";
    denial.reason = "access denied, as the path with its escaped slashes climbs above its root";
    return null;
  }
  subject.pathBytes = out;
  subject.pathFrom = 0;
  subject.pathTo = size;
  subject.fullTo = size;
  return judge(filters);
}

function refuses(filter: CompiledRbac): boolean {
  if (filter.action === "log") return false;
  const policies = filter.policies;
  for (let i = 0; i < policies.length; i++) {
    const policy = policies[i] as CompiledRbac["policies"][number];
    if (!policy.applies(subject)) continue;
    if (filter.action === "allow") return false;
    denial.details = `rbac_access_denied_matched_policy[${policy.name}]`;
    denial.reason = `access denied by policy ${policy.name} (action DENY)`;
    return true;
  }
  if (filter.action === "deny") return false;
  denial.details = "rbac_access_denied_matched_policy[none]";
  denial.reason = "access denied, as no ALLOW policy matches";
  return true;
}

/** Fills the subject's path from bytes[from, to) (with query). False: the path cannot be normalised and must be refused. */
export function setPath(bytes: Uint8Array, from: number, to: number): boolean {
  const end = pathEnd(bytes, from, to);
  rewrittenPath.size = 0;
  if (!needsNormalizing(bytes, from, end)) {
    subject.pathBytes = bytes;
    subject.pathFrom = from;
    subject.pathTo = end;
    subject.fullTo = to;
    return true;
  }
  if (rewrittenPath.bytes.length < to - from) rewrittenPath.bytes = new Uint8Array(to - from + 256);
  const out = rewrittenPath.bytes;
  const size = normalize(bytes, from, end, out);
  if (size < 0) return false;
  subject.pathBytes = out;
  subject.pathFrom = 0;
  subject.pathTo = size;
  for (let i = end; i < to; i++) out[size + i - end] = bytes[i] as number;
  rewrittenPath.size = size + to - end;
  subject.fullTo = rewrittenPath.size;
  return true;
}
