/** Up to six trials side by side, in a dialog. */

import { CHOSEN, el } from "./dom.js";
import { number, setting } from "./format.js";

export const MOST = 6;

/** Returns the content of a comparison. */
export function comparisonOf(compared) {
  const { trials } = compared;
  const heads = trials.map((trial, n) => {
    const swatch = el("span", { class: "swatch" });
    swatch.style.background = CHOSEN[n];
    return el("th", { scope: "col" }, swatch, `${trial.recipe_name} · fold ${trial.fold}`, el("span", { class: "range" }, trial.study));
  });
  const head = (title) => el("thead", {}, el("tr", {}, el("th", { scope: "col" }, title), ...heads.map((one) => one.cloneNode(true))));
  const settings = compared.settings.map((row) =>
    el("tr", {}, el("th", { scope: "row" }, row.key.replaceAll("_", " ")), ...row.values.map((value) => el("td", {}, setting(value)))));
  const figures = compared.figures.map((row) => el("tr", {}, el("th", { scope: "row" }, row.name), ...row.values.map(cell)));
  const none = el("p", {}, "They differ in no setting.");
  return [
    el("h3", {}, "Is the difference more than chance?"), ...tests(compared),
    el("h3", {}, "Settings in which they differ"),
    settings.length ? el("div", { class: "scroll" }, el("table", {}, head("Setting"), el("tbody", {}, ...settings))) : none,
    el("h3", {}, "Measurements"),
    el("div", { class: "scroll" }, el("table", {}, head("Measurement"), el("tbody", {}, ...figures))),
  ];
}

function cell(found) {
  if (!found) return el("td", { class: "absent" }, "not measured");
  if (found.status !== "measured") return el("td", { class: "absent" }, found.status.replaceAll("_", " "));
  const interval = found.low === null ? null : el("span", { class: "range" }, `${number(found.low, found.unit)} to ${number(found.high, found.unit)}`);
  return el("td", { class: "number" }, number(found.value, found.unit), found.flags ? " ▲" : "", interval);
}

function tests(compared) {
  if (!compared.tests.length) return [el("p", { class: "notice", id: "no-test" }, compared.why)];
  const about = `Recipes of this study, paired by fold or seed. You could have picked any two of its recipes, so each p is multiplied by ${compared.pairs}, the number of all pairs.`;
  const heads = ["Figure", "Recipe", "against", "Difference", "95 % interval", "p, corrected", "Verdict"];
  const unit = (test) => (test.shown === "percent" ? "share" : test.shown === "seconds" ? "seconds" : "");
  const rows = compared.tests.map((test) => el("tr", {}, el("th", { scope: "row" }, test.figure), el("td", {}, test.recipe), el("td", {}, test.against),
    el("td", { class: "number" }, number(test.difference, unit(test))),
    el("td", { class: "number" }, `${number(test.low, unit(test))} to ${number(test.high, unit(test))}`),
    el("td", { class: "number" }, test.p === null ? "–" : test.p < 0.001 ? "< 0.001" : test.p.toFixed(3)), el("td", {}, test.verdict)));
  return [el("p", { class: "soft" }, about), el("div", { class: "scroll" }, el("table", {},
    el("thead", {}, el("tr", {}, ...heads.map((head) => el("th", { scope: "col" }, head)))), el("tbody", {}, ...rows)))];
}
