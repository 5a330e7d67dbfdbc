/** The trials, the view of them, and what follows from both: cells, selection, counts, front. Views listen to `changed`. */

import { extent, scaleOf } from "./axes.js";
import { addRows, applyBrush, cellsOf, changedRows, GONE, MOST_BRUSHES, pairsOf, rowsWithout, severalNames, SIDE } from "./bins.js";
import { front, inOrder } from "./pareto.js";

const FIRST_AXES = 12;
const FEW_NAMES = 40;

export class Board extends EventTarget {
  constructor(table, view) {
    super();
    Object.assign(this, { table, view, scales: new Map(), cells: new Map(), pairs: [], bits: new Map() });
    this.failed = new Int32Array(0);
    this.all = [];
    this.selected = [];
    this.kept = 0;
    this.total = 0;
    this.front = [];
    /** Whether the selected trials are of several data sets. */
    this.mixed = false;
    this.order = null;
  }

  /** Makes everything anew after rows came or changed. */
  refresh() {
    const { table, view } = this;
    const known = (key) => table.column(key) !== undefined;
    view.axes = view.axes.filter(known);
    if (!view.axes.length) view.axes = this.defaultAxes();
    view.goals = view.goals.filter(known);
    if (view.goals.length < 2) view.goals = this.defaultGoals();
    this.failed = new Int32Array(table.count);
    this.was = new Uint8Array(table.count);
    // One place more: rows are listed without a branch, so one that is not kept is written too.
    [this.came, this.went] = [new Uint32Array(table.count + 1), new Uint32Array(table.count + 1)];
    this.bits.clear();
    this._leaveOutGone();
    for (const column of table.columns) this._scale(column);
    for (const key of Object.keys(view.brushes)) this._brush(key);
    this._pair();
    this._order();
    this._count();
    this._tell("data");
  }

  /** Sets the brush of an axis; null clears it. */
  setBrush(key, brush) {
    if (brush) this.view.brushes[key] = brush;
    else delete this.view.brushes[key];
    this._brush(key);
    this._count();
    this._tell("brush");
  }

  /** Clears all brushes. */
  clear() {
    const keys = Object.keys(this.view.brushes);
    this.view.brushes = {};
    keys.forEach((key) => this._brush(key));
    this._count();
    this._tell("brush");
  }

  /** Changes which axes are shown, and in which order. */
  setAxes(axes) {
    this.view.axes = axes;
    this._pair();
    this._count();
    this._tell("axes");
  }

  /** Turns an axis upside down, or makes its scale one of powers of ten. */
  setScale(key, { flip, log }) {
    const { view, table } = this;
    if (flip !== undefined) view.flip = flip ? [...view.flip, key] : view.flip.filter((one) => one !== key);
    if (log !== undefined) view.log[key] = log;
    this._scale(table.column(key));
    this._pair();
    this._count();
    this._tell("axes");
  }

  /** Sets the two or three goals of the front. */
  setGoals(goals) {
    this.view.goals = goals;
    this._order();
    this._count();
    this._tell("goals");
  }

  /** Sets the trials that were chosen, by their ids. */
  setChosen(chosen) {
    this.view.chosen = chosen;
    this._tell("chosen");
  }

  /** Sets by which column the table is sorted: its key, with a minus where the greatest come first. */
  setSort(sort) {
    this.view.sort = sort;
    this._tell("sort");
  }

  scale(key) {
    return this.scales.get(key);
  }

  column(key) {
    return this.table.column(key);
  }

  /** Whether a row is selected. */
  isSelected(row) {
    return this.failed[row] === 0;
  }

  /** What names the trials where that varies, settings with several values, then figures that any trial has. */
  defaultAxes() {
    const { columns, count } = this.table;
    const several = (one) => (one.kind === "category" ? one.names.length > 1 : extent(one.values, count)?.reduce((low, high) => high > low));
    const settings = columns.filter((one) => one.group === "setting" && one.key !== "seed" && several(one));
    const named = columns.filter((one) => ["study", "cohort"].includes(one.key) || (one.key === "recipe" && one.names.length <= FEW_NAMES));
    const figures = this._headlines();
    const room = FIRST_AXES - figures.length - named.length;
    return [...named, ...settings.slice(0, Math.max(2, room)), ...figures].map((one) => one.key);
  }

  defaultGoals() {
    const figures = this._headlines().map((one) => one.key);
    const wanted = ["accuracy", figures.find((key) => key.startsWith("worst_case")), "epsilon", "training_seconds", ...figures];
    return [...new Set(wanted.filter((key) => key && figures.includes(key)))].slice(0, 2);
  }

  _headlines() {
    const columns = this.table.columns.filter((one) => one.group === "figure");
    const worst = columns.filter((one) => one.key.startsWith("worst_case"));
    const middle = worst[Math.floor(worst.length / 2)];
    return columns.filter(
      (one) => ["accuracy", "epsilon", "training_seconds"].includes(one.key) || one === middle,
    );
  }

  _leaveOutGone() {
    const state = this.table.column("state");
    const gone = state.names.indexOf("gone");
    if (gone >= 0) for (let i = 0; i < this.table.count; i++) if (state.values[i] === gone) this.failed[i] |= GONE;
  }

  _scale(column) {
    const { table, view } = this;
    const look = { flip: view.flip.includes(column.key), log: view.log[column.key] };
    this.scales.set(column.key, scaleOf(column, table.count, look));
    this.cells.delete(column.key);
  }

  _cells(key) {
    if (!this.cells.has(key)) {
      const { values } = this.table.column(key);
      this.cells.set(key, cellsOf(values, this.table.count, this.scales.get(key)));
    }
    return this.cells.get(key);
  }

  _brush(key) {
    const column = this.table.column(key);
    if (!column) return;
    const brush = this.view.brushes[key];
    if (!this.bits.has(key)) {
      if (!brush || this.bits.size >= MOST_BRUSHES) return;
      this.bits.set(key, [...Array(MOST_BRUSHES).keys()].find((bit) => ![...this.bits.values()].includes(bit)));
    }
    applyBrush(this.failed, this.bits.get(key), column.values, this.table.count, brush && resolved(brush, column));
    if (!brush) this.bits.delete(key);
  }

  _pair() {
    const { axes } = this.view;
    const before = new Map(this.pairs.map((pair) => [pair.name, pair]));
    this.pairs = axes.slice(1).map((right, n) => {
      const [a, b] = [this._cells(axes[n]), this._cells(right)];
      const name = `${axes[n]} ${right}`;
      const known = before.get(name);
      if (known && known.a === a && known.b === b) return known;
      return { name, a, b, index: pairsOf(a, b, this.table.count) };
    });
    const indices = this.pairs.map((pair) => pair.index);
    this.all = this.pairs.map(() => new Uint32Array(SIDE * SIDE));
    this.selected = this.pairs.map(() => new Uint32Array(SIDE * SIDE));
    this.total = rowsWithout(this.failed, GONE, this.table.count, this.came);
    addRows(this.came, this.total, indices, this.all);
    this.was.fill(0);
    this.kept = 0;
  }

  _order() {
    const { table, view } = this;
    this.goals = view.goals.map((key) => {
      const column = table.column(key);
      return { key, column, values: column.values, sign: column.better === "lower" ? -1 : 1 };
    });
    this.order = this.goals.length < 2 ? null : inOrder(this.goals, table.count);
  }

  /** Counts the selected rows anew: only those that came or went since the last time. */
  _count() {
    const indices = this.pairs.map((pair) => pair.index);
    const [plus, minus] = changedRows(this.failed, this.was, this.table.count, this.came, this.went);
    addRows(this.came, plus, indices, this.selected);
    addRows(this.went, minus, indices, this.selected, -1);
    this.kept += plus - minus;
    this.mixed = severalNames(this.table.column("dataset"), this.failed, this.table.count);
    this.front = this.order && !this.mixed ? front(this.order, this.failed) : [];
  }

  _tell(what) {
    this.dispatchEvent(new CustomEvent("changed", { detail: what }));
  }
}

/** Returns a brush with the codes of its names. */
function resolved(brush, column) {
  if (!brush.names) return brush;
  return { ...brush, allowed: Uint8Array.from(column.names, (name) => (brush.names.includes(name) ? 1 : 0)) };
}
