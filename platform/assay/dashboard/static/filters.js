/** The same filters as on the axes, as fields: for the keyboard, for screen readers, and for exact numbers. */

import { el } from "./dom.js";
import { plain } from "./format.js";

export class Filters {
  constructor(board, root) {
    Object.assign(this, { board, root, fields: new Map() });
    board.addEventListener("changed", ({ detail }) => {
      if (detail === "data" || detail === "axes") this._make();
      if (detail === "brush") this._show();
    });
  }

  /** Makes a group of fields for each shown axis, unless somebody is typing in one. */
  _make() {
    if (this.root.contains(document.activeElement) && this._same()) return this._show();
    this.fields.clear();
    this.root.replaceChildren(...this.board.view.axes.map((key) => this._group(key)));
    this._show();
    return undefined;
  }

  _same() {
    return this.board.view.axes.join() === [...this.fields.keys()].join();
  }

  _group(key) {
    const column = this.board.column(key);
    const missing = el("input", { type: "checkbox", onchange: () => this._take(key) });
    const inside = column.kind === "category" ? this._names(key, column) : this._ends(key, column);
    this.fields.set(key, { ...inside, missing });
    const clear = el("button", { type: "button", class: "small", onclick: () => this.board.setBrush(key, null) }, "Clear");
    return el("fieldset", { "data-filter": key }, el("legend", {}, column.title.replaceAll("_", " ")), inside.box,
      el("label", { class: "missing" }, missing, " also those without a value"), clear);
  }

  _ends(key, column) {
    const field = (word) =>
      el("input", { type: "number", step: "any", "aria-label": `${column.title}, ${word}`, onchange: () => this._take(key) });
    const [low, high] = [field("at least"), field("at most")];
    return { low, high, box: el("div", { class: "ends" }, el("label", {}, "from ", low), el("label", {}, "to ", high)) };
  }

  _names(key, column) {
    const names = el("select", { multiple: "", size: Math.min(5, Math.max(2, column.names.length)), "aria-label": `${column.title}, any of`, onchange: () => this._take(key) },
      ...column.names.map((name) => el("option", { value: name }, name)));
    return { names, box: names };
  }

  /** Takes what the fields of an axis say as its brush. */
  _take(key) {
    const { low, high, names, missing } = this.fields.get(key);
    const brush = missing.checked ? { missing: true } : {};
    if (names) {
      const chosen = [...names.selectedOptions].map((option) => option.value);
      if (chosen.length) brush.names = chosen;
    } else if (low.value !== "" || high.value !== "") {
      const ends = this.board.scale(key).ends;
      brush.range = [low.value === "" ? ends[0] : Number(low.value), high.value === "" ? ends[1] : Number(high.value)];
    }
    this.board.setBrush(key, Object.keys(brush).length ? brush : null);
  }

  /** Shows the brushes in the fields. */
  _show() {
    for (const [key, { low, high, names, missing }] of this.fields) {
      const brush = this.board.view.brushes[key];
      missing.checked = Boolean(brush?.missing);
      if (names) for (const option of names.options) option.selected = Boolean(brush?.names?.includes(option.value));
      else {
        const ends = this.board.scale(key).ends;
        [low.placeholder, high.placeholder] = ends.map(plain);
        [low.value, high.value] = brush?.range ?? ["", ""];
      }
      low?.closest("fieldset").classList.toggle("active", Boolean(brush));
      names?.closest("fieldset").classList.toggle("active", Boolean(brush));
    }
  }
}
