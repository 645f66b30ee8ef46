// Owns: how numbers become words on the page. Never rounds a flawed success ratio up to 100 %, and never shows "0" for something that is not zero.

const none = "–";

/** Per-second rate: `0`, `0.04`, `3.2`, `41`, `1.2k`. */
export function rate(perSecond: number): string {
  if (perSecond === 0) return "0";
  if (perSecond < 0.01) return "<0.01";
  if (perSecond < 1) return perSecond.toFixed(2);
  if (perSecond < 99.95) return perSecond.toFixed(1);
  if (perSecond < 9_999.5) return String(Math.round(perSecond));
  if (perSecond < 999_500) return `${trim(perSecond / 1e3)}k`;
  return `${trim(perSecond / 1e6)}M`;
}

/** Ratio 0..1 as a percentage with one decimal, cut and not rounded: 0.9999 is `99.9 %`. */
export function success(ratio: number | null): string {
  if (ratio === null) return none;
  if (ratio >= 1) return "100 %";
  if (ratio <= 0) return "0 %";
  // 1e-9 undoes binary noise such as 0.995 * 1000 = 994.9999…
  return `${(Math.floor(ratio * 1000 + 1e-9) / 10).toFixed(1)} %`;
}

/** What `success` lacks to 100 %, so that the two add up: `4.8 % fail`; empty when nothing fails. */
export function failing(ratio: number | null): string {
  if (ratio === null || ratio >= 1) return "";
  if (ratio > 0.999) return "<0.1 % fail";
  return `${((1000 - Math.floor(Math.max(0, ratio) * 1000 + 1e-9)) / 10).toFixed(1)} % fail`;
}

/** Milliseconds with unit: `0.4 ms`, `12 ms`, `1.3 s`. */
export function duration(ms: number | null): string {
  if (ms === null) return none;
  if (ms >= 999.5) return `${trim(ms / 1000)} s`;
  return `${durationNumber(ms)} ms`;
}

/** Milliseconds without unit, for tight labels that name the unit once. */
export function durationNumber(ms: number | null): string {
  if (ms === null) return none;
  if (ms === 0) return "0";
  if (ms < 0.1) return "<0.1";
  return ms < 9.95 ? ms.toFixed(1) : String(Math.round(ms));
}

/** Bytes a second: `0 B/s`, `640 B/s`, `12 kB/s`, `3.4 MB/s` (decimal units). */
export function byteRate(bytesPerSecond: number): string {
  const units = ["B/s", "kB/s", "MB/s", "GB/s"];
  let value = bytesPerSecond;
  let unit = 0;
  while (value >= 999.5 && unit < units.length - 1) {
    value /= 1000;
    unit++;
  }
  return `${unit === 0 ? Math.round(value) : trim(value)} ${units[unit]}`;
}

/** `14:03:21` in the reader's own time zone, 24 hours. */
export function clockTime(ms: number): string {
  const at = new Date(ms);
  const two = (n: number): string => String(n).padStart(2, "0");
  return `${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())}`;
}

/** How long: `8 s`, `3 min`, `2 h 5 min`, `4 d`. */
export function span(ms: number): string {
  const seconds = Math.max(0, Math.round(ms / 1000));
  if (seconds < 90) return `${seconds} s`;
  const minutes = Math.round(seconds / 60);
  if (minutes < 90) return `${minutes} min`;
  const hours = Math.floor(minutes / 60);
  if (hours < 48) return minutes % 60 === 0 ? `${hours} h` : `${hours} h ${minutes % 60} min`;
  return `${Math.round(hours / 24)} d`;
}

/** `1 proxy`, `2 proxies`. */
export function count(n: number, one: string, many: string = `${one}s`): string {
  return `${n} ${n === 1 ? one : many}`;
}

function trim(value: number): string {
  return value < 9.95 ? value.toFixed(1) : String(Math.round(value));
}
