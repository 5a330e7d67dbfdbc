/** The Pareto front of two or three goals, in O(n log n). Pure functions over typed arrays. */

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

/**
 * Returns the rows of which no other selected row is better in one goal and as good in all others.
 * `goals` are two or three of `{values, sign}`; `order` is `orderBy` of the first; `failed[row]` is 0 for a selected row.
 */
export function front(goals, order, failed) {
  const [first, second, third] = goals;
  const stairs = third ? new Stairs() : null;
  let best = -Infinity;
  const found = [];
  for (let start = 0; start < order.length; ) {
    const value = first.values[order[start]];
    let end = start;
    let candidates = [];
    let groupBest = best;
    // Rows that are equal in the first goal are judged together.
    for (; end < order.length && first.values[order[end]] === value; end++) {
      const row = order[end];
      if (failed[row] !== 0) continue;
      const b = second.values[row] * second.sign;
      if (b !== b) continue;
      if (third) {
        const c = third.values[row] * third.sign;
        if (c === c && !stairs.covers(b, c)) candidates.push([b, c, row]);
      } else if (b > best && b >= groupBest) {
        if (b > groupBest) candidates = [];
        groupBest = b;
        candidates.push([b, 0, row]);
      }
    }
    if (third) candidates = within(candidates);
    for (const [b, c, row] of candidates) {
      found.push(row);
      if (third) stairs.add(b, c);
    }
    best = groupBest;
    start = end;
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
