/** Which axes are shown, the goals of the front, the trials that were chosen, and the files to take along. */

import { CHOSEN, el } from "./dom.js";
import { selectedRows } from "./bins.js";
import { ask } from "./live.js";
import { MOST } from "./compare.js";
import { name } from "./table.js";

const $ = (id) => document.getElementById(id);

export class Controls {
  constructor(board, actions, { rowOf, openRecord, compare }) {
    Object.assign(this, { board, actions, rowOf, openRecord, compare });
    $("clear").addEventListener("click", () => board.clear());
    $("csv").addEventListener("click", () => this._export("/api/export.csv", "trials.csv"));
    $("yaml").addEventListener("click", () => this._export("/api/export.yaml", "selection.yaml"));
    board.addEventListener("changed", ({ detail }) => this._changed(detail));
  }

  _changed(what) {
    if (what === "data" || what === "axes") this._axes();
    if (what === "data" || what === "goals") this._goals();
    if (what === "data" || what === "chosen") this._chosen();
    $("clear").disabled = !Object.keys(this.board.view.brushes).length;
  }

  _axes() {
    const place = document.querySelector("#choose-axes > div");
    if (place.contains(document.activeElement)) return;
    const { axes } = this.board.view;
    const toggle = (key) => (event) =>
      this.board.setAxes(event.target.checked ? [...this.board.view.axes, key] : this.board.view.axes.filter((one) => one !== key));
    place.replaceChildren(...this.board.table.columns.map((column) =>
      el("label", {}, el("input", { type: "checkbox", checked: axes.includes(column.key), onchange: toggle(column.key) }), ` ${column.title.replaceAll("_", " ")}`)));
  }

  _goals() {
    const { board } = this;
    const figures = board.table.columns.filter((column) => column.group === "figure");
    const choose = (n) => (event) => {
      const goals = [...board.view.goals];
      if (event.target.value) goals[n] = event.target.value;
      else goals.splice(n, 1);
      board.setGoals([...new Set(goals)]);
    };
    const words = ["up", "to the right", "colour"];
    $("goals").replaceChildren(...words.map((word, n) => {
      const none = n === 2 ? [el("option", { value: "" }, "none")] : [];
      const direction = (column) => (column.better === "lower" ? "less is better" : "more is better");
      const select = el("select", { onchange: choose(n), "data-goal": n }, ...none,
        ...figures.map((column) => el("option", { value: column.key, title: direction(column) }, column.title)));
      select.value = board.view.goals[n] ?? "";
      return el("label", {}, `${word} `, select);
    }));
  }

  async _chosen() {
    const { board } = this;
    const { chosen } = board.view;
    const rows = this.actions.chosenRows();
    const known = rows.every((row) => row >= 0) && rows.length ? await this.actions.texts(rows) : [];
    const items = known.map((texts, n) => {
      const swatch = el("span", { class: "swatch" });
      swatch.style.background = CHOSEN[n];
      const take = el("button", { type: "button", class: "small", "aria-label": `take ${name(texts)} away`, onclick: () => this.actions.choose(texts.trial) }, "×");
      return el("li", {}, swatch, el("button", { type: "button", class: "link", onclick: () => this.openRecord(texts.trial) }, name(texts)), take);
    });
    const go = el("button", { type: "button", id: "compare", disabled: chosen.length < 2, onclick: this.compare }, "Compare side by side");
    const hint = el("p", { class: "soft" }, `Tick two to ${MOST} trials in the table below.`);
    $("chosen").replaceChildren(chosen.length ? el("ul", {}, ...items) : hint, go);
  }

  async _export(path, filename) {
    $("export-said").textContent = "";
    try {
      const rows = selectedRows(this.board.failed, this.board.table.count).reverse();
      const answer = await ask(path, Uint32Array.from(rows));
      const link = el("a", { href: URL.createObjectURL(await answer.blob()), download: filename });
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 10000);
    } catch (error) {
      $("export-said").textContent = error.message;
    }
  }
}
