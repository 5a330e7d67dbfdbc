/** Panels of an answer: class, probabilities, set, abstention, certificate, limits and origin. */

import { el, number, percent } from "./dom.js";

/** Returns the panels of one answer, without its explanation. */
export function panelsOf(answer, whole, facts) {
  return {
    decision: decision(answer, whole),
    certificate: certificate(answer, whole),
    limits: limits(answer, whole),
    origin: origin(whole, facts),
  };
}

/** Returns a panel with a title. */
export function panel(title, name, ...children) {
  return el("section", { class: `panel ${name}`, "aria-labelledby": `title-${name}` }, el("h3", { id: `title-${name}` }, title), ...children);
}

function decision(answer, whole) {
  const unfamiliar = answer.out_of_distribution;
  return panel("Class", "decision",
    el("p", { class: "class" }, answer.class_name),
    left(answer.left_to_clinician),
    el("h4", {}, "Probabilities"),
    bars(answer.probabilities), threshold(answer.decided_at),
    el("p", { class: "soft" }, `They are ${answer.probabilities_are} (${whole.calibrated_on}).`),
    el("h4", {}, "Prediction set"), set(answer.prediction_set),
    el("h4", {}, "Familiarity"),
    state(unfamiliar.unfamiliar === null ? "unknown" : unfamiliar.unfamiliar ? "warn" : "good",
      unfamiliar.unfamiliar === null ? "Not measured" : unfamiliar.unfamiliar ? "Unfamiliar record" : "Familiar record", unfamiliar.why),
    el("p", { class: "soft" }, `Out-of-distribution score ${number(unfamiliar.score)}`,
      unfamiliar.limit === null ? "." : `; 99\u00a0% of the held-out records score at or below ${number(unfamiliar.limit)}.`));
}

/** Returns the threshold of the decision, on the scale of the probabilities above it. */
function threshold(point) {
  if (!point) return null;
  return el("p", { class: "threshold" }, `${point.class_name} is decided from ${percent(point.threshold)} on `,
    el("span", { class: "soft" }, `(as the model gives it: ${percent(point.uncalibrated_probability)}, threshold ${percent(point.uncalibrated_threshold)})`));
}

function left(rule) {
  if (rule.left === null) return state("unknown", "Not known whether to leave it to the clinician", rule.why);
  if (rule.left) return state("warn", "Left to the clinician", rule.why);
  if (!rule.valid) return state("unknown", "Answered by the model", rule.why_not_valid);
  return state("good", "Answered by the model", `it is certain enough by the rule of abstention${unchecked(rule.risk_checked)}`);
}

/** Returns what to add to a promise that the study did not compare with its test records. */
function unchecked(checked) {
  return checked ? "" : "; the study did not check that on test records";
}

/** Returns a line with a symbol, a word and its reason: its colour is never alone. */
export function state(kind, title, why) {
  const symbol = { good: "✓", warn: "!", fail: "✕", unknown: "?" }[kind];
  return el("p", { class: `state ${kind}` }, el("span", { "aria-hidden": "true", class: "symbol" }, symbol), el("b", {}, title), why ? `: ${why}` : "");
}

function bars(probabilities) {
  const most = 10;
  const all = Object.entries(probabilities).sort((a, b) => b[1] - a[1]);
  const rows = all.slice(0, most).map(([name, share]) => {
    const bar = el("span", { class: "bar-of" });
    bar.style.width = `${100 * share}%`;
    return el("tr", {}, el("th", { scope: "row" }, name), el("td", { class: "track", "aria-hidden": "true" }, bar), el("td", { class: "number" }, percent(share)));
  });
  return el("div", {}, el("table", { class: "bars" }, el("tbody", {}, rows)),
    all.length > most ? el("p", { class: "soft" }, `${all.length - most} classes with smaller probabilities are left out`) : null);
}

function set(given) {
  if (!given.classes?.length && !given.valid) return state("unknown", "None", given.why_not);
  const classes = given.classes.length ? `{ ${given.classes.join(", ")} }` : "{ } no class";
  return el("div", {}, el("p", { class: "set" }, classes),
    given.valid
      ? state("good", "Promised", `${Math.round(100 * given.coverage)}\u00a0% of records like those that calibrated it have their true class in it${unchecked(given.coverage_checked)}`)
      : state("warn", "Not promised", given.why_not));
}

function certificate(answer, whole) {
  const about = whole.certificate;
  if (!about) return null;
  if (about.not_given) return panel("Certificate", "certificate", state("unknown", "None", about.not_given));
  const { certified, radius } = answer.certificate;
  const norm = about.norm === "linf" ? "L∞" : about.norm;
  const rows = about.epsilons.map((epsilon, place) =>
    el("tr", {}, el("td", { class: "number" }, number(epsilon)), el("td", {}, certified[place] ? "✓ proven" : "– not proven")));
  return panel("Certificate", "certificate",
    el("p", { class: "class" }, radius > 0 ? `radius ${number(radius)}` : "nothing proven"),
    el("p", {}, radius > 0
      ? `If no input changes by more than ${number(radius)} (${norm}, in ${about.units}), the class stays the same.`
      : "For no radius above 0 is it proven that the class stays the same.", " This does not say that the class is right."),
    el("p", { class: "soft" }, `Method: ${about.method}. Holds for ${about.holds_for}.`),
    el("details", {}, el("summary", {}, "All radii"),
      el("table", { class: "radii" },
        el("thead", {}, el("tr", {}, el("th", { scope: "col" }, `radius (${norm})`), el("th", { scope: "col" }, "class stays"))),
        el("tbody", {}, rows))));
}

function limits(answer, whole) {
  const list = (texts, none) => (texts.length ? el("ul", {}, texts.map((text) => el("li", {}, text))) : el("p", { class: "soft" }, none));
  return panel("Warnings", "limits",
    el("h4", {}, "About this record"), list(answer.warnings, "none"),
    el("h4", {}, "What the checks say against the model"), list(whole.against, whole.checks ? `none of ${whole.checks} checks warned or failed` : "not known: no check was made"));
}

function origin(whole, facts) {
  return panel("Origin", "origin", el("dl", {},
    el("dt", {}, "model"), el("dd", {}, whole.model_name),
    el("dt", {}, "version"), el("dd", {}, whole.model_version),
    el("dt", {}, "artefact"), el("dd", {}, el("code", {}, whole.artefact || "none")),
    el("dt", {}, "trained as"), el("dd", {}, facts.trained_as)));
}
