// What every chart shares: the page's colours, numbers in words, and tooltips made of text, never of HTML.

const { report, words } = JSON.parse(document.getElementById("report").textContent);
const THIN = "\u202f", MINUS = "\u2212";

function number(x, digits = 0) {
  if (x === null || x === undefined || !Number.isFinite(x)) return "unknown";
  const text = Math.abs(x).toLocaleString("en-GB", { minimumFractionDigits: digits, maximumFractionDigits: digits });
  return x < 0 && Number(text.replaceAll(",", "")) ? MINUS + text : text;
}

function percent(x, digits = 0) {
  return number(x * 100, digits) + THIN + "%";
}

function money(x) {
  const text = number(x);
  return text.startsWith(MINUS) ? MINUS + words.sign + text.slice(1) : words.sign + text;
}

// £1.2M, £340k: for axes, where the exact number stands in the tooltip and the table.
function shortMoney(x) {
  const size = Math.abs(x), minus = x < 0 ? MINUS : "";
  if (size >= 1e6) return minus + words.sign + number(size / 1e6, size % 1e6 ? 1 : 0) + "M";
  if (size >= 1e4) return minus + words.sign + number(size / 1e3) + "k";
  return money(x);
}

// A measured value as its measure is said: as words.py says it.
function score(x, metric) {
  if (words.money.includes(metric)) return money(x);
  if (words.shares.includes(metric)) return percent(x, 1);
  return number(x, Math.abs(x) >= 100 ? 0 : Math.abs(x) < 0.02 && metric === "value" ? 4 : 3);
}

function plain(code) {
  return String(code).replaceAll("_", " ");
}

function modelName(model) {
  return words.labels[model] || plain(model);
}

function sliceName(slice) {
  return words.slices[slice] || plain(slice);
}

function day(iso) {
  return new Date(iso + "T00:00:00Z").toLocaleDateString("en-GB", { day: "numeric", month: "short", year: "numeric", timeZone: "UTC" });
}

function colours() {
  const style = getComputedStyle(document.documentElement);
  const named = (name) => style.getPropertyValue("--" + name).trim();
  return {
    ink: named("ink"), soft: named("soft"), line: named("line"), surface: named("surface"), accent: named("accent"),
    rust: named("rust"), blue: named("blue"), gold: named("gold"), plum: named("plum"), leaf: named("leaf"),
    rose: named("rose"), sky: named("sky"), grey: named("grey"),
    font: getComputedStyle(document.body).fontFamily,
  };
}

const OWN_COLOUR = {
  behaviour: "accent", blend: "rust", ease: "blue", trees: "gold", clv: "plum", popular: "gold", neighbours: "plum",
  popularity: "grey", slist: "leaf", words: "accent", words_alone: "blue", appetite: "plum", busiest: "gold",
  chance: "grey", own_log: "accent", random: "grey", product_share: "grey",
};

// A model keeps its colour in every chart; one the page has no colour for takes the next of the palette.
function colourOf(model, c, index = 0) {
  const rest = ["blue", "plum", "rust", "gold"];
  return c[OWN_COLOUR[model.split(",")[0]] || rest[index % rest.length]];
}

// A tooltip as an element: whatever is in the data arrives as text.
function tip(title, lines = []) {
  const box = document.createElement("div");
  box.className = "tip";
  const head = box.appendChild(document.createElement("b"));
  head.textContent = title;
  for (const [name, value] of lines) {
    const line = box.appendChild(document.createElement("div"));
    line.appendChild(document.createElement("span")).textContent = name;
    line.appendChild(document.createElement("span")).textContent = value;
  }
  return box;
}

function frame(c, option) {
  const tooltip = {
    confine: true, backgroundColor: c.surface, borderColor: c.line, textStyle: { color: c.ink, fontSize: 13 },
    ...option.tooltip,
  };
  return { animation: false, textStyle: { fontFamily: c.font, color: c.ink }, ...option, tooltip };
}

function axis(c, option) {
  return {
    axisLine: { lineStyle: { color: c.line } }, axisTick: { show: false },
    splitLine: { show: false }, nameLocation: "middle", nameTextStyle: { color: c.soft, fontSize: 12 },
    ...option,
    axisLabel: { color: c.soft, fontSize: 12, ...option.axisLabel },
  };
}

function grid(c) {
  return { show: true, lineStyle: { color: c.line, width: 1 } };
}

function legend(c, names, option = {}) {
  return {
    top: 0, left: 0, icon: "roundRect", itemWidth: 14, itemHeight: 4, itemGap: 14,
    textStyle: { color: c.ink, fontSize: 12.5 }, data: names, ...option,
  };
}
