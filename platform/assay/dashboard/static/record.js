/** The record of one trial, in a dialog: settings, measurements, checks, figures, files. */

import { el } from "./dom.js";
import { counted, number, plain, seconds, setting } from "./format.js";
import { drawFigure } from "./plots.js";

const MARKS = { pass: "✓", warn: "▲", fail: "✖" };

/** Returns the content of a trial's record. */
export function recordOf(record, actions) {
  const facts = [
    record.study, record.cohort, `fold ${record.fold}`, record.seconds ? seconds(record.seconds) : "",
    `measured on the ${record.tested} records`, `trial ${record.trial}`,
  ].filter(Boolean);
  const figures = el("div", { class: "figures" });
  const draw = el("button", { type: "button", onclick: () => showFigures(figures, draw, record, actions) }, "Draw the figures of this trial");
  return [
    el("p", { class: "facts" }, facts.join(" · ")),
    record.error.length ? el("p", { class: "notice fail", role: "alert" }, `This trial failed: ${record.error[0]}`) : null,
    record.why_withheld ? el("p", { class: "notice" }, `${counted(record.withheld, "figure")} withheld. ${record.why_withheld}`) : null,
    el("h3", {}, "Settings"), settings(record.settings),
    el("h3", {}, "Measurements"), measurements(record.measurements),
    record.checks.length ? el("h3", {}, "Checks") : null, checks(record.checks),
    el("h3", {}, "Figures"), draw, figures,
    el("h3", {}, "Files"), files(record),
  ].filter(Boolean);
}

function settings(list) {
  const rows = list.flatMap(({ key, value }) => [el("dt", {}, key.replaceAll("_", " ")), el("dd", {}, setting(value))]);
  return el("dl", { class: "settings" }, ...rows);
}

function measurements(rows) {
  if (!rows.length) return el("p", {}, "None.");
  const heads = ["Measurement", "Value", "95 % interval", "n", "Conditions", "Notes"];
  return el("div", { class: "scroll" }, el("table", {},
    el("thead", {}, el("tr", {}, ...heads.map((head) => el("th", { scope: "col" }, head)))),
    el("tbody", {}, ...rows.map(measurement))));
}

function measurement(row) {
  const interval = row.low === null ? "" : `${number(row.low, row.unit)} to ${number(row.high, row.unit)}`;
  const value = row.status === "measured" ? number(row.value, row.unit) : row.status.replaceAll("_", " ");
  const conditions = Object.entries(row.conditions).map(([key, told]) => `${key.replaceAll("_", " ")} ${setting(told)}`);
  const flags = row.flags.map((flag) => el("span", { class: `flag ${flag.verdict}` }, `${MARKS[flag.verdict] ?? ""} ${flag.message}`));
  const notes = row.warnings.map((text) => el("span", { class: "note" }, text));
  return el("tr", {}, el("th", { scope: "row" }, row.name.replaceAll("_", " ")), el("td", { class: "number" }, value),
    el("td", { class: "number" }, interval), el("td", { class: "number" }, row.n === null ? "" : plain(row.n)),
    el("td", { class: "words" }, conditions.join(", ")), el("td", { class: "words" }, ...flags, ...notes));
}

function checks(list) {
  if (!list.length) return null;
  return el("ul", { class: "checks" }, ...list.map((check) =>
    el("li", { class: check.verdict }, el("b", {}, `${MARKS[check.verdict] ?? ""} ${check.rule.replaceAll("_", " ")}`), ` ${check.message}`)));
}

function files(record) {
  const size = (bytes) => (bytes < 1e6 ? `${Math.ceil(bytes / 1000)} kB` : `${(bytes / 1e6).toFixed(1)} MB`);
  return el("div", {}, el("p", { class: "soft" }, `In ${record.location}. Models are not sent to browsers; jobs.ledger releases them.`),
    el("ul", { class: "files" }, ...record.files.map((file) => el("li", {}, el("code", {}, file.name), ` ${size(file.bytes)}`))));
}

async function showFigures(place, button, record, actions) {
  button.disabled = true;
  button.textContent = "Drawing; the first time takes some seconds …";
  try {
    const { figures, why } = await actions.figures(record.trial);
    button.remove();
    for (const one of figures) {
      const box = el("div", { class: "figure" });
      place.append(el("h4", {}, one.title), box);
      await drawFigure(box, one.figure, one.title);
    }
    if (why || !figures.length) place.append(el("p", { class: "soft" }, why || "No section of the report draws one trial of this kind."));
  } catch (error) {
    button.disabled = false;
    button.textContent = "Try again";
    place.replaceChildren(el("p", { class: "notice fail" }, error.message));
  }
}
