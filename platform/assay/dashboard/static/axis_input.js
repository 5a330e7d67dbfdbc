/** What the mouse does to axes: brush along them, move them by their titles, and a menu at each title. */

import { beforeNextPicture, svg } from "./dom.js";
import { menuOf } from "./axis_menu.js";

const REACH = 14;
const GRIP = 7;

export class AxisInput {
  constructor(parallel) {
    Object.assign(this, { parallel, board: parallel.board, dragging: null, dragged: false, shown: new Map() });
    this._apply = beforeNextPicture((key, brush) => this.board.setBrush(key, brush));
    window.addEventListener("pointermove", (event) => this.dragging?.move(event));
    window.addEventListener("pointerup", () => this._release());
  }

  /** Adds what takes the mouse on one axis. */
  addAxis(group, key, x) {
    const { parallel } = this;
    const [top, bottom] = [parallel.y(1), parallel.y(0)];
    const area = svg("rect", { x: x - REACH, width: 2 * REACH, y: top - 6, height: bottom - top + 12, class: "area", "data-brush": key });
    const boxes = svg("g", { class: "boxes" });
    const lane = svg("rect", { x: x - REACH, width: 2 * REACH, y: parallel.laneY - 9, height: 18, class: "area lane", "data-none": key });
    area.addEventListener("pointerdown", (event) => this._press(event, key));
    area.addEventListener("pointermove", (event) => (area.style.cursor = this._cursor(event, key)));
    lane.addEventListener("click", (event) => this._toggleMissing(event, key));
    group.append(boxes, area, lane);
    this.shown.set(key, { boxes, lane, x });
  }

  /** Draws the brushes where they are now. */
  showBrushes() {
    const { parallel, board } = this;
    for (const [key, { boxes, lane, x }] of this.shown) {
      if (!boxes.isConnected) continue;
      const brush = board.view.brushes[key];
      const drawn = this._spans(key, brush).map(([from, to]) => {
        const [y1, y2] = [parallel.y(Math.max(from, to)), parallel.y(Math.min(from, to))];
        return svg("rect", { x: x - 7, width: 14, y: y1, height: Math.max(3, y2 - y1), class: "brush", rx: 3 });
      });
      boxes.replaceChildren(...drawn);
      lane.classList.toggle("kept", Boolean(brush?.missing));
      lane.classList.toggle("left-out", Boolean(brush && !brush.missing));
    }
  }

  /** Returns the spans of a brush as places on its axis. */
  _spans(key, brush) {
    const scale = this.board.scale(key);
    if (!brush || !scale) return [];
    if (brush.range) return [brush.range.map((value) => Math.min(1, Math.max(0, scale.place(value))))];
    const half = (scale.step ?? 0) / 2;
    return (brush.names ?? []).map((name) => {
      const at = scale.place(scale.names.indexOf(name));
      return [at - half, at + half];
    });
  }

  _place(event) {
    return this.parallel.at(event.clientY - this.parallel.overlay.getBoundingClientRect().top);
  }

  /** Returns which part of a brush is under the mouse: an end, its inside, or nothing. */
  _part(event, key) {
    const brush = this.board.view.brushes[key];
    if (!brush?.range) return null;
    const y = event.clientY - this.parallel.overlay.getBoundingClientRect().top;
    const [[from, to]] = this._spans(key, brush);
    const ends = [from, to].sort((a, b) => a - b);
    const [low, high] = ends.map((at) => this.parallel.y(at));
    if (Math.abs(y - low) <= GRIP) return { part: "end", fixed: ends[1] };
    if (Math.abs(y - high) <= GRIP) return { part: "end", fixed: ends[0] };
    return y < low && y > high ? { part: "inside", ends } : null;
  }

  _cursor(event, key) {
    const part = this._part(event, key)?.part;
    return part === "end" ? "ns-resize" : part === "inside" ? "grab" : "crosshair";
  }

  _press(event, key) {
    if (event.button) return;
    event.preventDefault();
    const start = this._place(event);
    const grip = this._part(event, key);
    this.dragged = false;
    const move = (later) => {
      const at = this._place(later);
      if (!this.dragged && Math.abs(at - start) < 0.008) return;
      this.dragged = true;
      if (grip?.part === "inside") {
        const by = Math.min(1 - grip.ends[1], Math.max(-grip.ends[0], at - start));
        this._set(key, grip.ends[0] + by, grip.ends[1] + by);
      } else this._set(key, grip ? grip.fixed : start, at);
    };
    const end = () => this.dragged || this.board.setBrush(key, null);
    this.dragging = { move, end };
  }

  _release() {
    const { dragging } = this;
    this.dragging = null;
    dragging?.end();
    // The click that follows a drag must not open a trial.
    if (dragging) setTimeout(() => (this.dragged = false));
  }

  /** Sets the brush of an axis between two places. */
  _set(key, from, to) {
    const scale = this.board.scale(key);
    const missing = this.board.view.brushes[key]?.missing;
    const kept = missing ? { missing } : {};
    if (scale.kind === "category") {
      const [low, high] = [from, to].sort((a, b) => a - b);
      const names = scale.names.filter((_, code) => {
        const at = scale.place(code);
        return at + scale.step / 2 > low && at - scale.step / 2 < high;
      });
      return this._apply(key, { ...kept, names });
    }
    // At the very ends of the axis, rounding must not leave out the trial that made the end.
    const ends = [from, to].map((at) => (at <= 0 || at >= 1 ? scale.ends[(at >= 1) === scale.flip ? 0 : 1] : scale.value(at)));
    return this._apply(key, { ...kept, range: ends.map(Number).sort((a, b) => a - b).map(rounded) });
  }

  _toggleMissing(event, key) {
    event.stopPropagation();
    const brush = { ...this.board.view.brushes[key] };
    if (brush.missing) delete brush.missing;
    else brush.missing = true;
    this.board.setBrush(key, Object.keys(brush).length ? brush : null);
  }

  /** Lets a title be dragged to another place, and opens its menu at a click. */
  addHead(head, title, key) {
    title.addEventListener("pointerdown", (event) => {
      if (event.button) return;
      const start = event.clientX;
      let moved = false;
      const move = (later) => {
        const by = later.clientX - start;
        moved ||= Math.abs(by) > 6;
        if (moved) head.style.transform = `translate(calc(-50% + ${by}px), 0)`;
      };
      const end = () => {
        const last = head.getBoundingClientRect();
        head.style.transform = "";
        if (moved) this._moveTo(key, (last.left + last.right) / 2);
        head.dataset.moved = moved ? "1" : "";
      };
      this.dragging = { move, end };
    });
    title.addEventListener("click", () => {
      if (head.dataset.moved) delete head.dataset.moved;
      else menuOf(this.board, key, title);
    });
  }

  /** Moves an axis to where a screen position lies among the others. */
  _moveTo(key, clientX) {
    const x = clientX - this.parallel.overlay.getBoundingClientRect().left;
    const others = this.board.view.axes.filter((one) => one !== key);
    const places = this.board.view.axes.map((one, n) => [one, this.parallel.x(n)]).filter(([one]) => one !== key);
    const before = places.findIndex(([, at]) => at > x);
    others.splice(before < 0 ? others.length : before, 0, key);
    this.board.setAxes(others);
  }
}

const rounded = (value) => Number(value.toPrecision(6));

