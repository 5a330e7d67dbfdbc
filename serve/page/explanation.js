/** The panel of an explanation: bars of a table, a map over an image, a shaded trace, or highlighted words. */

import { panel, state } from "./answer.js";
import { el, number, percent, signed, svg } from "./dom.js";

const SHOWN = 12;

/** Returns the panel; `view` is what the form shows of a table or a signal. */
export function explanationPanel(explanation, about, facts, view) {
  if (!explanation) return null;
  if (explanation.not_given) return panel("Why", "explanation", state("unknown", "No explanation", explanation.not_given));
  const draw = { image: map, signal: trace, text: words, tabular: facts.columns.length ? contributions : trace }[facts.modality];
  const { fidelity } = about;
  const errors = errorsOf(explanation, fidelity);
  return panel(`Why ${explanation.class_name}`, "explanation",
    el("p", {}, el("b", { class: "for" }, "+ for"), ` and `, el("b", { class: "against" }, "− against"), ` ${explanation.class_name}: contributions to ${about.explained}`),
    draw(explanation, facts, view, about),
    el("dl", {},
      el("dt", {}, "method"), el("dd", {}, about.method.replaceAll("_", " ")),
      el("dt", {}, "compared with"), el("dd", {}, about.compared_with),
      el("dt", {}, "error"), el("dd", {}, errors.join("; ")),
      el("dt", {}, "faithfulness"), el("dd", {}, faithfulness(fidelity)),
      fidelity.seconds === null ? null : [el("dt", {}, "time"), el("dd", {}, `${number(fidelity.seconds)} s a record, as measured in the study`)]),
    explanation.warnings?.length ? el("ul", {}, explanation.warnings.map((text) => el("li", {}, text))) : null);
}

/** Returns the errors of an explanation with their limit. */
function errorsOf(explanation, { error_is: kind, error_limit: limit }) {
  const within = limit === null ? "" : ` (limit ${percent(limit)})`;
  const share = explanation.error === null ? "is not known" : `${percent(explanation.error)} of the explained change, or of the greatest value where that is larger${within}`;
  const errors = [kind === null ? "values of this method need not add up" : `${kind} error ${share}`];
  if (explanation.value_error !== undefined) errors.push(`difference of a value between two rules at most ${percent(explanation.value_error)} of the greatest${within}`);
  return errors;
}

/** Returns the measured faithfulness with its interval, the number of records and the verdict. */
function faithfulness({ faithfulness: measured, why_not: why }) {
  if (!measured) return state("unknown", "Not measured", why);
  const kinds = { pass: ["good", "Better than every control"], warn: ["warn", "No better than a control"] };
  const [kind, title] = kinds[measured.verdict] ?? ["unknown", measured.verdict === null ? "Not compared with controls" : "Inconclusive"];
  const interval = measured.low === null ? "" : ` (${number(measured.low)} to ${number(measured.high)})`;
  return el("div", {}, state(kind, title, ""),
    `${number(measured.value)}${interval} on a scale from 0 (as good as a map that ignores the model) to 1 (best order known), on ${measured.n} test records${measured.p === null ? "" : `; p = ${number(measured.p)}`}.`);
}

function contributions(explanation, facts, view) {
  const values = explanation.attributions;
  const order = values.map((_, place) => place).sort((a, b) => Math.abs(values[b]) - Math.abs(values[a]));
  const most = Math.abs(values[order[0]]) || 1;
  const row = (place) => {
    const bar = el("span", { class: values[place] < 0 ? "signed against" : "signed for" });
    bar.style.width = `${(50 * Math.abs(values[place])) / most}%`;
    bar.style[values[place] < 0 ? "right" : "left"] = "50%";
    return el("tr", {}, el("th", { scope: "row" }, view[place].name), el("td", { class: "number soft" }, view[place].value),
      el("td", { class: "axis", "aria-hidden": "true" }, bar), el("td", { class: "number" }, signed(values[place])));
  };
  const head = () => el("thead", {}, el("tr", {}, ["feature", "value", "", "contribution"].map((text) => el("th", { scope: "col" }, text))));
  const table = (places) => el("table", { class: "contributions" }, head(), el("tbody", {}, places.map(row)));
  const rest = order.slice(SHOWN);
  return el("div", {}, table(order.slice(0, SHOWN)),
    rest.length ? el("details", {}, el("summary", {}, `${rest.length} smaller contributions`), table(rest)) : null);
}

/** The image, and the image with its map, its scale of colours, and signs at the strongest places. */
function map(explanation, facts, _, about) {
  const { overlay } = explanation;
  const [high, wide] = overlay.source;
  const [left, upper, right, lower] = overlay.box;
  const stack = (...above) => {
    const record = el("img", { src: `data:image/png;base64,${overlay.record}`, alt: "The record as the model takes it", class: "over record" });
    Object.assign(record.style, { left: share(left, wide), top: share(upper, high), width: share(right - left, wide), height: share(lower - upper, high) });
    const found = el("div", { class: "stack" }, record, ...above);
    found.style.aspectRatio = `${wide} / ${high}`;
    return found;
  };
  const over = el("img", { src: `data:image/png;base64,${overlay.png}`, alt: "Map of contributions over the record", class: "over" });
  const places = strongest(explanation.attributions);
  const marks = svg("svg", { class: "over", viewBox: `0 0 ${overlay.source[1]} ${overlay.source[0]}`, "aria-hidden": "true" });
  const size = Math.max(...overlay.source) / 14;
  for (const one of places) {
    marks.append(svg("text", { x: left + one.across * (right - left), y: upper + one.down * (lower - upper), "font-size": size, class: "mark" }, one.value < 0 ? "−" : "+"));
  }
  const slider = el("input", { type: "range", min: 0, max: 100, value: 100, id: "opacity", oninput: () => { over.style.opacity = slider.value / 100; } });
  return el("div", {},
    el("div", { class: "side-by-side" },
      el("figure", {}, stack(), el("figcaption", {}, "record, as the model takes it")),
      el("figure", {}, stack(over, marks), el("figcaption", {}, "record with its map"))),
    legend(facts.scale, about.overlay_scale),
    el("p", {}, el("label", { for: "opacity" }, "strength of the map "), slider),
    el("details", {}, el("summary", {}, "Strongest places in words"),
      el("ul", {}, places.map((one) => el("li", {}, `${signed(one.value)} ${where(one)} (row ${one.row + 1}, column ${one.column + 1})`)))));
}

/** Returns a part of a length for CSS. */
function share(part, length) {
  return `${(100 * part) / length}%`;
}

function where({ down, across }) {
  const part = (share, names) => names[Math.min(2, Math.floor(3 * share))];
  return `${part(down, ["upper", "middle", "lower"])} ${part(across, ["left", "centre", "right"])}`;
}

/** Returns the blocks of a map with the greatest sums: three of each sign, without small ones. */
function strongest(attributions) {
  const [first] = attributions;
  const [height, width] = [first.length, first[0].length];
  const side = Math.max(1, Math.round(Math.max(height, width) / 9));
  const blocks = [];
  for (let row = 0; row < height; row += side) {
    for (let column = 0; column < width; column += side) {
      const [high, wide] = [Math.min(side, height - row), Math.min(side, width - column)];
      let value = 0;
      for (const channel of attributions) for (let i = 0; i < high; i += 1) for (let j = 0; j < wide; j += 1) value += channel[row + i][column + j];
      const [middle, centre] = [row + high / 2, column + wide / 2];
      blocks.push({ value, row: Math.floor(middle), column: Math.floor(centre), down: middle / height, across: centre / width });
    }
  }
  const most = Math.max(...blocks.map((one) => Math.abs(one.value)));
  const large = blocks.filter((one) => Math.abs(one.value) > 0.25 * most).sort((a, b) => b.value - a.value);
  return [...large.filter((one) => one.value > 0).slice(0, 3), ...large.filter((one) => one.value < 0).slice(-3)];
}

/** Returns the scale of colours with the values at its ends. */
function legend(scale, most) {
  const canvas = el("canvas", { width: scale.length, height: 1, class: "scale", role: "img", "aria-label": `Colours from ${signed(-most)} to ${signed(most)}` });
  const context = canvas.getContext("2d");
  scale.forEach((_, place) => { context.fillStyle = colour(scale, (2 * place) / (scale.length - 1) - 1); context.fillRect(place, 0, 1, 1); });
  return el("p", { class: "legend" }, el("span", {}, `${number(-most)} against`), canvas, el("span", {}, `${signed(most)} for`));
}

/** Returns the colour of a share of the greatest value, with its sign. */
function colour(scale, share) {
  const place = Math.round(((scale.length - 1) * (Math.min(1, Math.max(-1, share)) + 1)) / 2);
  const [red, green, blue, opacity] = scale[place];
  return `rgba(${Math.round(255 * red)}, ${Math.round(255 * green)}, ${Math.round(255 * blue)}, ${opacity})`;
}

/** Traces of a signal with shading, and the contributions below as bars above and below 0. */
function trace(explanation, facts, view) {
  const rows = Array.isArray(view[0]) ? view : [view];
  const values = Array.isArray(explanation.attributions[0]) ? explanation.attributions : [explanation.attributions];
  const most = Math.max(...values.flat().map(Math.abs)) || 1;
  const wide = 640;
  const drawn = rows.map((row, k) => {
    const [low, high] = [Math.min(...row), Math.max(...row)];
    const x = (place) => (wide * place) / row.length;
    const y = (value) => 84 - (76 * (value - low)) / (high - low || 1);
    const shades = values[k].map((value, place) => (Math.abs(value) < 0.02 * most ? null
      : svg("rect", { x: x(place), y: 0, width: wide / row.length + 0.5, height: 90, fill: colour(facts.scale, value / most) })));
    const bars = values[k].map((value, place) => svg("rect", { class: value < 0 ? "against" : "for", x: x(place), width: Math.max(1, wide / row.length - 0.3),
      y: value < 0 ? 116 : 116 - (24 * value) / most, height: (24 * Math.abs(value)) / most }));
    const line = row.map((value, place) => `${x(place + 0.5).toFixed(1)},${y(value).toFixed(1)}`).join(" ");
    return el("figure", {},
      svg("svg", { viewBox: `0 0 ${wide} 142`, role: "img", "aria-label": `Channel ${k + 1}: ${summary(values[k])}` },
        ...shades, svg("polyline", { points: line, class: "trace" }), svg("line", { x1: 0, x2: wide, y1: 116, y2: 116, class: "zero" }), ...bars),
      el("figcaption", {}, `channel ${k + 1}: ${number(low)} to ${number(high)} ${facts.units}, ${row.length} samples; bars below: + up, − down, to ${number(most)}. ${summary(values[k])}`));
  });
  return el("div", { class: "traces" }, drawn, legend(facts.scale, most));
}

function summary(values) {
  const order = values.map((_, place) => place).sort((a, b) => Math.abs(values[b]) - Math.abs(values[a])).slice(0, 3);
  return `Strongest: ${order.map((place) => `${signed(values[place])} at sample ${place + 1}`).join(", ")}`;
}

/** Words of a text, with bars above them for and below them against the class. */
function words(explanation) {
  const values = explanation.attributions;
  const most = Math.max(...values.map(Math.abs)) || 1;
  const shown = explanation.words.slice(0, values.length).map((word, place) => {
    const share = values[place] / most;
    const above = el("span", { class: "above for" });
    const below = el("span", { class: "below against" });
    above.style.height = `${Math.max(0, 22 * share)}px`;
    below.style.height = `${Math.max(0, -22 * share)}px`;
    const strong = Math.abs(share) >= 0.25;
    return el("span", { class: `word ${strong ? (share < 0 ? "against" : "for") : ""}` },
      el("span", { class: "up", "aria-hidden": "true" }, above), el("span", { class: "text" }, word),
      el("span", { class: "down", "aria-hidden": "true" }, below),
      el("span", { class: strong ? "value" : "unseen" }, ` ${signed(values[place], 2)} `));
  });
  return el("p", { class: "words" }, shown);
}
