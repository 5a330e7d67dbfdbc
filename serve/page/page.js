/** The page: chooses a model and a record, asks the model, and shows the whole answer. */

import { aboutForm } from "./about.js";
import { panelsOf } from "./answer.js";
import { el, percent } from "./dom.js";
import { explanationPanel } from "./explanation.js";
import { formOf } from "./form.js";

const KEY = "assay-token";
const page = Object.fromEntries(["model", "version", "card", "use", "said", "access", "token", "error", "ask", "sample", "explain", "certify",
  "send", "why-none", "record", "whom", "answer", "stale", "panels"].map((id) => [id, document.getElementById(id)]));
let facts = null;
let form = null;
let about = null;
let asked = 0;

/** An error that the server has answered. */
class RefusedError extends Error {
  constructor(status, text) {
    super(text);
    this.status = status;
  }
}

/** Calls the server; its errors have the text that it sent. */
async function call(path, body) {
  const token = sessionStorage.getItem(KEY);
  const headers = { ...(token ? { authorization: `Bearer ${token}` } : {}), ...(body ? { "content-type": "application/json" } : {}) };
  let answer;
  try {
    answer = await fetch(path, { method: body ? "POST" : "GET", headers, body: body && JSON.stringify(body), cache: "no-store" });
  } catch {
    throw new Error("the server does not answer; see whether it still runs");
  }
  const content = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new RefusedError(answer.status, content.error ?? `the server answered with status ${answer.status}`);
  return content;
}

function failed(error) {
  page.error.hidden = false;
  page.error.textContent = error instanceof RefusedError ? `✕ The server refused this (status ${error.status}): ${error.message}` : `✕ ${error.message}`;
  page.access.hidden = error.status !== 401;
}

const path = (base) => {
  const other = page.version.value && page.version.value !== facts?.versions[0];
  return `${base}/models/${encodeURIComponent(page.model.value)}${other ? `/versions/${encodeURIComponent(page.version.value)}` : ""}`;
};

/** Shows a model: its versions, its form and its samples. */
async function showModel() {
  page.error.hidden = true;
  delete document.body.dataset.ready;
  facts = await call(path("page"));
  page.version.replaceChildren(...facts.versions.map((one) => el("option", { value: one }, one)));
  page.version.value = facts.model_version;
  page.card.href = `${path("v1")}/card?html=true`;
  page.use.textContent = facts.about;
  form = formOf(facts, changed);
  page.record.replaceChildren(form.element);
  about = aboutForm(facts.criteria, changed);
  page.whom.replaceChildren(about.element ?? "");
  const titles = facts.samples.map((one, place) => el("option", { value: place }, one.title));
  if (!titles.length) titles.push(el("option", { value: "" }, "an empty record"));
  page.sample.replaceChildren(...titles);
  page["why-none"].textContent = facts.why_no_test_records && `No test records are offered: ${facts.why_no_test_records}.`;
  page.panels.replaceChildren(el("p", { class: "soft" }, "Choose or change a record, then ask."));
  page.stale.hidden = true;
  showSample();
  document.body.dataset.ready = page.model.value;
}

function showSample() {
  const sample = facts.samples[page.sample.value];
  if (sample) form.fill(sample.record);
  changed();
}

/** Marks an answer that is shown as one about other values. */
function changed() {
  asked += 1;
  page.stale.hidden = page.panels.querySelector(".panel") === null;
}

async function ask() {
  page.error.hidden = true;
  const instance = form.read();
  const view = form.view();
  const own = (asked += 1);
  const body = { instances: [instance], explain: page.explain.checked, certify: page.certify.checked };
  if (facts.modality === "image" && body.explain) body.overlay = true;
  const given = about.read();
  if (given) body.about = given;
  page.send.disabled = true;
  page.send.textContent = "Asking …";
  page.answer.setAttribute("aria-busy", "true");
  try {
    const whole = await call(`${path("v1")}:answer`, body);
    show(whole, view);
    page.stale.hidden = own === asked;
  } finally {
    page.send.disabled = false;
    page.send.textContent = "Ask the model";
    page.answer.removeAttribute("aria-busy");
  }
}

function show(whole, view) {
  const [answer] = whole.answers;
  const panels = panelsOf(answer, whole, facts);
  const why = explanationPanel(answer.explanation, whole.explanation, facts, view);
  page.panels.replaceChildren(el("div", { class: "column" }, panels.decision, panels.certificate), el("div", { class: "column" }, why, panels.limits, panels.origin));
  page.said.textContent = `Answer: ${answer.class_name}, ${percent(answer.probabilities[answer.class_name])}${answer.left_to_clinician.left ? ", left to the clinician" : ""}`;
  const narrow = page.answer.getBoundingClientRect().top > window.innerHeight / 2;
  if (narrow) page.answer.scrollIntoView();
}

function tried(act) {
  return (event) => {
    event?.preventDefault();
    Promise.resolve().then(act).catch(failed);
  };
}

async function start() {
  const given = new URLSearchParams(location.hash.slice(1)).get("token");
  if (given) {
    sessionStorage.setItem(KEY, given);
    history.replaceState(null, "", location.pathname + location.search);
  }
  const { models } = await call("v1/models");
  if (!models.length) throw new Error("this server has no model");
  page.model.replaceChildren(...models.map((name) => el("option", { value: name }, name)));
  await showModel();
}

page.model.addEventListener("change", tried(() => { page.version.replaceChildren(); return showModel(); }));
page.version.addEventListener("change", tried(showModel));
page.sample.addEventListener("change", tried(showSample));
// A file takes the place of the sample, which can then be chosen again.
page.record.addEventListener("change", (event) => { if (event.target.type === "file") page.sample.selectedIndex = -1; });
page.ask.addEventListener("submit", tried(ask));
page.access.addEventListener("submit", tried(() => { sessionStorage.setItem(KEY, page.token.value); page.access.hidden = true; return start(); }));
tried(start)();
