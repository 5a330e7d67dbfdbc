/** Numbers, times and settings as people read them. */

/** Returns a value of a column as a text; `–` without one. */
export function shown(column, value) {
  if (column.kind === "category") return value === value && value !== null ? (column.names[value] ?? "–") : "–";
  return number(value, column.unit);
}

/** Returns a number in its unit. */
export function number(value, unit = "") {
  if (value === null || value === undefined || value !== value) return "–";
  if (value === Infinity || value === "∞") return "∞";
  if (unit === "share" || unit === "fraction" || unit === "probability") return `${(100 * value).toFixed(1)} %`;
  if (unit === "seconds") return seconds(value);
  return plain(value);
}

/** Returns the text of a tick, with as many digits as tell it from the next tick. */
export function tickText(value, unit, step) {
  if (!step || unit === "seconds" || value === 0) return number(value, unit);
  const size = unit === "share" ? step * 100 : step;
  const digits = Math.min(8, Math.max(0, -Math.floor(Math.log10(size) + 1e-9)));
  const shownAs = unit === "share" ? value * 100 : value;
  if (Math.abs(shownAs) >= 1e7 || digits > 6) return number(value, unit);
  return shownAs.toFixed(digits) + (unit === "share" ? " %" : "");
}

/** Returns a number with at most four digits that matter. */
export function plain(value) {
  if (typeof value !== "number") return String(value);
  if (Number.isInteger(value) && Math.abs(value) < 1e7) return String(value);
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-3 || size >= 1e7)) return value.toExponential(2).replace("e+", "e").replace("e-", "e−");
  return String(Number(value.toPrecision(4)));
}

/** Returns a time such as `2 min 5 s`. */
export function seconds(value) {
  if (value < 10) return `${value.toFixed(value < 1 ? 2 : 1)} s`;
  if (value < 60) return `${Math.round(value)} s`;
  if (value < 3600) return `${Math.floor(value / 60)} min ${Math.round(value % 60)} s`;
  return `${Math.floor(value / 3600)} h ${Math.round((value % 3600) / 60)} min`;
}

/** Returns a count with its noun: `1 trial`, `2,000 trials`. */
export const counted = (count, noun) => `${count.toLocaleString("en")} ${noun}${count === 1 ? "" : "s"}`;

/** Returns the two lines of an axis title: where a setting belongs, and what it is. */
export function titleLines(column) {
  if (column.group !== "setting" || !column.title.includes(".")) return ["", column.title.replaceAll("_", " ")];
  const at = column.title.lastIndexOf(".");
  return [column.title.slice(0, at).replaceAll("_", " "), column.title.slice(at + 1).replaceAll("_", " ")];
}

/** Returns a value of the settings of a trial as a text. */
export function setting(value) {
  if (value === null || value === undefined) return "–";
  if (typeof value === "boolean") return value ? "yes" : "no";
  if (Array.isArray(value)) return value.map(setting).join(", ") || "none";
  return typeof value === "number" ? plain(value) : String(value);
}
