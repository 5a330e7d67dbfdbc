/** What the page shows, as far as a user chose it. It lives in the address, behind `#`, so that it can be shared. */

const LISTS = ["axes", "flip", "goals", "chosen"];

/** Returns a view in which nothing is chosen yet. */
export const blank = () => ({ axes: [], flip: [], goals: [], chosen: [], log: {}, brushes: {}, open: "", sort: "" });

/** Reads a view from the part of an address behind `#`. */
export function fromHash(hash) {
  const view = blank();
  for (const [key, value] of new URLSearchParams(hash.replace(/^#/, ""))) {
    if (LISTS.includes(key)) view[key] = value ? value.split(",").map(decodeURIComponent) : [];
    else if (key === "open" || key === "sort") view[key] = value;
    else if (key.startsWith("log.")) view.log[key.slice(4)] = value === "1";
    else if (key.startsWith("b.")) view.brushes[key.slice(2)] = brushFrom(value);
  }
  return view;
}

/** Writes a view as the part of an address behind `#`. */
export function toHash(view) {
  const said = new URLSearchParams();
  for (const key of LISTS) if (view[key].length) said.set(key, view[key].map(encodeURIComponent).join(","));
  for (const key of ["open", "sort"]) if (view[key]) said.set(key, view[key]);
  for (const [key, log] of Object.entries(view.log)) said.set(`log.${key}`, log ? "1" : "0");
  for (const [key, brush] of Object.entries(view.brushes)) said.set(`b.${key}`, brushText(brush));
  return said.toString();
}

/** A brush as a text: `0.1..0.3`, or `~` with names of categories, and `none` where rows without a value are in it. */
function brushText(brush) {
  const parts = [];
  if (brush.range) parts.push(brush.range.join(".."));
  if (brush.names) parts.push(...brush.names.map((name) => `~${encodeURIComponent(name)}`));
  if (brush.missing) parts.push("none");
  return parts.join("|");
}

function brushFrom(text) {
  const brush = {};
  for (const part of text.split("|")) {
    const ends = part.split("..").map(Number);
    if (part === "none") brush.missing = true;
    else if (part.startsWith("~")) (brush.names ??= []).push(decodeURIComponent(part.slice(1)));
    else if (ends.length === 2 && ends.every((end) => end === end)) brush.range = ends;
  }
  return brush;
}
