/** The table of the selected trials. Only the rows in sight are in the page, whatever their number. */

import { orderBy } from "./pareto.js";
import { beforeNextPicture, el } from "./dom.js";
import { shown } from "./format.js";

const HEIGHT = 34;
const SPARE = 6;

export class TrialTable {
  constructor(board, root, actions) {
    Object.assign(this, { board, root, actions, rows: [], next: 0, texts: new Map(), order: null });
    this.head = el("tr", { "aria-rowindex": 1 });
    this.body = el("tbody");
    this.above = el("tbody", { "aria-hidden": "true" }, el("tr", {}, el("td")));
    this.below = el("tbody", { "aria-hidden": "true" }, el("tr", {}, el("td")));
    const caption = el("caption", { class: "unseen" }, "Selected trials. Column titles sort; the first column chooses trials to compare.");
    this.table = el("table", {}, caption, el("thead", {}, this.head), this.above, this.body, this.below);
    root.append(this.table);
    this.draw = beforeNextPicture(() => this._draw());
    this.sorted = beforeNextPicture(() => this._sort());
    root.addEventListener("scroll", this.draw);
    board.addEventListener("changed", ({ detail }) => this._changed(detail));
  }

  _changed(what) {
    if (what === "data" || what === "sort") this.order = null;
    if (what === "data" || what === "axes" || what === "sort") this._titles();
    if (what === "chosen") this.draw();
    else this.sorted();
  }

  get columns() {
    return this.board.view.axes.map((key) => this.board.column(key));
  }

  _titles() {
    const { sort } = this.board.view;
    const key = sort.replace(/^-/, "");
    const title = (column) => {
      const own = column.key === key;
      const direction = own ? (sort.startsWith("-") ? "descending" : "ascending") : "none";
      const turn = () => this.board.setSort(own && !sort.startsWith("-") ? `-${column.key}` : column.key);
      const arrow = own ? (sort.startsWith("-") ? " ↓" : " ↑") : "";
      return el("th", { scope: "col", "aria-sort": direction },
        el("button", { type: "button", onclick: turn, title: column.title }, `${column.title.replaceAll("_", " ")}${arrow}`));
    };
    this.head.replaceChildren(el("th", { scope: "col" }, el("span", { class: "unseen" }, "Compare")),
      el("th", { scope: "col" }, "Trial"), el("th", { scope: "col" }, "State"), ...this.columns.map(title));
  }

  /** Sorts anew by the column that the view names; without one, the latest trials come first. */
  _sort() {
    const { board } = this;
    const { sort } = board.view;
    const column = board.column(sort.replace(/^-/, ""));
    const { count } = board.table;
    if (!this.order) this.order = column ? withRest(column.values, count, sort.startsWith("-") ? 1 : -1) : null;
    this.rows = [];
    this.next = 0;
    this.table.setAttribute("aria-rowcount", board.kept + 1);
    this._draw();
  }

  /** Finds the selected rows in order, as many as are in sight and no more: a brush must not wait for the others. */
  _find(most) {
    const { failed, table } = this.board;
    const { order, rows } = this;
    const end = order ? order.length : table.count;
    for (; this.next < end && rows.length < most; this.next++) {
      const row = order ? order[this.next] : end - 1 - this.next;
      if (failed[row] === 0) rows.push(row);
    }
  }

  _draw() {
    const first = Math.max(0, Math.floor(this.root.scrollTop / HEIGHT) - SPARE);
    const sight = Math.ceil(this.root.clientHeight / HEIGHT) + 2 * SPARE;
    this._find(first + sight);
    const rows = this.rows.slice(first, first + sight);
    const focused = this.body.contains(document.activeElement) ? document.activeElement.dataset.focus : null;
    this.above.hidden = first === 0;
    this.above.firstChild.firstChild.style.height = `${first * HEIGHT}px`;
    this.below.firstChild.firstChild.style.height = `${Math.max(0, this.board.kept - first - rows.length) * HEIGHT}px`;
    this.body.replaceChildren(...rows.map((row, n) => this._row(row, first + n + 2)));
    if (focused) this.body.querySelector(`[data-focus="${focused}"]`)?.focus();
    const unknown = rows.filter((row) => !this.texts.has(row));
    if (unknown.length) this._ask(unknown);
  }

  _row(row, index) {
    const texts = this.texts.get(row);
    const chosen = texts && this.board.view.chosen.includes(texts.trial);
    const choose = el("input", { type: "checkbox", checked: Boolean(chosen), disabled: !texts, "data-focus": `c${row}`,
      "aria-label": `compare ${texts?.recipe ?? ""}`, onchange: () => this.actions.choose(texts.trial) });
    const open = el("button", { type: "button", class: "link", disabled: !texts, "data-focus": `o${row}`, onclick: () => this.actions.open(row) }, texts ? name(texts) : "…");
    const failed = texts?.state === "failed";
    const state = el("td", { class: failed ? "failed" : "", title: texts?.error || null }, failed ? `failed: ${texts.error}` : (texts?.state ?? ""));
    const cells = this.columns.map((column) =>
      el("td", { class: column.kind === "number" ? "number" : "" }, shown(column, column.values[row])));
    return el("tr", { "aria-rowindex": index, "data-row": row, class: chosen ? "chosen" : "", onmouseenter: () => this.actions.hover(row), onmouseleave: () => this.actions.hover(-1) },
      el("td", {}, choose), el("th", { scope: "row", title: texts ? name(texts) : null }, open), state, ...cells);
  }

  /** Asks for the names of rows, some at a time; scrolling on asks for others. */
  async _ask(rows) {
    if (this.asking) return;
    this.asking = true;
    try {
      for (const texts of await this.actions.texts(rows)) this.texts.set(texts.row, texts);
    } finally {
      this.asking = false;
    }
    this.draw();
  }

  /** Forgets the names of rows that changed. */
  forget(rows) {
    for (const row of rows) this.texts.delete(row);
  }
}

/** Returns rows in order of their values, those without one last. */
function withRest(values, count, sign) {
  const known = orderBy(values, count, sign);
  const rows = new Uint32Array(count);
  rows.set(known);
  let n = known.length;
  for (let i = 0; i < count; i++) if (values[i] !== values[i]) rows[n++] = i;
  return rows;
}

/** Returns the name of a trial: its recipe, and its fold and repeat where these say something. */
export function name(texts) {
  const repeat = texts.repeat > 1 ? ` · repeat ${texts.repeat}` : "";
  return `${texts.recipe ?? texts.trial}${texts.fold ? ` · fold ${texts.fold}` : ""}${repeat}`;
}
