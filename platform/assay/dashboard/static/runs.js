/** The folders of results: how far each job is, what runs, what failed, and the time left. */

import { el } from "./dom.js";
import { counted, seconds } from "./format.js";

const WORDS = { running: "running", ended: "ended", stopped: "stopped: no sign of its job" };

export class Runs {
  constructor(root) {
    this.root = root;
  }

  /** Shows the state of every folder. */
  show(folders) {
    document.getElementById("where").textContent = counted(folders.length, "folder") + " of results";
    const none = el("p", { class: "soft" }, "No results yet. This page shows them as soon as a study or a sweep writes some.");
    this.root.replaceChildren(...(folders.length ? folders.map(run) : [none]));
  }
}

function run({ name, kind, location, problem, counts, progress }) {
  const done = counts.done ?? 0;
  const failed = counts.failed ?? 0;
  const state = progress?.state;
  const head = el("p", {}, el("b", { title: location }, name), el("span", { class: "tag" }, kind),
    state ? el("span", { class: `tag ${state}` }, WORDS[state]) : null);
  const total = Math.max(progress?.total ?? 0, done + failed);
  const bar = state && state !== "ended" ? el("progress", { max: total, value: done + failed, "aria-label": `${done + failed} of ${total} trials` }) : null;
  const left = state === "running" && progress.seconds_left !== null && progress.seconds_left > 0 ? ` · about ${seconds(progress.seconds_left)} left` : "";
  const numbers = el("p", {}, state && state !== "ended" ? `${(done + failed).toLocaleString("en")} of ${counted(total, "trial")}` : counted(done + failed, "trial"),
    failed ? el("span", { class: "failed" }, ` · ${failed} failed`) : null, left);
  const under = state === "running" && progress.running.length ? el("p", {}, `Under way: ${progress.running.slice(0, 4).join("; ")}${progress.running.length > 4 ? ` and ${progress.running.length - 4} more` : ""}`) : null;
  const said = state === "running" && progress.said ? el("p", {}, progress.said) : null;
  const wrong = problem ? el("p", { class: "failed" }, problem) : null;
  return el("div", { class: "run" }, head, bar, numbers, under, said, wrong);
}
