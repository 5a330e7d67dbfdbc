/** The Pareto front of two or three goals, in O(n log n): sorted once, then one pass a selection. Pure functions. */

/** Returns the rows in order of a goal, the best first; rows without a value are left out. `sign` is 1 where more is better. */
export function orderBy(values, count, sign) {
  // A float32 as a whole number that sorts alike, with its row in the lower bits: one native sort of numbers.
  const bits = 21;
  const ints = new Int32Array(values.buffer, values.byteOffset, count);
  const keys = new Float64Array(count);
  let known = 0;
  for (let i = 0; i < count; i++) {
    const value = values[i];
    if (value !== value) continue;
    const raw = value === 0 ? 0 : ints[i];
    const ordered = raw >= 0 ? raw : -2147483648 - raw;
    keys[known++] = (sign > 0 ? -ordered : ordered) * 2 ** bits + i;
  }
  const sorted = keys.subarray(0, known).sort();
  const rows = new Uint32Array(known);
  for (let i = 0; i < known; i++) rows[i] = ((sorted[i] % 2 ** bits) + 2 ** bits) % 2 ** bits;
  return rows;
}

/** Returns goals in the order of the first, for `front`: rows, and the values of each, higher where better. */
export function inOrder(goals, count) {
  const rows = orderBy(goals[0].values, count, goals[0].sign);
  const values = goals.map((goal) => {
    const sorted = new Float32Array(rows.length);
    // An ε of ∞ is the worst there is, and still a value: it must compare as one.
    for (let i = 0; i < rows.length; i++) sorted[i] = Math.max(-3e38, goal.values[rows[i]] * goal.sign);
    return sorted;
  });
  return { rows, values };
}

/**
 * Returns the rows of which no other selected row is better in one goal and as good in all others.
 * `order` is of two or three goals; `failed[row]` is 0 for a selected row.
 */
export function front(order, failed) {
  const [first, second, third] = order.values;
  return third ? frontOfThree(order.rows, first, second, third, failed) : frontOfTwo(order.rows, first, second, failed);
}

function frontOfTwo(rows, first, second, failed) {
  const found = [];
  let best = -Infinity;
  for (let start = 0, end = 0; start < rows.length; start = end) {
    // Rows that are equal in the first goal are judged together.
    const value = first[start];
    let group = best;
    let candidates = [];
    for (end = start; end < rows.length && first[end] === value; end++) {
      const b = second[end];
      // Most rows end here, before it is looked up whether they are selected.
      if (!(b > best && b >= group) || failed[rows[end]] !== 0) continue;
      if (b > group) candidates = [];
      group = b;
      candidates.push(rows[end]);
    }
    found.push(...candidates);
    best = group;
  }
  return found;
}

function frontOfThree(rows, first, second, third, failed) {
  const found = [];
  const stairs = new Stairs();
  for (let start = 0, end = 0; start < rows.length; start = end) {
    const value = first[start];
    const candidates = [];
    for (end = start; end < rows.length && first[end] === value; end++) {
      const [b, c] = [second[end], third[end]];
      if (b !== b || c !== c || stairs.covers(b, c) || failed[rows[end]] !== 0) continue;
      candidates.push([b, c, rows[end]]);
    }
    for (const [b, c, row] of within(candidates)) {
      found.push(row);
      stairs.add(b, c);
    }
  }
  return found;
}

/** Returns those of some candidates that no other of them is better than, in the last two goals. */
function within(candidates) {
  candidates.sort((x, y) => y[0] - x[0] || y[1] - x[1]);
  const kept = [];
  let best = -Infinity;
  let bestAt = NaN;
  for (const candidate of candidates) {
    const [b, c] = candidate;
    if (c > best) {
      best = c;
      bestAt = b;
      kept.push(candidate);
    } else if (c === best && b === bestAt) kept.push(candidate);
  }
  return kept;
}

/** Pairs of which none is better than another in both: the first rising, the second falling. */
class Stairs {
  constructor() {
    this.b = [];
    this.c = [];
  }

  /** Returns the first step with at least this b. */
  _at(b) {
    let low = 0;
    let high = this.b.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.b[middle] >= b) high = middle;
      else low = middle + 1;
    }
    return low;
  }

  /** Whether a step is at least as good in both. */
  covers(b, c) {
    const at = this._at(b);
    return at < this.b.length && this.c[at] >= c;
  }

  add(b, c) {
    const at = this._at(b);
    if (at < this.b.length && this.c[at] >= c) return;
    let from = at;
    while (from > 0 && this.c[from - 1] <= c) from--;
    const same = at < this.b.length && this.b[at] === b ? 1 : 0;
    this.b.splice(from, at + same - from, b);
    this.c.splice(from, at + same - from, c);
  }
}
