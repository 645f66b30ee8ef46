// Owns: reading a load report (xds.data.orca.v3.OrcaLoadReport) from the value of a header or trailer, in the three spellings that Envoy reads:
// `endpoint-load-metrics: TEXT cpu_utilization=0.3,…`, `endpoint-load-metrics: JSON {…}`, `endpoint-load-metrics-bin: BASE64`. Never throws at bad
// input: a report that cannot be read is none.

export interface LoadReport {
  /** 0 = not told; above 1 where an application is past what it reckons with. */
  cpu: number;
  application: number;
  rps: number;
  eps: number;
}

export const reportHeader = "endpoint-load-metrics";
export const binaryReportHeader = "endpoint-load-metrics-bin";

/** Reports beyond this are no reports. */
const largestReport = 4_096;

const fields: Readonly<Record<string, keyof LoadReport>> = {
  cpu_utilization: "cpu",
  cpuUtilization: "cpu",
  application_utilization: "application",
  applicationUtilization: "application",
  rps_fractional: "rps",
  rpsFractional: "rps",
  eps: "eps",
};

/** One, reused: the answer of the last `read…`. */
const report: LoadReport = { cpu: 0, application: 0, rps: 0, eps: 0 };

function clear(): void {
  report.cpu = 0;
  report.application = 0;
  report.rps = 0;
  report.eps = 0;
}

function put(name: string, value: unknown): void {
  const field = Object.hasOwn(fields, name) ? fields[name] : undefined;
  if (field !== undefined && typeof value === "number" && value >= 0 && Number.isFinite(value)) report[field] = value;
}

/** The value of `endpoint-load-metrics`. The record is valid until the next call. */
export function readTextReport(value: string): LoadReport | null {
  if (value.length > largestReport) return null;
  clear();
  if (value.startsWith("BIN ")) return readBinaryReport(value.slice(4));
  if (value.startsWith("JSON ")) {
    let parsed: unknown;
    try {
      parsed = JSON.parse(value.slice(5));
    } catch {
      return null;
    }
    if (typeof parsed !== "object" || parsed === null) return null;
    for (const [name, one] of Object.entries(parsed)) put(name, one);
    return report;
  }
  const text = value.startsWith("TEXT ") ? value.slice(5) : value;
  for (const part of text.split(",")) {
    const cut = part.includes("=") ? part.indexOf("=") : part.indexOf(":");
    if (cut <= 0) return null;
    const number = Number(part.slice(cut + 1).trim());
    if (Number.isNaN(number)) return null;
    put(part.slice(0, cut).trim(), number);
  }
  return report;
}

/** The fields of the message that are read, by number; all are doubles. */
const numbers: Readonly<Record<number, keyof LoadReport>> = { 1: "cpu", 6: "rps", 7: "eps", 9: "application" };

/** The value of `endpoint-load-metrics-bin`: base64 of the message. */
export function readBinaryReport(value: string): LoadReport | null {
  if (value.length > largestReport) return null;
  clear();
  const bytes = Buffer.from(value, "base64");
  let at = 0;
  const varint = (): number => {
    let shift = 1;
    let found = 0;
    for (;;) {
      const byte = bytes[at++];
      if (byte === undefined) return -1;
      found += (byte & 0x7f) * shift;
      if (byte < 0x80) return found;
      shift *= 128;
    }
  };
  while (at < bytes.length) {
    const tag = varint();
    const field = Math.floor(tag / 8);
    switch (tag & 7) {
      case 0:
        varint();
        break;
      case 1: {
        if (at + 8 > bytes.length) return null;
        const name = numbers[field];
        const number = bytes.readDoubleLE(at);
        if (name !== undefined && number >= 0 && Number.isFinite(number)) report[name] = number;
        at += 8;
        break;
      }
      case 2: {
        const size = varint();
        if (size < 0) return null;
        at += size;
        break;
      }
      case 5:
        at += 4;
        break;
      default:
        return null;
    }
    if (tag < 0 || at > bytes.length) return null;
  }
  return report;
}
