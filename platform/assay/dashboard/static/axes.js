/** The scale of one axis: where a value stands between its ends, and what stands at a place. Places run from 0 to 1. */

/** Returns the least and the greatest finite value; null where there is none. */
export function extent(values, count) {
  let low = Infinity;
  let high = -Infinity;
  for (let i = 0; i < count; i++) {
    const value = values[i];
    if (value < low && value > -Infinity) low = value;
    if (value > high && value < Infinity) high = value;
  }
  return low <= high ? [low, high] : null;
}

/** Whether an axis reads better in powers of ten: all values positive, over more than a factor of 40. */
export const prefersLog = (ends) => ends !== null && ends[0] > 0 && ends[1] / ends[0] >= 40;

/** Returns the scale of a column. `view` may say `log` and `flip`. */
export function scaleOf(column, count, view = {}) {
  if (column.kind === "category") return categories(column.names, view.flip);
  const ends = extent(column.values, count);
  const mayLog = ends !== null && ends[0] > 0;
  const log = mayLog && (view.log ?? (column.group !== "figure" && prefersLog(ends)));
  return numbers(ends ?? [0, 1], log, Boolean(view.flip), mayLog);
}

function numbers(ends, log, flip, mayLog) {
  const [from, to] = log ? ends.map(Math.log10) : ends;
  const width = to - from || 1;
  const pad = to === from ? 0.5 : 0;
  const place = (value) => {
    const at = ((log ? Math.log10(value) : value) - from) / width + pad;
    return flip ? 1 - at : at;
  };
  const value = (at) => {
    const linear = from + ((flip ? 1 - at : at) - pad) * width;
    return log ? 10 ** linear : linear;
  };
  const ticks = (log ? logTicks : niceTicks)(ends[0], ends[1]);
  const step = log || ticks.length < 2 ? 0 : ticks[1] - ticks[0];
  return { kind: "number", ends, log, flip, mayLog, place, value, step, ticks: ticks.map((tick) => ({ at: place(tick), value: tick })) };
}

/** Categories stand in the order of their names; numbers among them by size. */
function categories(names, flip) {
  const step = 1 / Math.max(1, names.length);
  const sorted = names.map((name, code) => ({ name, code })).sort((x, y) => inOrder.compare(x.name, y.name));
  const rank = new Float64Array(names.length);
  sorted.forEach((one, place) => (rank[one.code] = flip ? names.length - 1 - place : place));
  const place = (code) => (rank[code] + 0.5) * step;
  const value = (at) => {
    const nearest = Math.min(names.length - 1, Math.max(0, Math.floor(at / step)));
    return sorted[flip ? names.length - 1 - nearest : nearest]?.code ?? 0;
  };
  const every = Math.ceil(names.length / 16);
  const ticks = sorted.filter((_, n) => n % every === 0).map(({ name, code }) => ({ at: place(code), value: code, name }));
  return { kind: "category", names, log: false, flip: Boolean(flip), mayLog: false, place, value, ticks, step };
}

const inOrder = new Intl.Collator("en", { numeric: true });

/** Returns three to seven round numbers within two ends. */
export function niceTicks(low, high) {
  if (low === high) return [low];
  const rough = (high - low) / 5;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * [1, 2, 5, 10].find((factor) => power * factor >= rough * 0.999);
  const ticks = [];
  for (let n = Math.ceil(low / step - 1e-6); n * step <= high + step * 1e-6; n++) ticks.push(n * step);
  return ticks.length ? ticks : [low, high];
}

/** Returns powers of ten within two ends, with 2 and 5 between them where there are few. */
export function logTicks(low, high) {
  const within = (value) => value >= low * 0.999 && value <= high * 1.001;
  const first = Math.floor(Math.log10(low));
  const last = Math.ceil(Math.log10(high));
  const every = Math.ceil((last - first) / 7);
  const tens = [];
  for (let n = first; n <= last; n++) if ((n - first) % every === 0) tens.push(10 ** n);
  const ticks = tens.filter(within);
  if (ticks.length >= 3) return ticks;
  return tens.flatMap((ten) => [ten, 2 * ten, 5 * ten]).filter(within);
}
