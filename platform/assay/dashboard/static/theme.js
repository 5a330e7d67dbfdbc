/** Light or dark: as the system says, or as the switch says. Runs before the page is drawn. */

const KEY = "assay-theme";
const dark = window.matchMedia("(prefers-color-scheme: dark)");

function shown() {
  const chosen = localStorage.getItem(KEY);
  return chosen ?? (dark.matches ? "dark" : "light");
}

function apply() {
  document.documentElement.dataset.theme = shown();
  document.dispatchEvent(new Event("theme"));
}

apply();
dark.addEventListener("change", apply);
document.addEventListener("click", (event) => {
  if (event.target.id !== "theme") return;
  localStorage.setItem(KEY, shown() === "dark" ? "light" : "dark");
  apply();
});
