/** Makes elements: text is always text, never markup. */

/** Returns an element with attributes, properties that begin with `on`, and children. */
export function el(tag, attributes = {}, ...children) {
  return filled(document.createElement(tag), attributes, children);
}

/** Returns an element of SVG. */
export function svg(tag, attributes = {}, ...children) {
  return filled(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
}

function filled(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "checked" || name === "value" || name === "disabled") element[name] = value;
    else if (value !== null && value !== undefined && value !== false) element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

/** Returns a function that calls another once before the next picture, with the last arguments. */
export function beforeNextPicture(call) {
  let waiting = false;
  let last = [];
  return (...given) => {
    last = given;
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => {
      waiting = false;
      call(...last);
    });
  };
}

/** Says something to screen readers. */
export function announce(text) {
  document.getElementById("said").textContent = text;
}

/** Returns the colours of the page's style by name, as `[red, green, blue]`. */
export function colours() {
  const style = getComputedStyle(document.documentElement);
  const named = (name) => style.getPropertyValue(`--${name}`).trim();
  const rgb = (name) => [1, 3, 5].map((at) => parseInt(named(name).slice(at, at + 2), 16));
  return { all: rgb("density-all"), kept: rgb("density-kept"), hover: named("hover"), ink: named("ink"), soft: named("soft"),
    line: named("line"), accent: named("accent"), front: named("front"), chosen: CHOSEN, page: named("page") };
}

/** Colours of chosen trials, which colour-blind readers can tell apart. */
export const CHOSEN = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"];
