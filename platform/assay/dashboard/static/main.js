/** Starts the page: joins the trials, the view in the address, and the views of both. */

import { Board } from "./board.js";
import { comparisonOf, MOST } from "./compare.js";
import { Table } from "./data.js";
import { announce, beforeNextPicture, el } from "./dom.js";
import { Filters } from "./filters.js";
import { counted, plain, setting, shown } from "./format.js";
import { ask, Live } from "./live.js";
import { Parallel } from "./parallel.js";
import { recordOf } from "./record.js";
import { Runs } from "./runs.js";
import { Scatter } from "./scatter.js";
import { fromHash, toHash } from "./state.js";
import { name, TrialTable } from "./table.js";
import { Controls } from "./controls.js";

const $ = (id) => document.getElementById(id);
const table = new Table();
const board = new Board(table, fromHash(location.hash));
const rowOf = new Map();
const asked = new Map();
const uint32 = (rows) => Uint32Array.from(rows);

const actions = {
  async texts(rows) {
    const found = await (await ask("/api/rows", uint32(rows))).json();
    for (const one of found) rowOf.set(one.trial, one.row);
    return found;
  },
  hover(row) {
    parallel.hover(row);
    scatter.hover(row);
    tip(row);
  },
  async open(row) {
    const [texts] = await actions.texts([row]);
    openRecord(texts.trial);
  },
  choose(trial) {
    const { chosen } = board.view;
    const others = chosen.filter((one) => one !== trial);
    if (others.length === chosen.length && chosen.length >= MOST) {
      announce(`At most ${MOST} trials are compared; take one away first.`);
      board.setChosen(chosen);
    } else board.setChosen(others.length < chosen.length ? others : [...chosen, trial]);
  },
  chosenRows: () => board.view.chosen.map((trial) => rowOf.get(trial) ?? -1),
  figures: async (trial) => (await ask(`/api/trials/${encodeURIComponent(trial)}/figures`)).json(),
  intervals,
};

const parallel = new Parallel(board, $("parallel"), actions);
const scatter = new Scatter(board, $("scatter"), actions);
const trials = new TrialTable(board, $("table"), actions);
new Filters(board, document.querySelector("#fields .filters"));
const runs = new Runs($("runs"));
new Controls(board, actions, { rowOf, openRecord, compare });

/** Keeps the view in the address, so that it can be reloaded and shared. */
const keep = beforeNextPicture(() => history.replaceState(null, "", `${location.pathname}#${toHash(board.view)}`));

board.addEventListener("changed", () => {
  $("kept").textContent = parallel.words;
  keep();
});
document.addEventListener("theme", () => {
  parallel.recolour();
  scatter.draw();
});

/** Asks for the intervals of some trials, once for each, and hands them over by row. */
const intervalsLater = beforeNextPicture(async (rows, done) => {
  const unknown = rows.filter((row) => !asked.has(row)).slice(0, 500);
  if (!unknown.length || intervalsLater.busy) return;
  intervalsLater.busy = true;
  try {
    const found = await (await ask("/api/intervals", uint32(unknown))).json();
    unknown.forEach((row, n) => asked.set(row, found.intervals[n]));
    done(asked);
  } finally {
    intervalsLater.busy = false;
  }
});

function intervals(rows, done) {
  if (rows.some((row) => !asked.has(row))) {
    clearTimeout(intervals.timer);
    intervals.timer = setTimeout(() => intervalsLater(rows, done), 250);
  }
}

/** Shows the values of the trial under the mouse. */
function tip(row) {
  const place = $("tip");
  place.hidden = row < 0;
  if (row < 0) return;
  const lines = board.view.axes.map((key) => board.column(key)).flatMap((column) =>
    [el("dt", {}, column.title.replaceAll("_", " ")), el("dd", {}, shown(column, column.values[row]))]);
  place.replaceChildren(el("dl", {}, ...lines));
}

function dialog(title, content, open) {
  const box = $("record");
  $("record-title").textContent = title;
  box.querySelector(".content").replaceChildren(...content);
  if (!box.open) box.showModal();
  box.scrollTop = 0;
  board.view.open = open;
  keep();
}

$("record").addEventListener("close", () => {
  board.view.open = "";
  keep();
});
$("record").querySelector(".close").addEventListener("click", () => $("record").close());

async function openRecord(trial) {
  dialog("Trial", [el("p", {}, "Reading …")], trial);
  try {
    const record = await (await ask(`/api/trials/${encodeURIComponent(trial)}`)).json();
    dialog(name(record), recordOf(record, actions), trial);
  } catch (error) {
    dialog("Trial", [el("p", { class: "notice fail" }, error.message)], trial);
  }
}

async function compare() {
  const { chosen } = board.view;
  dialog("Comparison", [el("p", {}, "Reading …")], "compare");
  try {
    const compared = await (await ask(`/api/compare?trials=${chosen.map(encodeURIComponent).join(",")}`)).json();
    dialog(`Comparison of ${counted(chosen.length, "trial")}`, comparisonOf(compared), "compare");
  } catch (error) {
    dialog("Comparison", [el("p", { class: "notice fail" }, error.message)], "compare");
  }
}

const words = { live: "● live", away: "○ the server does not answer; trying again", locked: "○ open the address that the server printed now" };
const live = new Live(table, {
  take(buffer) {
    const { rows, anew, added } = table.take(buffer);
    if (anew) {
      rowOf.clear();
      asked.clear();
      trials.texts.clear();
    }
    trials.forget(rows);
    for (const row of rows) asked.delete(row);
    board.refresh();
    showSame();
    if (!anew && added) announce(counted(added, "new trial"));
    document.body.dataset.version = table.version;
  },
  overview: (folders) => runs.show(folders),
  state(what) {
    $("connection").className = what;
    $("connection").textContent = words[what];
  },
});

/** Lists what is the same in all trials, and columns with too many names for an axis. */
function showSame() {
  const same = Object.entries(table.constants).map(([key, value]) => `${key.replaceAll("_", " ")} ${typeof value === "number" ? plain(value) : setting(value)}`);
  const details = el("details", {}, el("summary", {}, `${counted(same.length, "setting")} the same in all trials`), same.join(" · "));
  const crowded = table.crowded.length ? el("span", {}, `Too many names for an axis: ${table.crowded.join(", ")}.`) : null;
  $("same").replaceChildren(...[same.length ? details : null, crowded].filter(Boolean));
}

/** Finds the rows of the trials that the address names, and opens what it says is open. */
async function restore() {
  const { chosen, open } = board.view;
  if (chosen.length) {
    const found = await (await ask(`/api/find?ids=${chosen.map(encodeURIComponent).join(",")}`)).json();
    for (const one of found) rowOf.set(one.trial, one.row);
    board.setChosen(chosen.filter((trial) => rowOf.has(trial)));
  }
  if (open === "compare" && board.view.chosen.length > 1) await compare();
  else if (open && open !== "compare") await openRecord(open);
}

if (new URLSearchParams(location.search).has("token")) history.replaceState(null, "", `/${location.hash}`);
await live.start();
await restore();
document.body.dataset.ready = "1";
window.assay = { board, parallel, scatter, trials };
