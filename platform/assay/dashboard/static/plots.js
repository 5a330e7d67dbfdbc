/** Draws the report's figures by plotly.js, which is loaded when it is first needed. */

let loading = null;

function plotly() {
  loading ??= new Promise((done, failed) => {
    const script = document.createElement("script");
    script.src = "/static/plotly.js";
    script.onload = () => done(window.Plotly);
    script.onerror = () => failed(new Error("plotly.js could not be loaded"));
    document.head.append(script);
  });
  return loading;
}

/** Draws one figure in a box, in the colours of the page. */
export async function drawFigure(box, figure, title) {
  const library = await plotly();
  const style = getComputedStyle(document.documentElement);
  const named = (name) => style.getPropertyValue(`--${name}`).trim();
  const layout = { ...figure.layout, paper_bgcolor: named("page"), plot_bgcolor: named("page"), autosize: true };
  layout.font = { ...layout.font, color: named("ink") };
  for (const key of Object.keys(layout)) {
    if (/^[xy]axis/.test(key)) layout[key] = { ...layout[key], gridcolor: named("line"), linecolor: named("soft") };
  }
  box.setAttribute("role", "img");
  box.setAttribute("aria-label", title);
  await library.newPlot(box, figure.data, layout, { displaylogo: false, responsive: true, displayModeBar: false });
}
