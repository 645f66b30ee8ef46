// Owns: taking secrets out of what people are shown. Never shows a part of one.

const secretFields = new Set(["privateKeyPem", "token"]);

/** A copy of plain data with every secret replaced by "[redacted]". */
export function redact(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(redact);
  if (typeof value !== "object" || value === null) return value;
  const made: Record<string, unknown> = {};
  for (const [key, inner] of Object.entries(value)) made[key] = secretFields.has(key) ? "[redacted]" : redact(inner);
  return made;
}
