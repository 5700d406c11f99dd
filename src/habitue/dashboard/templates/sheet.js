// One function per kind of part of a sheet: (part, {c: colours, width}) -> an ECharts option, `height` in pixels with it.

const charts = {};

// Four digits that count, as parts.py says them.
function figure(x, share = false) {
  if (x === null || x === undefined) return "\u2013";
  if (share) return percent(x, 1);
  if (Number.isInteger(x) && Math.abs(x) < 1e15) return number(x);
  const size = Math.abs(x);
  if (size < 1e-6 || size >= 1e15) return x.toExponential(2).replaceAll("-", MINUS);
  return number(x, Math.max(0, 3 - Math.floor(Math.log10(size))));
}

// For axes, where room is short: 12k, 3.4M, 0.05.
function short(x, share = false) {
  if (share) return percent(x, Math.abs(x) < 0.095 && x ? 1 : 0);
  const size = Math.abs(x);
  if (size >= 1e6) return figure(Math.round(x / 1e5) / 10) + "M";
  if (size >= 1e4) return figure(Math.round(x / 100) / 10) + "k";
  return size && size < 1e-4 ? x.toExponential(0).replaceAll("-", MINUS) : Number(x.toPrecision(3)).toLocaleString("en-GB", { maximumFractionDigits: 6 }).replace("-", MINUS);
}

// A text of the data, cut to `most` letters and shut off so that one written from right to left turns nothing else round.
function said(text, most = 60) {
  const letters = [...String(text)];
  return "\u2068" + (letters.length > most ? letters.slice(0, most - 1).join("") + "\u2026" : text) + "\u2069";
}

const tones = (c) => [c.accent, c.rust, c.blue, c.gold, c.plum, c.leaf, c.grey];
const SHAPES = ["circle", "diamond", "triangle", "rect"];

// The names above a chart, in as many rows as they need: [ECharts legend, pixels it takes].
function key(c, names, width, option = {}) {
  if (names.length < 2) return [undefined, 12];
  const wide = (name) => Math.min([...name].length, 28) * 7.2 + 34;
  let rows = 1, used = 0;
  for (const name of names) {
    if (used && used + wide(name) > width) { rows += 1; used = 0; }
    used += wide(name);
  }
  const many = rows > 4;
  const scroll = many ? { type: "scroll", pageTextStyle: { color: c.soft }, pageIconColor: c.accent, pageIconInactiveColor: c.line } : {};
  return [legend(c, names, { ...scroll, width: width - 4, formatter: (name) => said(name, 28), ...option }), (many ? 1 : rows) * 22 + 16];
}

function scale(c, part, which, points, option) {
  const share = (part.percent || []).includes(which), values = points.map((p) => p[which === "x" ? 0 : 1]);
  const least = Math.min(...values), most = Math.max(...values);
  const whole = share && least >= 0 && least < 0.4 && most > 0.6 && most <= 1 ? { min: 0, max: 1, interval: 0.25 } : {};
  return axis(c, {
    type: (part.log || []).includes(which) ? "log" : "value", scale: true, ...whole, name: said(part[which], which === "x" ? 36 : 28), splitLine: grid(c),
    ...option, axisLabel: { formatter: (x) => short(x, share), hideOverlap: true, margin: which === "x" ? 14 : 8 },
  });
}

charts.lines = function (part, { c, width }) {
  const [names, top] = key(c, part.series.map((s) => s.name), width);
  const shared = (which) => (part.percent || []).includes(which);
  const points = part.series.flatMap((s) => s.points), solid = part.series.filter((s) => !s.dashed);
  return frame(c, {
    legend: names,
    grid: { left: 64, right: 16, top, bottom: 54 },
    height: 250 + top,
    tooltip: { trigger: "item", formatter: (p) => tip(said(p.seriesName), [[part.x || "x", figure(p.value[0], shared("x"))], [part.y || "y", figure(p.value[1], shared("y"))]]) },
    xAxis: scale(c, part, "x", points, { nameGap: 36, splitNumber: width < 520 ? 4 : 8, splitLine: { show: false } }),
    yAxis: scale(c, part, "y", points, { nameGap: 48, splitNumber: 4, axisLine: { show: false } }),
    series: part.series.map((s) => ({
      name: s.name, type: "line", data: s.points, symbol: "circle", symbolSize: s.dots && s.points.length < 200 ? 8 : 5, showSymbol: s.dots || (!s.dashed && s.points.length <= 30),
      color: s.dashed ? c.soft : tones(c)[solid.indexOf(s) % 7], lineStyle: { width: s.dots ? 0 : s.dashed ? 1.5 : 2, type: s.dashed ? "dashed" : "solid" },
      emphasis: { focus: "series" }, z: s.dashed ? 1 : 2,
    })),
  });
};

// Lying bars. On a narrow chart a label stands above its bars, so that they keep the width.
charts.bars = function (part, { c, width }) {
  const narrow = width < 460, n = part.series.length, bar = n === 1 ? 16 : 12;
  const say = (x) => figure(x, part.percent);
  const longest = Math.max(...part.labels.map((l) => Math.min([...l].length, 60)));
  const left = narrow ? 6 : Math.min(width * 0.36, 7.6 * longest + 16);
  const [names, top] = key(c, part.series.map((s) => s.name), width, { itemHeight: 10 });
  const row = n * (bar + 4) + (narrow ? 38 : 16);
  const values = part.series.flatMap((s) => [...s.values, ...(s.low || []), ...(s.high || [])]).filter((x) => x !== null);
  const room = 8 * Math.max(1, ...values.map((x) => say(x).length)) + 16;
  const data = (s) => s.values.map((value, i) => ({ value, label: { position: value < 0 ? "left" : "right", show: !s.low } }));
  const whiskers = (s, k) => ({
    name: s.name, type: "custom", silent: true, z: 5, encode: { x: [1, 2], y: 0 }, data: s.values.map((v, i) => [i, s.low[i], s.high[i], v]),
    renderItem: (params, api) => {
      const i = params.dataIndex;
      if (s.low[i] === null || s.high[i] === null) return undefined;
      const [from, middle] = api.coord([s.low[i], i]), [to] = api.coord([s.high[i], i]);
      const y = middle + (k - (n - 1) / 2) * (bar + 4);
      const line = (x1, y1, x2, y2) => ({ type: "line", shape: { x1, y1, x2, y2 }, style: { stroke: c.ink, lineWidth: 1.5 } });
      const text = { type: "text", style: { text: say(s.values[i]), x: Math.max(to, api.coord([0, i])[0]) + 6, y, verticalAlign: "middle", fill: c.soft, fontSize: 12, fontFamily: c.font } };
      return { type: "group", children: [line(from, y, to, y), line(from, y - 4, from, y + 4), line(to, y - 4, to, y + 4), text] };
    },
  });
  const above = {
    type: "custom", silent: true, z: 6, encode: { y: 0 }, data: part.labels.map((_, i) => [i]),
    renderItem: (params, api) => {
      const y = api.coord([0, params.dataIndex])[1] - row / 2 + 9;
      return { type: "text", style: { text: said(part.labels[params.dataIndex], 80), x: 6, y, verticalAlign: "middle", fill: c.ink, fontSize: 13, fontFamily: c.font, width: width - 12, overflow: "truncate" } };
    },
  };
  return frame(c, {
    height: part.labels.length * row + top + 48,
    legend: names,
    grid: { left, right: room, top, bottom: 46 },
    tooltip: {
      trigger: "item",
      formatter: (p) => {
        const s = part.series.find((one) => one.name === p.seriesName), i = p.dataIndex, lines = [[said(s.name), say(s.values[i])]];
        if (s.low && s.low[i] !== null) lines.push(["interval", say(s.low[i]) + " to " + say(s.high[i])]);
        return tip(said(part.labels[i], 200), lines);
      },
    },
    xAxis: axis(c, { type: "value", name: said(part.x, 36), nameGap: 28, splitNumber: narrow ? 3 : 5, splitLine: grid(c), axisLabel: { formatter: (x) => short(x, part.percent), hideOverlap: true } }),
    yAxis: axis(c, {
      type: "category", inverse: true, data: part.labels.map((l, i) => i + " " + l.slice(0, 10)), axisLine: { show: false },
      axisLabel: { show: !narrow, interval: 0, formatter: (_, i) => said(part.labels[i], 60), color: c.ink, fontSize: 13, width: left - 12, overflow: "truncate" },
    }),
    series: [
      ...part.series.map((s, k) => ({
        name: s.name, type: "bar", barWidth: bar, barGap: (4 / bar) * 100 + "%", color: tones(c)[k % 7], data: data(s), itemStyle: { borderRadius: 2 },
        label: { color: c.soft, fontSize: 12, formatter: (p) => (p.value === null ? "" : say(p.value)) },
      })),
      ...part.series.map((s, k) => (s.low ? whiskers(s, k) : null)).filter(Boolean),
      ...(narrow ? [above] : []),
    ],
  });
};

charts.scatter = function (part, { c, width }) {
  const [names, top] = key(c, part.groups.map((g) => g.name), width, { icon: undefined, itemHeight: 10 });
  const points = part.groups.flatMap((g) => g.points), n = points.length;
  const size = n > 2000 ? 4 : n > 300 ? 6 : 9;
  return frame(c, {
    height: Math.max(320, Math.min(width * 0.62, 560)) + top,
    legend: names,
    grid: { left: 60, right: 16, top, bottom: 54 },
    tooltip: {
      trigger: "item",
      formatter: (p) => tip(said(p.value[2] ?? p.seriesName, 200), [[part.x || "x", figure(p.value[0])], [part.y || "y", figure(p.value[1])], ["group", said(p.seriesName)]]),
    },
    xAxis: scale(c, part, "x", points, { nameGap: 36, splitNumber: width < 520 ? 4 : 8 }),
    yAxis: scale(c, part, "y", points, { nameGap: 44, splitNumber: 5 }),
    series: part.groups.map((g, k) => ({
      name: g.name, type: "scatter", data: g.points, color: tones(c)[k % 7], symbol: SHAPES[Math.floor(k / 7) % 4], symbolSize: size,
      itemStyle: { opacity: n > 300 ? 0.65 : 0.85 }, emphasis: { focus: "series" },
    })),
  });
};

charts.sankey = function (part, { c, width }) {
  const label = Object.fromEntries(part.nodes.map((node) => [node.name, node.label || node.name]));
  const into = new Set(part.links.map((l) => l.target)), out = new Set(part.links.map((l) => l.source));
  const layer = layers(part), last = Math.max(...Object.values(layer));
  const columns = part.nodes.reduce((count, node) => ({ ...count, [layer[node.name]]: (count[layer[node.name]] || 0) + 1 }), {});
  const room = (width - 10) / (last + 1) - (last ? 14 : 0);
  const tight = last > 1 && room / 2 < 90; // names of the first column are whole there, and keep their colours
  const shown = [...new Set(Object.values(label))];
  return frame(c, {
    height: Math.max(240, Math.max(...Object.values(columns)) * (width < 520 ? 52 : 46)),
    tooltip: {
      trigger: "item",
      formatter: (p) => p.dataType === "edge" ? tip(said(label[p.data.source]) + " \u2192 " + said(label[p.data.target]), [["how many", figure(p.data.value)]])
        : tip(said(label[p.name], 200), [["how many", figure(p.value)]]),
    },
    series: [{
      type: "sankey", left: 2, right: 4, top: 8, bottom: 8, nodeWidth: 10, nodeGap: 16, draggable: false, emphasis: { focus: "adjacency" },
      label: { color: c.ink, fontSize: width < 520 ? 11.5 : 13, formatter: (p) => said(label[p.name], 40), textBorderColor: c.surface, textBorderWidth: 3, lineHeight: 14 },
      lineStyle: { color: "source", opacity: 0.28, curveness: 0.5 },
      data: part.nodes.filter((node) => into.has(node.name) || out.has(node.name)).map((node) => ({
        name: node.name, itemStyle: { color: tones(c)[shown.indexOf(label[node.name]) % 7] }, label: {
          position: layer[node.name] === last && last ? "left" : "right", width: Math.max(30, layer[node.name] < last - 1 ? room : room / 2 - 8),
          overflow: tight && layer[node.name] >= last - 1 ? "truncate" : "break",
        },
      })),
      links: part.links.filter((l) => l.value > 0).map((l) => ({ source: l.source, target: l.target, value: l.value })),
    }],
  });
};

// The longest way from a node without inflow: the column ECharts will put it in.
function layers(part) {
  const layer = Object.fromEntries(part.nodes.map((node) => [node.name, 0]));
  for (let moved = true; moved;) {
    moved = false;
    for (const { source, target } of part.links) {
      if (layer[target] <= layer[source]) { layer[target] = layer[source] + 1; moved = true; }
    }
  }
  return layer;
}

const valued = (node) => (node.value === undefined || node.value === null ? "" : " \u00b7 " + figure(node.value));

// From left to right where there is room, else as an outline: a line per node, set in by its depth.
charts.tree = function (part, { c, width }) {
  const rows = [], leaves = (node) => (node.children?.length ? node.children.reduce((sum, child) => sum + leaves(child), 0) : 1);
  const walk = (node, depth) => { rows.push([node, depth]); (node.children || []).forEach((child) => walk(child, depth + 1)); };
  walk(part.root, 0);
  const levels = Math.max(...rows.map(([, depth]) => depth)) + 1;
  if (width / levels < 150) return outline(rows, { c, width, levels });
  const room = width / levels - 26;
  const drawn = (node) => ({ name: node.name, value: node.value, note: node.note, children: (node.children || []).map(drawn) });
  return frame(c, {
    height: Math.max(200, leaves(part.root) * 40 + 40),
    tooltip: { trigger: "item", formatter: (p) => tip(said(p.data.name, 200), [...(p.data.value === undefined ? [] : [["value", figure(p.data.value)]]), ...(p.data.note ? [["", said(p.data.note, 200)]] : [])]) },
    series: [{
      type: "tree", data: [drawn(part.root)], orient: "LR", left: 10, right: room + 16, top: 24, bottom: 14, initialTreeDepth: -1, expandAndCollapse: false, roam: false,
      symbol: "circle", symbolSize: 8, itemStyle: { color: c.accent, borderColor: c.accent }, lineStyle: { color: c.grey, width: 1.2, curveness: 0.5 },
      label: { position: "top", offset: [-5, 2], distance: 8, align: "left", verticalAlign: "bottom", color: c.ink, fontSize: 12.5, lineHeight: 15, width: room, overflow: "break", textBorderColor: c.surface, textBorderWidth: 4,
        formatter: (p) => said(p.data.name, 48) + valued(p.data) },
      leaves: { label: { position: "right", offset: [0, 0], verticalAlign: "middle" } },
    }],
  });
};

function outline(rows, { c, width, levels }) {
  const high = 30, indent = Math.min(18, (width * 0.45) / levels);
  const at = (depth, i) => [8 + depth * indent, 18 + i * high];
  const elements = rows.flatMap(([node, depth], i) => {
    const [x, y] = at(depth, i);
    let above = i - 1;
    while (above >= 0 && rows[above][1] >= depth) above -= 1;
    const line = { type: "polyline", silent: true, shape: { points: [[x - indent, at(0, above)[1]], [x - indent, y], [x, y]] }, style: { stroke: c.grey, fill: null, lineWidth: 1.2 } };
    const dot = { type: "circle", silent: true, shape: { cx: x, cy: y, r: 4 }, style: { fill: c.accent } };
    const text = { type: "text", silent: true, style: { text: said(node.name, 80) + valued(node), x: x + 10, y, verticalAlign: "middle", fill: c.ink, font: "12.5px " + c.font, width: width - x - 16, overflow: "truncate" } };
    return depth ? [line, dot, text] : [dot, text];
  });
  return frame(c, { height: rows.length * high + 10, graphic: { elements }, tooltip: { show: false }, series: [] });
}

// The grid of a confusion matrix: numbers stand in the cells where they fit.
charts.heat = function (part, { c, width }) {
  const across = part.x_labels.length, down = part.y_labels.length;
  const longest = (labels) => Math.max(...labels.map((l) => Math.min([...l].length, 40)));
  const left = Math.min(width * 0.34, 7.4 * longest(part.y_labels) + 14) + (part.y ? 20 : 0);
  const cell = Math.max(4, Math.min((width - left - 8) / across, 90));
  const turned = longest(part.x_labels) * 7.2 > cell;
  const bottom = (turned ? Math.min(110, 7.2 * longest(part.x_labels)) : 18) + (part.x ? 26 : 10);
  const high = Math.max(cell * 0.62, Math.min(26, 480 / down), 4);
  const values = part.values.flat().filter((x) => x !== null), most = Math.max(...values, 0), least = Math.min(...values, 0);
  const say = (x) => figure(x, part.percent), fits = Math.max(...values.map((x) => say(x).length)) * 7.5 < cell && high >= 16;
  const labelled = (labels, from) => axis(c, { type: "category", data: labels.map((_, i) => String(i)), axisLine: { show: false }, nameTextStyle: { color: c.soft, fontSize: 12 }, name: said(from, 28) });
  const shown = (labels, option) => ({ color: c.ink, fontSize: 12, interval: "auto", formatter: (i) => said(labels[i], 40), overflow: "truncate", ...option });
  return frame(c, {
    height: down * high + bottom + 8,
    grid: { left, width: cell * across, top: 4, bottom },
    tooltip: { trigger: "item", formatter: (p) => tip(said(part.y_labels[p.value[1]]) + " \u00b7 " + said(part.x_labels[p.value[0]]), [[part.title.length < 40 ? part.title : "value", say(p.value[2] === "-" ? null : p.value[2])]]) },
    visualMap: { show: false, dimension: 2, min: least, max: most || 1, inRange: { color: [c.surface, c.accent] } },
    xAxis: { ...labelled(part.x_labels, part.x || ""), nameGap: bottom - 20, axisLabel: shown(part.x_labels, turned ? { rotate: 90, width: 100, interval: cell < 14 ? "auto" : 0 } : { interval: 0 }) },
    yAxis: { ...labelled(part.y_labels, part.y || ""), inverse: true, nameGap: left - 14, axisLabel: shown(part.y_labels, { width: left - 12 - (part.y ? 20 : 0), interval: high < 13 ? "auto" : 0 }) },
    series: [{
      type: "heatmap", itemStyle: { borderColor: c.line, borderWidth: cell < 10 ? 0 : 1 },
      data: part.values.flatMap((row, y) => row.map((value, x) => ({
        value: [x, y, value ?? "-"],
        label: { show: fits && value !== null, color: most && (value - least) / (most - least) > 0.55 ? c.surface : c.ink },
      }))),
      label: { fontSize: 12, formatter: (p) => say(p.value[2]) },
    }],
  });
};
