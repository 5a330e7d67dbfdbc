/** Makes elements, and writes numbers. Text is always text, never markup. */

const SVG = "http://www.w3.org/2000/svg";

/** Returns an element with attributes, listeners that begin with `on`, and children. */
export function el(tag, attributes = {}, ...children) {
  return filled(document.createElement(tag), attributes, children);
}

/** Returns an element of SVG. */
export function svg(tag, attributes = {}, ...children) {
  return filled(document.createElementNS(SVG, tag), attributes, children);
}

function filled(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "checked" || name === "value" || name === "disabled") element[name] = value;
    else if (value !== null && value !== undefined && value !== false) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return element;
}

/** Returns a number as text with a few digits. */
export function number(value, digits = 3) {
  if (value === null || value === undefined) return "not stated";
  const rounded = Number(value.toPrecision(digits));
  const size = Math.abs(rounded);
  const text = size !== 0 && (size < 1e-4 || size >= 1e7) ? rounded.toExponential() : String(rounded);
  return text.replaceAll("-", "−");
}

/** Returns a number with its sign, also where it is positive. */
export function signed(value, digits = 3) {
  const text = number(value, digits);
  return value > 0 ? `+${text}` : text;
}

/** Returns a share in per cent; one that rounding makes 0 or 1 is said to be near it. */
export function percent(share) {
  if (share > 0 && share < 0.001) return "<\u00a00.1\u00a0%";
  if (share > 0.999) return ">\u00a099.9\u00a0%";
  return `${(100 * share).toFixed(1)}\u00a0%`;
}
