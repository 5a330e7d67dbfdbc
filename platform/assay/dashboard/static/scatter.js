/** The trade-off of two goals: every trial as a dot, the Pareto front with its intervals, a third goal as colour. */

import { beforeNextPicture, colours, el } from "./dom.js";
import { tickText } from "./format.js";
import { extent, prefersLog, scaleOf } from "./axes.js";
import { GONE, selectedRows } from "./bins.js";

const [LEFT, RIGHT, TOP, BOTTOM] = [92, 16, 14, 76];
const LANE = 26;
const DOTS = 3000;
const MOST_FRONT = 500;
const SEVERAL = "No front: the selected trials are of several data sets, whose figures cannot be compared. Filter to one, such as on the axis Cohort.";

export class Scatter {
  constructor(board, root, actions) {
    Object.assign(this, { board, root, actions, intervals: new Map(), hovered: -1 });
    this.canvas = el("canvas", { role: "img", tabindex: "-1" });
    this.note = el("p", { class: "soft hint", role: "status" });
    root.append(this.note, this.canvas);
    this.picture = document.createElement("canvas");
    this.draw = beforeNextPicture(() => this._draw());
    board.addEventListener("changed", ({ detail }) => {
      if (detail === "data" || detail === "goals" || detail === "axes") this._arrange();
      this.draw();
    });
    this.canvas.addEventListener("pointermove", (event) => actions.hover(this._under(event)));
    this.canvas.addEventListener("pointerleave", () => actions.hover(-1));
    this.canvas.addEventListener("click", (event) => {
      const row = this._under(event);
      if (row >= 0) actions.open(row);
    });
    new ResizeObserver(() => this._resize()).observe(root);
  }

  hover(row) {
    this.hovered = row;
    this.draw();
  }

  _resize() {
    this.width = this.root.clientWidth;
    this.height = 360;
    this.ratio = Math.min(2, window.devicePixelRatio || 1);
    this.canvas.width = this.width * this.ratio;
    this.canvas.height = this.height * this.ratio;
    this.canvas.style.width = `${this.width}px`;
    this.canvas.style.height = `${this.height}px`;
    this._arrange();
    this.draw();
  }

  /** Finds where each trial stands: the first goal upward, the second to the right. */
  _arrange() {
    const { goals, table } = this.board;
    if (!this.width || !goals || goals.length < 2) return;
    const { log } = this.board.view;
    this.up = scaleOf(goals[0].column, table.count, { log: log[goals[0].key] });
    this.along = scaleOf(goals[1].column, table.count, { log: log[goals[1].key] });
    const { count } = table;
    this.xs = new Uint16Array(count);
    this.ys = new Uint16Array(count);
    for (let i = 0; i < count; i++) {
      this.xs[i] = this._x(goals[1].values[i]);
      this.ys[i] = this._y(goals[0].values[i]);
    }
  }

  _x(value) {
    const at = this.along.place(value);
    return at - at === 0 ? LEFT + 8 + at * (this.width - LEFT - RIGHT - 16) : LEFT - LANE / 2;
  }

  _y(value) {
    const at = this.up.place(value);
    return at - at === 0 ? TOP + 8 + (1 - at) * (this.height - TOP - BOTTOM - 16) : this.height - BOTTOM + LANE / 2;
  }

  _draw() {
    const { board } = this;
    if (!this.width || !this.xs || board.goals.length < 2) return;
    const look = colours();
    const context = this.canvas.getContext("2d");
    context.setTransform(this.ratio, 0, 0, this.ratio, 0, 0);
    context.clearRect(0, 0, this.width, this.height);
    this._frame(context, look);
    this._dots(context, look);
    this._front(context, look);
    board.table.count && this.actions.chosenRows().forEach((row, n) => this._ring(context, row, look.chosen[n]));
    this._ring(context, this.hovered, look.hover);
    this.note.textContent = board.mixed ? SEVERAL : "";
    this.canvas.setAttribute("aria-label", this.words);
  }

  get words() {
    const [up, along] = this.board.goals.map((goal) => goal.column.title);
    return `${up} against ${along}: ${this.board.front.length} of ${this.board.kept} selected trials are on the Pareto front`;
  }

  /** All trials faintly, the selected ones strongly; many trials as the number in each pixel. */
  _dots(context, look) {
    const { failed, table, kept } = this.board;
    const { width, height } = this;
    const image = context.createImageData(width, height);
    const pixels = new Uint32Array(image.data.buffer);
    const counts = (this.counts = this.counts?.length === pixels.length ? this.counts.fill(0) : new Uint16Array(pixels.length));
    const [faint, strong] = [look.all, look.kept].map(([r, g, b]) => (b << 16) | (g << 8) | r);
    const few = kept <= DOTS;
    for (let i = 0; i < table.count; i++) {
      const bits = failed[i];
      const at = this.ys[i] * width + this.xs[i];
      if (bits === 0) {
        if (counts[at] < 60000) counts[at]++;
      } else if ((bits & GONE) === 0) pixels[at] = (110 << 24) | faint;
    }
    for (let i = 0; i < counts.length; i++) {
      if (counts[i]) pixels[i] = (Math.min(255, 130 + 40 * Math.log2(counts[i])) << 24) | strong;
    }
    this.picture.width = width;
    this.picture.height = height;
    this.picture.getContext("2d").putImageData(image, 0, 0);
    context.drawImage(this.picture, 0, 0);
    if (few) this._circles(context, look);
  }

  /** The selected trials as circles, where they are few. */
  _circles(context, look) {
    context.beginPath();
    for (const row of selectedRows(this.board.failed, this.board.table.count)) {
      context.moveTo(this.xs[row] + 3, this.ys[row]);
      context.arc(this.xs[row], this.ys[row], 3, 0, 7);
    }
    Object.assign(context, { fillStyle: look.accent, globalAlpha: 0.6 });
    context.fill();
    context.globalAlpha = 1;
  }

  _front(context, look) {
    const { goals, front } = this.board;
    const shown = front.length > MOST_FRONT ? front.filter((_, n) => n % Math.ceil(front.length / MOST_FRONT) === 0) : front;
    const tint = goals[2] ? this._tint(goals[2], shown) : null;
    this.actions.intervals(shown, (found) => {
      this.intervals = found;
      this.draw();
    });
    context.save();
    context.beginPath();
    context.rect(LEFT, TOP, this.width - LEFT - RIGHT, this.height - TOP - BOTTOM);
    context.clip();
    for (const row of shown) this._whiskers(context, row, look);
    context.restore();
    for (const row of shown) {
      const [x, y] = [this.xs[row], this.ys[row]];
      context.beginPath();
      context.arc(x, y, 4.5, 0, 7);
      context.fillStyle = tint ? tint(row) : look.front;
      context.fill();
      Object.assign(context, { strokeStyle: look.page, lineWidth: 1 });
      context.stroke();
    }
  }

  /** The intervals of one trial of the front. */
  _whiskers(context, row, look) {
    const { goals } = this.board;
    const [x, y] = [this.xs[row], this.ys[row]];
    const ends = this.intervals.get(row) ?? {};
    Object.assign(context, { strokeStyle: look.front, lineWidth: 1, globalAlpha: 0.55 });
    this._interval(context, ends[goals[1].key], (end) => [this._x(end), y]);
    this._interval(context, ends[goals[0].key], (end) => [x, this._y(end)]);
  }

  _interval(context, ends, at) {
    if (!ends) return;
    context.beginPath();
    context.moveTo(...at(ends[0]));
    context.lineTo(...at(ends[1]));
    context.stroke();
  }

  /** Returns the colour of a trial by the third goal: from dark blue to yellow, as cividis. */
  _tint(goal, rows) {
    const { table, view } = this.board;
    const log = view.log[goal.key] ?? prefersLog(extent(goal.values, table.count));
    const scale = scaleOf(goal.column, table.count, { log });
    return (row) => {
      const at = scale.place(goal.values[row]);
      return at - at === 0 ? cividis(at) : "#888888";
    };
  }

  _ring(context, row, colour) {
    if (row === undefined || row < 0 || !this.xs || row >= this.xs.length) return;
    context.beginPath();
    context.arc(this.xs[row], this.ys[row], 7, 0, 7);
    Object.assign(context, { strokeStyle: colour, lineWidth: 2.5 });
    context.stroke();
  }

  _frame(context, look) {
    const { width, height } = this;
    const [up, along, third] = this.board.goals.map((goal) => goal);
    Object.assign(context, { font: "12px system-ui, sans-serif", fillStyle: look.soft, strokeStyle: look.line, lineWidth: 1 });
    context.strokeRect(LEFT + 0.5, TOP + 0.5, width - LEFT - RIGHT, height - TOP - BOTTOM);
    context.textAlign = "right";
    for (const tick of this.up.ticks) context.fillText(tickText(tick.value, up.column.unit, this.up.step), LEFT - LANE - 4, this._y(tick.value) + 4);
    context.textAlign = "center";
    const room = Math.max(1, Math.ceil((this.along.ticks.length * 64) / (width - LEFT - RIGHT)));
    this.along.ticks.forEach((tick, n) => n % room || context.fillText(tickText(tick.value, along.column.unit, this.along.step), this._x(tick.value), height - BOTTOM + LANE + 14));
    context.fillText("no value", LEFT - LANE / 2 - 20, height - BOTTOM + LANE / 2 + 4);
    context.fillStyle = look.ink;
    const colour = third ? ` · colour of the front: ${third.column.title}, dark is low, yellow is high` : "";
    context.fillText(along.column.title + colour, LEFT + (width - LEFT - RIGHT) / 2, height - 14);
    context.save();
    context.translate(13, TOP + (height - TOP - BOTTOM) / 2);
    context.rotate(-Math.PI / 2);
    context.fillText(up.column.title, 0, 0);
    context.restore();
  }

  /** Returns the selected trial next to the mouse, or −1. */
  _under(event) {
    if (!this.xs) return -1;
    const { left, top } = this.canvas.getBoundingClientRect();
    const [x, y] = [event.clientX - left, event.clientY - top];
    let best = 64;
    let found = -1;
    for (let i = 0; i < this.xs.length; i++) {
      if (this.board.failed[i] !== 0) continue;
      const gap = (this.xs[i] - x) ** 2 + (this.ys[i] - y) ** 2;
      if (gap < best) {
        best = gap;
        found = i;
      }
    }
    return found;
  }
}

const STOPS = [[0, 34, 78], [66, 78, 108], [125, 124, 120], [190, 175, 111], [254, 232, 56]];

function cividis(at) {
  const scaled = Math.min(0.999, Math.max(0, at)) * (STOPS.length - 1);
  const n = Math.floor(scaled);
  const mixed = STOPS[n].map((from, k) => Math.round(from + (STOPS[n + 1][k] - from) * (scaled - n)));
  return `rgb(${mixed.join(",")})`;
}
