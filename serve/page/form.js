/** Forms in which a record is typed, pasted or uploaded, one for each kind of record. */

import { el, number } from "./dom.js";

/** Returns the form of a model's records: its element, `fill(record)`, `read()`, and `view()` for explanations. */
export function formOf(facts, changed) {
  const forms = { tabular: tableForm, image: imageForm, signal: signalForm, text: textForm };
  const kind = facts.modality === "tabular" && !facts.columns.length ? "signal" : facts.modality;
  return forms[kind](facts, changed);
}

/** Features with their units and ranges. An empty field is a missing value. */
function tableForm(facts, changed) {
  const fields = facts.columns.map((column, place) => (column.categories ? choiceOf : fieldOf)(column, `field-${place}`, changed));
  const units = facts.columns.some((column) => column.unit);
  const head = ["feature", "value", ...(units ? ["unit"] : []), `${facts.range_is} range`];
  const rows = facts.columns.map((column, place) => {
    const field = fields[place];
    return el("tr", {},
      el("th", { scope: "row" }, el("label", { for: field.input.id }, column.name)),
      el("td", {}, field.input),
      units ? el("td", { class: "soft unit" }, column.unit || "–") : null,
      el("td", { class: "soft range" }, el("span", { id: `${field.input.id}-range` }, field.range), " ", field.note));
  });
  const element = el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Features of the record" },
    el("table", { class: "fields" },
      el("thead", {}, el("tr", {}, head.map((text) => el("th", { scope: "col" }, text)))),
      el("tbody", {}, rows)));
  const named = (of) => Object.fromEntries(facts.columns.map((column, place) => [column.name, of(fields[place], column)]));
  return {
    element,
    fill: (record) => facts.columns.forEach((column, place) => fields[place].set(record[column.name])),
    read: () => named((field) => field.get()),
    view: () => {
      const inputs = facts.inputs.map((name) => ({ name, value: "" }));
      facts.columns.forEach((column, place) => column.inputs.forEach((input) => { inputs[input].value = fields[place].shown(); }));
      return inputs;
    },
  };
}

/** A number, which says where it lies outside its range. */
function fieldOf(column, id, changed) {
  const [low, high] = column.range;
  const input = el("input", { id, type: "number", step: "any", required: !column.may_be_missing, "aria-describedby": `${id}-range ${id}-note` });
  const note = el("span", { class: "outside", id: `${id}-note` });
  const judge = () => {
    const slack = 1e-6 * (high - low);
    const side = !input.value ? "" : Number(input.value) > high + slack ? "▲ above" : Number(input.value) < low - slack ? "▼ below" : "";
    note.textContent = side;
    input.toggleAttribute("data-outside", side !== "");
  };
  input.addEventListener("input", () => { judge(); changed(); });
  return {
    input, note, range: `${number(low, 4)} to ${number(high, 4)}`,
    get: () => (input.value === "" ? null : Number(input.value)),
    set: (given) => { input.value = Number(given.toPrecision(7)); judge(); },
    shown: () => (input.value === "" ? "missing" : `${number(Number(input.value), 5)}${column.unit ? ` ${column.unit}` : ""}`),
  };
}

/** One of the categories of a column. */
function choiceOf(column, id, changed) {
  const options = column.categories.map((name) => el("option", { value: name }, name));
  if (column.may_be_missing) options.push(el("option", { value: "" }, "missing"));
  const input = el("select", { id, onchange: changed, "aria-describedby": `${id}-range` }, options);
  return {
    input, note: "", range: `${column.categories.length} categories`,
    get: () => input.value || null,
    set: (given) => { input.value = given; },
    shown: () => input.value || "missing",
  };
}

/**
 * An image: a sample, or a file. Where the model's data set says how files become records, the file is sent as it is;
 * else this page brings it to the pixels of the model.
 */
function imageForm(facts, changed) {
  const [channels, height, width] = facts.shape;
  const canvas = el("canvas", { width, height, class: "picture", role: "img", "aria-label": "The chosen image" });
  const told = el("p", { class: "soft" }, `The model takes ${width} × ${height} pixels, ${channels === 1 ? "grey" : `${channels} channels`}.`);
  const accept = facts.files ? ".png,.dcm,image/png,application/dicom" : "image/png,image/jpeg";
  const file = el("input", { type: "file", id: "file", accept });
  let instance = null;
  const show = (given, record) => { instance = given; canvas.hidden = false; Object.assign(canvas, { width, height }); paint(canvas, record, facts.ends); };
  file.addEventListener("change", async () => {
    const [chosen] = file.files;
    if (!chosen) return;
    try {
      const loaded = facts.files ? await sentAsItIs(chosen, canvas) : await scaled(chosen, facts);
      if (loaded.record) show(loaded.record, loaded.record);
      else instance = loaded.instance;
      told.textContent = loaded.told;
    } catch {
      instance = null;
      told.textContent = "This file is no image that the browser can read.";
    }
    changed();
  });
  const element = el("div", {},
    el("p", {}, el("label", { for: "file" }, facts.files ? "Upload PNG or DICOM " : "Upload an image "), file),
    el("div", { class: "frame" }, canvas), told);
  return {
    element,
    fill: (given) => { file.value = ""; show(given, given); },
    read: () => { if (!instance) throw new Error("choose an image first"); return instance; },
    view: () => null,
  };
}

/** Returns a file as a request has it, and draws it where the browser can. */
async function sentAsItIs(file, canvas) {
  const bytes = new Uint8Array(await file.arrayBuffer());
  const kind = bytes[0] === 0x89 && bytes[1] === 0x50 ? "png" : "dicom";
  const parts = [];
  for (let at = 0; at < bytes.length; at += 0x6000) parts.push(btoa(String.fromCharCode(...bytes.subarray(at, at + 0x6000))));
  canvas.hidden = kind === "dicom";
  let size = "DICOM, which browsers do not draw: the answer has the record as the model takes it";
  if (kind === "png") {
    const picture = await createImageBitmap(file);
    Object.assign(canvas, { width: picture.width, height: picture.height });
    canvas.getContext("2d").drawImage(picture, 0, 0);
    size = `${picture.width} × ${picture.height} pixels`;
  }
  return { instance: { [kind]: parts.join("") }, told: `${file.name}, ${size}.` };
}

/** Reads the pixels of a file: its centre in the proportions of the record, scaled to the record's size. */
async function scaled(file, facts) {
  const [channels, height, width] = facts.shape;
  const picture = await createImageBitmap(file);
  const share = Math.min(picture.width / width, picture.height / height);
  const [wide, high] = [share * width, share * height];
  const canvas = el("canvas", { width, height });
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.imageSmoothingQuality = "high";
  context.drawImage(picture, (picture.width - wide) / 2, (picture.height - high) / 2, wide, high, 0, 0, width, height);
  const { data } = context.getImageData(0, 0, width, height);
  const level = (at, k) => (channels === 3 ? data[at + k] : 0.299 * data[at] + 0.587 * data[at + 1] + 0.114 * data[at + 2]) / 255;
  const record = Array.from({ length: channels }, (_, k) => {
    const [low, high_] = facts.ends[k];
    return Array.from({ length: height }, (_, row) =>
      Array.from({ length: width }, (_, column) => low + (high_ - low) * level(4 * (row * width + column), k)));
  });
  const cut = wide < picture.width - 1 || high < picture.height - 1 ? "its centre was cut out and " : "";
  return { record, told: `${file.name}, ${picture.width} × ${picture.height} pixels: ${cut}scaled to ${width} × ${height} by this page.` };
}

/** Draws a record into a canvas, from the least to the greatest valid value of each channel. */
function paint(canvas, record, ends) {
  const { width, height } = canvas;
  const context = canvas.getContext("2d");
  const pixels = context.createImageData(width, height);
  for (let at = 0; at < width * height; at += 1) {
    for (let k = 0; k < 3; k += 1) {
      const channel = record.length === 3 ? k : 0;
      const [low, high] = ends[channel];
      pixels.data[4 * at + k] = Math.round((255 * (record[channel][Math.floor(at / width)][at % width] - low)) / (high - low));
    }
    pixels.data[4 * at + 3] = 255;
  }
  context.putImageData(pixels, 0, 0);
}

/** Numbers that are pasted or uploaded: one line a channel. */
function signalForm(facts, changed) {
  const [channels, samples] = facts.shape.length === 2 ? facts.shape : [1, facts.shape[0]];
  const text = el("textarea", { id: "numbers", rows: 10, spellcheck: "false", required: true, "aria-describedby": "numbers-told" });
  const file = el("input", { type: "file", id: "file", accept: ".csv,.txt,.json,text/plain" });
  text.addEventListener("input", changed);
  file.addEventListener("change", async () => {
    const [chosen] = file.files;
    if (!chosen) return;
    text.value = await chosen.text();
    changed();
  });
  const read = () => {
    const lines = text.value.trim().split(/\n+/).map((line) => line.replace(/[[\]]/g, " ").split(/[\s,;]+/).filter((one) => one));
    const numbers = lines.flat().map(Number);
    if (numbers.some((one) => !Number.isFinite(one))) throw new Error("the record holds something else than numbers");
    if (numbers.length !== channels * samples) {
      throw new Error(`the record needs ${channels * samples} numbers (${channels} × ${samples}), and has ${numbers.length}`);
    }
    const rows = Array.from({ length: channels }, (_, k) => numbers.slice(k * samples, (k + 1) * samples));
    return facts.shape.length === 2 ? rows : rows[0];
  };
  const element = el("div", {},
    el("p", {}, el("label", { for: "file" }, "Upload a file of numbers "), file),
    el("label", { for: "numbers" }, "or paste numbers"), text,
    el("p", { id: "numbers-told", class: "soft" }, `${channels} × ${samples} numbers in ${facts.units}, one line a channel.`));
  return {
    element,
    fill: (record) => { text.value = (facts.shape.length === 2 ? record : [record]).map((row) => row.map((one) => Number(one.toPrecision(7))).join(", ")).join("\n"); },
    read,
    view: () => read(),
  };
}

/** A text. */
function textForm(facts, changed) {
  const text = el("textarea", { id: "text", rows: 8, required: true });
  text.addEventListener("input", changed);
  return {
    element: el("div", {}, el("label", { for: "text" }, "Text"), text),
    fill: (record) => { text.value = record; },
    read: () => text.value,
    view: () => text.value,
  };
}
