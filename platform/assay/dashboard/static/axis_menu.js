/** The menu of an axis: its scale, its place, its brush. */

import { el } from "./dom.js";

let open = null;

/** Opens the menu of an axis below its title, or closes it. */
export function menuOf(board, key, title) {
  const again = open?.key === key;
  closeMenu();
  if (again) return;
  const { axes, flip, brushes } = board.view;
  const scale = board.scale(key);
  const place = axes.indexOf(key);
  const move = (by) => {
    const others = axes.filter((one) => one !== key);
    others.splice(place + by, 0, key);
    board.setAxes(others);
  };
  const items = [
    ["Turn upside down", () => board.setScale(key, { flip: !flip.includes(key) })],
    scale.mayLog ? [scale.log ? "Even scale" : "Log scale", () => board.setScale(key, { log: !scale.log })] : null,
    place > 0 ? ["Move left", () => move(-1)] : null,
    place < axes.length - 1 ? ["Move right", () => move(1)] : null,
    brushes[key] ? ["Clear filter", () => board.setBrush(key, null)] : null,
    axes.length > 2 ? ["Hide this axis", () => board.setAxes(axes.filter((one) => one !== key))] : null,
  ].filter(Boolean);
  const act = (does) => () => {
    closeMenu();
    does();
    document.querySelector(`.head[data-axis="${CSS.escape(key)}"] button`)?.focus();
  };
  const menu = el("div", { class: "menu", role: "menu" },
    ...items.map(([text, does]) => el("button", { type: "button", role: "menuitem", onclick: act(does) }, text)));
  menu.addEventListener("keydown", (event) => keys(event, menu, title));
  title.parentElement.append(menu);
  const right = menu.getBoundingClientRect().right - document.documentElement.clientWidth;
  if (right > 0) menu.style.marginLeft = `${-right - 8}px`;
  open = { key, menu, title };
  title.setAttribute("aria-expanded", "true");
  menu.firstElementChild.focus();
}

/** Closes the menu that is open. */
export function closeMenu() {
  open?.menu.remove();
  open?.title.removeAttribute("aria-expanded");
  open = null;
}

function keys(event, menu, title) {
  const items = [...menu.children];
  const at = items.indexOf(document.activeElement);
  const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  if (event.key === "Escape") {
    event.stopPropagation();
    closeMenu();
    title.focus();
  } else if (step) {
    event.preventDefault();
    items[(at + step + items.length) % items.length].focus();
  }
}

document.addEventListener("pointerdown", (event) => {
  if (open && !open.menu.contains(event.target) && !open.title.contains(event.target)) closeMenu();
});
