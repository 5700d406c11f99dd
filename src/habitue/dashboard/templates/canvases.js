// Draw every chart of the page from the rows in it; redraw on a new width, colour scheme or print.

const state = document.getElementById("script-state");

function rowsAt(path) {
  return path.split(".").reduce((part, key) => part[key], report);
}

function draw(canvas) {
  const width = canvas.clientWidth;
  if (!width) return; // inside a closed <details>: drawn when it opens
  const { chart, path, metric, slice } = canvas.dataset;
  try {
    const { height, ...option } = charts[chart](rowsAt(path), { c: colours(), width, metric, slice });
    if (height) canvas.style.height = height + "px";
    let instance = echarts.getInstanceByDom(canvas);
    if (!instance) {
      canvas.replaceChildren();
      instance = echarts.init(canvas, null, { renderer: "svg" });
    }
    instance.resize();
    const description = canvas.getAttribute("aria-label");
    instance.setOption({ ...option, aria: { enabled: true, label: { description } } }, { notMerge: true });
    canvas.querySelector("svg").setAttribute("viewBox", [0, 0, instance.getWidth(), instance.getHeight()].join(" ")); // to shrink in print
    canvas.dataset.drawn = String(width);
  } catch (error) {
    canvas.textContent = "This chart could not be drawn: " + error.message;
    canvas.classList.add("failed");
    report_failure(error);
  }
}

function report_failure(error) {
  state.hidden = false;
  state.textContent = "A part of this page could not be drawn (" + error.message + "). The tables are complete without it.";
  setTimeout(() => { throw error; }); // into the console, where a browser test looks
}

const canvases = [...document.querySelectorAll("[data-chart]")];
const drawAll = () => canvases.forEach(draw);

state.hidden = true;
drawAll();
const resized = new ResizeObserver((entries) => {
  for (const { target } of entries) if (String(target.clientWidth) !== target.dataset.drawn) draw(target);
});
canvases.forEach((canvas) => resized.observe(canvas));
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
addEventListener("beforeprint", () => { document.documentElement.dataset.theme = "light"; drawAll(); });
addEventListener("afterprint", () => { delete document.documentElement.dataset.theme; drawAll(); });
document.documentElement.dataset.ready = "true";
