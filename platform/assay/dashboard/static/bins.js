/** Cells of axes, the brushes on them, and counts of the cells of neighbouring axes. Pure functions over typed arrays. */

/** Cells along an axis; one more is the place of trials without a value. */
export const CELLS = 96;
export const MISSING = CELLS;
export const SIDE = CELLS + 1;

/** Returns the cell of each row on an axis: 0 to 95 from its lower end, 96 without a value. */
export function cellsOf(values, count, scale, into = new Uint8Array(count)) {
  if (scale.kind === "category") {
    const cells = scale.names.map((_, code) => bounded(Math.floor(scale.place(code) * CELLS)));
    for (let i = 0; i < count; i++) into[i] = values[i] === values[i] ? cells[values[i]] : MISSING;
    return into;
  }
  const { start, factor, log } = straight(scale);
  for (let i = 0; i < count; i++) {
    const at = start + factor * (log ? Math.log10(values[i]) : values[i]);
    // NaN and infinity have no place on the axis.
    into[i] = at - at === 0 ? bounded(Math.floor(at)) : MISSING;
  }
  return into;
}

const bounded = (cell) => (cell < 0 ? 0 : cell > CELLS - 1 ? CELLS - 1 : cell);

/** Returns a scale as a straight line from values, or their logarithms, to cells: faster than a call for each value. */
function straight(scale) {
  const [low, high] = scale.log ? scale.ends.map(Math.log10) : scale.ends;
  const other = high === low ? low + 1 : high;
  const at = (value) => scale.place(scale.log ? 10 ** value : value) * CELLS;
  const factor = (at(other) - at(low)) / (other - low);
  return { start: at(low) - factor * low, factor, log: scale.log };
}

/** Returns the index of each row's pair of cells in the counts of two neighbouring axes. */
export function pairsOf(left, right, count, into = new Uint16Array(count)) {
  for (let i = 0; i < count; i++) into[i] = left[i] * SIDE + right[i];
  return into;
}

/** Bit of the rows that are no trial any more. The others are of brushes. */
export const GONE = 1 << 30;
export const MOST_BRUSHES = 30;

/**
 * Sets or clears one bit of each row: set where the row fails a brush. No brush fails nobody.
 * A brush has a `range` of numbers or the `allowed` codes of categories, and `missing` if rows without a value pass.
 */
export function applyBrush(failed, bit, values, count, brush) {
  const flag = 1 << bit;
  const keep = ~flag;
  if (!brush) {
    for (let i = 0; i < count; i++) failed[i] &= keep;
    return;
  }
  const missing = Boolean(brush.missing);
  if (brush.allowed) {
    for (let i = 0; i < count; i++) {
      const passes = values[i] === values[i] ? brush.allowed[values[i]] === 1 : missing;
      failed[i] = passes ? failed[i] & keep : failed[i] | flag;
    }
    return;
  }
  // Values are float32, so the ends are compared as such: 0.3 is within 0.1 to 0.3.
  const [low, high] = (brush.range ?? [1, 0]).map(Math.fround);
  for (let i = 0; i < count; i++) {
    const value = values[i];
    const passes = value - value === 0 ? value >= low && value <= high : missing;
    failed[i] = passes ? failed[i] & keep : failed[i] | flag;
  }
}

/** Returns how many rows have none of the bits of a mask, with their numbers at the start of an array. */
export function rowsWithout(failed, mask, count, into) {
  let kept = 0;
  // Without a branch: rows pass at random, and a processor would guess wrong at every second one.
  for (let i = 0; i < count; i++) {
    into[kept] = i;
    kept += (failed[i] & mask) === 0 ? 1 : 0;
  }
  return kept;
}

/** Adds some rows to the counts of all pairs of axes, or takes them away again. */
export function addRows(rows, length, pairs, counts, by = 1) {
  for (let p = 0; p < pairs.length; p++) {
    const pair = pairs[p];
    const own = counts[p];
    for (let n = 0; n < length; n++) own[pair[rows[n]]] += by;
  }
}

/** Compares which rows are selected with what is noted of before, and notes it anew: lists those that came and went. */
export function changedRows(failed, was, count, came, went) {
  let [plus, minus] = [0, 0];
  for (let i = 0; i < count; i++) {
    const now = failed[i] === 0 ? 1 : 0;
    const before = was[i];
    came[plus] = i;
    plus += now & (before ^ 1);
    went[minus] = i;
    minus += before & (now ^ 1);
    was[i] = now;
  }
  return [plus, minus];
}

/** Returns the rows that fail nothing, at most `most` of them, the latest first. */
export function selectedRows(failed, count, most = Infinity) {
  const rows = [];
  for (let i = count - 1; i >= 0 && rows.length < most; i--) if (failed[i] === 0) rows.push(i);
  return rows;
}

/** Returns whether the selected trials have several names in a column: figures of different data sets have no front. */
export function severalNames(column, failed, count) {
  let first = -1;
  for (let i = 0; column && i < count; i++) {
    if (failed[i] !== 0) continue;
    if (first < 0) first = column.values[i];
    else if (column.values[i] !== first) return true;
  }
  return false;
}
