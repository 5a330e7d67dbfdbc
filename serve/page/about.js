/** The form for facts about the record, by which the server checks the intended use of the model. */

import { el } from "./dom.js";

const OTHER = "other";

/** Returns the form of the facts that a model asks for: its element, and `read()`, null where nothing is given. */
export function aboutForm(criteria, changed) {
  const fields = criteria.map((one, place) => (one.values.length ? choiceOf : one.name === "age" ? ageOf : textOf)(one, `about-${place}`, changed));
  const rows = criteria.map((one, place) => el("label", { for: `about-${place}` }, `${one.name.replaceAll("_", " ")} `, fields[place]));
  const element = criteria.length
    ? el("fieldset", { class: "about" }, el("legend", {}, "Whom the record is of"), rows,
      el("p", { class: "soft" }, "Records outside these limits are refused. For another hospital, or an unknown one, the prediction set has no promised coverage. What is not given is not checked."))
    : null;
  const read = () => {
    const given = criteria.flatMap((one, place) => (fields[place].value === "" ? [] : [[one.name, one.name === "age" ? Number(fields[place].value) : fields[place].value]]));
    return given.length ? Object.fromEntries(given) : null;
  };
  return { element, read };
}

function ageOf(one, id, changed) {
  return el("input", { id, type: "number", min: 0, max: 150, step: "any", placeholder: one.allowed, oninput: changed });
}

function textOf(one, id, changed) {
  return el("input", { id, type: "text", maxlength: 128, placeholder: one.allowed, oninput: changed });
}

function choiceOf(one, id, changed) {
  const options = [["", "not given"], ...one.values.map((value) => [value, value]), [OTHER, "another one"]];
  return el("select", { id, onchange: changed }, options.map(([value, shown]) => el("option", { value }, shown)));
}
