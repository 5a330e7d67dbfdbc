/** Parallel coordinates: densities between the axes, single lines of what is hovered or chosen, axes on top. */

import { picture, rowOf, ROWS } from "./density.js";
import { MISSING, selectedRows } from "./bins.js";
import { beforeNextPicture, colours, el, svg } from "./dom.js";
import { AxisInput } from "./axis_input.js";
import { counted, tickText, titleLines } from "./format.js";

const MOST_LINES = 500;
const FEW = 250;
const HEAD = 66;
const EDGE = 62;
const NARROW = 92;

export class Parallel {
  constructor(board, root, actions) {
    Object.assign(this, { board, root, actions, hovered: -1, backs: [], fronts: [] });
    this.canvas = el("canvas", { "aria-hidden": "true" });
    this.overlay = svg("svg", { role: "group", "aria-label": "Axes; the same filters stand below as fields" });
    this.heads = el("div", { class: "heads" });
    this.plot = el("div", { class: "plot" }, this.canvas, this.overlay, this.heads);
    root.append(this.plot);
    this.input = new AxisInput(this);
    this.draw = beforeNextPicture(() => this._draw());
    this.overlay.addEventListener("pointermove", (event) => this._hover(event));
    this.overlay.addEventListener("pointerleave", () => this.hover(-1));
    this.overlay.addEventListener("click", () => this.hovered >= 0 && !this.input.dragged && actions.open(this.hovered));
    board.addEventListener("changed", ({ detail }) => this._changed(detail));
    new ResizeObserver(() => this._resize()).observe(root);
  }

  /** Marks one trial; -1 marks none. */
  hover(row) {
    if (row === this.hovered) return;
    this.hovered = row;
    this.draw();
    this.actions.hover(row);
  }

  /** Returns the x of an axis by its place among the shown ones. */
  x(place) {
    const { length } = this.board.view.axes;
    return length < 2 ? this.width / 2 : EDGE + (place * (this.width - 2 * EDGE)) / (length - 1);
  }

  /** Returns the y of a place on an axis, from 0 to 1. */
  y(at) {
    return HEAD + (1 - at) * 192 * this.unit;
  }

  /** Returns the place on an axis at a y. */
  at(y) {
    return Math.min(1, Math.max(0, 1 - (y - HEAD) / (192 * this.unit)));
  }

  get laneY() {
    return HEAD + rowOf(MISSING) * this.unit;
  }

  _changed(what) {
    if (what === "data" || what === "axes") {
      this._backs();
      this._axes();
    }
    if (what !== "sort") this.draw();
    if (what === "brush") this.input.showBrushes();
  }

  _resize() {
    const { length } = this.board.view.axes;
    this.width = Math.max(this.root.clientWidth, 2 * EDGE + (length - 1) * NARROW);
    this.unit = 1.6;
    this.height = HEAD + ROWS * this.unit + 10;
    const ratio = Math.min(2, window.devicePixelRatio || 1);
    this.canvas.width = this.width * ratio;
    this.canvas.height = this.height * ratio;
    this.ratio = ratio;
    for (const part of [this.plot, this.canvas, this.overlay]) {
      part.style.width = `${this.width}px`;
      part.style.height = `${this.height}px`;
    }
    this._axes();
    this.draw();
  }

  /** Draws the densities of all trials, which brushes do not change. */
  _backs() {
    const { all } = colours();
    this.backs = this.board.all.map((counts, n) => picture(counts, all, this.backs[n] ?? document.createElement("canvas")));
    this._resize();
  }

  /** Draws anew in the colours of the page, after these changed. */
  recolour() {
    this._backs();
    this.draw();
  }

  _draw() {
    const { board } = this;
    if (!this.width || !board.pairs.length) return;
    const look = colours();
    const context = this.canvas.getContext("2d");
    context.setTransform(this.ratio, 0, 0, this.ratio, 0, 0);
    context.clearRect(0, 0, this.width, this.height);
    const everything = board.kept === board.total;
    const some = board.kept > 0 && board.kept <= FEW;
    this.fronts = board.selected.map((counts, n) =>
      some ? null : picture(counts, look.kept, this.fronts[n] ?? document.createElement("canvas")));
    for (let n = 0; n < board.pairs.length; n++) {
      const box = [this.x(n), HEAD, this.x(n + 1) - this.x(n), ROWS * this.unit];
      if (!everything) context.drawImage(this.backs[n], ...box);
      if (this.fronts[n]) context.drawImage(this.fronts[n], ...box);
    }
    if (some) this._lines(context, selectedRows(board.failed, board.table.count, MOST_LINES), look.accent, 0.75, 1.2);
    this.actions.chosenRows().forEach((row, n) => row >= 0 && this._lines(context, [row], look.chosen[n], 1, 2.6));
    if (this.hovered >= 0) this._lines(context, [this.hovered], look.hover, 1, 2.6);
    this.drawn = performance.now();
    this.first ??= this.drawn;
    this.root.dataset.kept = board.kept;
  }

  /** Draws trials as lines, at their exact values. */
  _lines(context, rows, colour, alpha, width) {
    const { axes } = this.board.view;
    Object.assign(context, { strokeStyle: colour, globalAlpha: alpha, lineWidth: width, lineJoin: "round" });
    context.beginPath();
    for (const row of rows) {
      axes.forEach((key, n) => {
        const y = this.yOf(key, row);
        if (n) context.lineTo(this.x(n), y);
        else context.moveTo(this.x(n), y);
      });
    }
    context.stroke();
    context.globalAlpha = 1;
  }

  /** Returns the y of a trial on an axis. */
  yOf(key, row) {
    const value = this.board.column(key).values[row];
    const at = this.board.scale(key).place(value);
    return at - at === 0 ? this.y(at) : this.laneY;
  }

  /** Makes the axes anew: lines, ticks, titles, and what takes the mouse. */
  _axes() {
    const { axes } = this.board.view;
    if (!this.width || !axes.every((key) => this.board.scale(key))) return;
    this.overlay.replaceChildren();
    this.heads.replaceChildren();
    this.overlay.setAttribute("viewBox", `0 0 ${this.width} ${this.height}`);
    axes.forEach((key, n) => this._axis(key, n));
    this.input.showBrushes();
  }

  _axis(key, place) {
    const column = this.board.column(key);
    const scale = this.board.scale(key);
    const x = this.x(place);
    const last = place === this.board.view.axes.length - 1 && place > 0;
    const line = svg("line", { x1: x, x2: x, y1: this.y(1), y2: this.y(0), class: "axis" });
    const ticks = scale.ticks.map((tick) => {
      const label = svg("text", { x: x + (last ? 7 : -7), y: this.y(tick.at) + 4, class: `tick${last ? " last" : ""}` });
      const text = tick.name ?? tickText(tick.value, column.unit, scale.step);
      label.append(text.length > 14 ? `${text.slice(0, 13)}…` : text, svg("title", {}, text));
      return label;
    });
    const lane = svg("line", { x1: x - 8, x2: x + 8, y1: this.laneY, y2: this.laneY, class: "axis lane" });
    const none = svg("text", { x: x + (last ? 12 : -12), y: this.laneY + 4, class: `tick none${last ? " last" : ""}` }, "no value");
    const group = svg("g", { "data-axis": key }, line, ...ticks, lane, none);
    this.overlay.append(group);
    this.input.addAxis(group, key, x);
    this.heads.append(this._head(key, column, scale, x));
  }

  _head(key, column, scale, x) {
    const [above, name] = titleLines(column);
    const how = [scale.log ? "log" : "", scale.flip ? "flipped" : ""].filter(Boolean).join(", ");
    const title = el("button", {
      type: "button", class: "title", "aria-haspopup": "true", title: `${column.title}. ${column.meaning} Drag to move, click for more.`,
    }, el("span", { class: "above" }, above), el("span", { class: "name" }, name), el("span", { class: "how" }, how));
    const head = el("div", { class: "head", "data-axis": key }, title);
    head.style.left = `${x}px`;
    head.style.width = `${Math.min(140, (this.width - 2 * EDGE) / Math.max(1, this.board.view.axes.length - 1) - 6)}px`;
    this.input.addHead(head, title, key);
    return head;
  }

  /** Marks the selected trial whose line runs nearest to the mouse. */
  _hover(event) {
    if (this.input.dragging) return;
    const { left, top } = this.overlay.getBoundingClientRect();
    const [x, y] = [event.clientX - left, event.clientY - top];
    const { pairs } = this.board;
    const n = pairs.findIndex((_, place) => x >= this.x(place) && x <= this.x(place + 1));
    if (n < 0 || y < HEAD) return void this.hover(-1);
    this.hover(nearest(this.board, pairs[n], (x - this.x(n)) / (this.x(n + 1) - this.x(n)), (y - HEAD) / this.unit));
  }

  /** Says in words what is drawn. */
  get words() {
    return `${counted(this.board.kept, "trial")} of ${this.board.total.toLocaleString("en")} selected`;
  }
}

/** Returns the selected row whose line between two axes runs nearest to a point, at most some pixels away; else -1. */
function nearest(board, pair, share, row) {
  const rows = Float64Array.from({ length: 97 }, (_, cell) => rowOf(cell));
  let best = 5;
  let found = -1;
  for (let i = 0; i < board.table.count; i++) {
    if (board.failed[i] !== 0) continue;
    const gap = Math.abs(rows[pair.a[i]] * (1 - share) + rows[pair.b[i]] * share - row);
    if (gap < best) {
      best = gap;
      found = i;
    }
  }
  return found;
}
