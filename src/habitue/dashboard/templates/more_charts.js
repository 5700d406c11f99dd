// Money, people and words.

// Upright where there is room, lying on a phone; the number at the end of a group is actual over forecast.
charts.deciles = function (rows, { c, width }) {
  const lying = width < 520;
  const series = (name, key, color) => ({
    name, type: "bar", color, barGap: "6%", barCategoryGap: "28%", data: rows.map((r) => r[key]), itemStyle: { borderRadius: 2 },
  });
  const bars = [["forecast", "forecast", c.grey], ["with season", "adjusted", c.gold], ["actual", "actual", c.accent]]
    .filter(([, key]) => key !== "adjusted" || rows.some((r) => r.adjusted !== r.forecast));
  const ends = rows.map((r) => Math.max(r.forecast, r.adjusted, r.actual));
  const ratios = {
    name: "actual over forecast", type: "scatter", symbolSize: 0, itemStyle: { opacity: 1 }, silent: true, data: lying ? ends.map((x, i) => [x, i]) : ends,
    label: {
      show: true, position: lying ? "right" : "top", color: c.soft, fontSize: 12, distance: 4,
      formatter: ({ dataIndex }) => {
        const ratio = rows[dataIndex].actual / rows[dataIndex].forecast;
        return Number.isFinite(ratio) ? "\u00d7" + number(ratio, ratio < 9.95 ? 1 : 0) : "";
      },
    },
  };
  const tenths = axis(c, { type: "category", inverse: lying, data: rows.map((r) => String(r.decile)), name: lying ? "" : "tenth of customers, by forecast", nameGap: 28 });
  const amounts = axis(c, { type: "value", splitNumber: lying ? 3 : 4, splitLine: grid(c), axisLine: { show: false }, axisLabel: { formatter: shortMoney } });
  return frame(c, {
    ...(lying ? { height: rows.length * 42 + 80 } : {}),
    legend: legend(c, bars.map(([name]) => name), { itemHeight: 10 }),
    grid: { left: lying ? 28 : 56, right: lying ? 34 : 8, top: 40, bottom: lying ? 28 : 44 },
    tooltip: {
      trigger: "axis", axisPointer: { type: "shadow" },
      formatter: (points) => tip(tenth(rows[points[0].dataIndex].decile) + ", " + number(rows[points[0].dataIndex].n) + " customers",
        points.filter((p) => p.seriesType === "bar").map((p) => [p.seriesName, money(p.value)])),
    },
    xAxis: lying ? amounts : tenths,
    yAxis: lying ? tenths : amounts,
    series: [...bars.map(([name, key, color]) => series(name, key, color)), ratios],
  });
};

function tenth(n) {
  return ["", "First", "Second", "Third", "Fourth", "Fifth", "Sixth", "Seventh", "Eighth", "Ninth", "Last"][n] + " tenth";
}

charts.totals = function (totals, { c }) {
  const rows = [["forecast", totals.forecast, c.grey], ["with season", totals.adjusted, c.gold], ["actual", totals.actual, c.accent]]
    .filter(([name]) => name !== "with season" || totals.adjusted !== totals.forecast);
  return frame(c, {
    grid: { left: 84, right: 66, top: 8, bottom: 28 },
    tooltip: { trigger: "item", formatter: (p) => tip(rows[p.dataIndex][0], [["in all", money(p.value)], ["of actual", percent(p.value / totals.actual, 1)]]) },
    xAxis: axis(c, { type: "value", min: 0, splitNumber: 2, splitLine: grid(c), axisLabel: { formatter: shortMoney } }),
    yAxis: axis(c, { type: "category", inverse: true, data: rows.map((r) => r[0]), axisLine: { show: false }, axisLabel: { color: c.ink, fontSize: 13 } }),
    series: [{
      type: "bar", barWidth: 26,
      data: rows.map(([, value, color]) => ({ value, itemStyle: { color, borderRadius: [0, 3, 3, 0] } })),
      label: { show: true, position: "right", color: c.ink, fontWeight: 600, formatter: (p) => shortMoney(p.value) },
    }],
  });
};

charts.launches = function (part, { c, width }) {
  const rows = (part.metrics || []).filter((r) => r.metric === "share_found");
  if (!rows.length) {
    rows.push({ model: "words", mean: part.share_found, low: part.low, high: part.high },
      { model: "busiest", mean: part.baseline_busiest }, { model: "chance", mean: part.chance });
  }
  return intervals(rows, { c, width, name: (r) => modelName(r.model), colour: (r) => colourOf(r.model, c), say: (x) => percent(x, 1), zero: true });
};

// The colour of a group is the same on the map and where it moves.
function toneOf(name, c) {
  const place = (report.personas.cards || []).findIndex((card) => card.name === name);
  const palette = [c.accent, c.gold, c.blue, c.rust, c.plum, c.leaf, c.rose, c.sky];
  return place < 0 ? c.soft : palette[place % palette.length];
}

charts.map = function (groups, { c, width }) {
  const names = groups.map((group) => group.name);
  const rows = width < 520 ? names.length : Math.ceil(names.length / 2);
  const hidden = { type: "value", show: false, min: -1.05, max: 1.05 };
  return frame(c, {
    height: Math.min(width, 520) + rows * 22,
    legend: legend(c, names, { itemHeight: 10, itemWidth: 10, icon: "circle", orient: width < 520 ? "vertical" : "horizontal", itemGap: 8 }),
    grid: { left: 4, right: 4, top: rows * 22 + 8, bottom: 4 },
    tooltip: { trigger: "item", formatter: (p) => tip(p.seriesName) },
    xAxis: hidden,
    yAxis: hidden,
    series: groups.map((group) => ({
      name: group.name, type: "scatter", symbolSize: 4, data: group.points, itemStyle: { color: toneOf(group.name, c), opacity: 0.7 },
    })),
  });
};

charts.moves = function (moves, { c, width }) {
  const node = (step, name) => step + ":" + (name ?? "");
  const said = (id) => id.slice(id.indexOf(":") + 1) || (id.startsWith("0") ? "not yet a customer" : "bought nothing");
  const order = (report.personas.cards || []).map((card) => card.name);
  const place = (name) => (order.indexOf(name) + 99) % 99;
  const ends = moves.flatMap((m) => [[m.step ?? 0, m.from], [(m.step ?? 0) + 1, m.to]]);
  const last = Math.max(...ends.map(([step]) => step));
  const names = [...new Map(ends.map((end) => [node(...end), end])).values()]
    .sort((a, b) => a[0] - b[0] || place(a[1]) - place(b[1]))
    .map(([step, name]) => ({
      name: node(step, name), depth: step, itemStyle: { color: toneOf(name, c) },
      label: { show: step === 0 || step === last || width >= 700, position: step === last ? "left" : "right" },
    }));
  // On a phone the step between has no names, so those at the ends have half the width, and one line each.
  const narrow = width < 520;
  const label = narrow ? { fontSize: 11.5, width: width * 0.46, overflow: "truncate", formatter: (p) => said(p.name).replace(/ customers$/, "") }
    : { fontSize: 13, width: width * 0.44 / last, overflow: "break", lineHeight: 15, formatter: (p) => said(p.name) };
  return frame(c, {
    tooltip: {
      trigger: "item",
      formatter: (p) => p.dataType === "edge" ? tip(said(p.data.source) + " \u2192 " + said(p.data.target), [["customers", number(p.value)]])
        : tip(said(p.name), [["customers", number(p.value)]]),
    },
    series: [{
      type: "sankey", left: 2, right: 2, top: 8, bottom: 8, nodeWidth: 10, nodeGap: narrow ? 12 : 14, draggable: false, layoutIterations: 0,
      emphasis: { focus: "adjacency" },
      label: { color: c.ink, textBorderColor: c.surface, textBorderWidth: 3, ...label },
      lineStyle: { color: "source", opacity: 0.28, curveness: 0.5 },
      data: names,
      links: moves.filter((m) => m.n > 0).map((m) => ({ source: node(m.step ?? 0, m.from), target: node((m.step ?? 0) + 1, m.to), value: m.n })),
    }],
  });
};

charts.findings = function (rows, { c, width }) {
  const sorted = [...rows].sort((a, b) => Math.abs(b.money) - Math.abs(a.money));
  const said = (p) => shortMoney(p.value) + " \u00b7 " + number(sorted[p.dataIndex].rows) + " rows";
  const labels = Math.min(width * 0.36, 8.2 * Math.max(...sorted.map((r) => r.code.length)) + 10);
  const negative = sorted.some((r) => r.money < 0);
  return frame(c, {
    height: sorted.length * 38 + 40,
    grid: { left: labels, right: width < 520 ? 24 : 150, top: 4, bottom: 32 },
    tooltip: { trigger: "item", formatter: (p) => tip(plain(sorted[p.dataIndex].code), [["money", money(p.value)], ["of net money", percent(sorted[p.dataIndex].share, 1)], ["rows", number(sorted[p.dataIndex].rows)]]) },
    xAxis: axis(c, { type: "value", splitNumber: width < 520 ? 2 : 4, splitLine: grid(c), axisLabel: { formatter: shortMoney, hideOverlap: true } }),
    yAxis: axis(c, { type: "category", inverse: true, data: sorted.map((r) => plain(r.code)), axisLine: { show: false }, axisLabel: { color: c.ink, fontSize: 13, width: labels - 8, overflow: "break", lineHeight: 15 } }),
    series: [{
      type: "bar", barWidth: 18,
      data: sorted.map((r) => ({ value: r.money, itemStyle: { color: r.money < 0 ? c.rust : c.accent, borderRadius: 3 } })),
      label: { show: width >= 520, position: "right", color: c.soft, fontSize: 12, formatter: said },
      markLine: negative ? { symbol: "none", silent: true, label: { show: false }, lineStyle: { color: c.soft, type: "solid" }, data: [{ xAxis: 0 }] } : undefined,
    }],
  });
};

charts.deciding = function (rows, { c }) {
  const sorted = [...rows].sort((a, b) => b.weight - a.weight);
  return frame(c, {
    height: sorted.length * 26 + 40,
    grid: { left: 8, right: 8, top: 4, bottom: 28 },
    tooltip: { trigger: "item", formatter: (p) => tip(sorted[p.dataIndex].word, [[p.value > 0 ? "speaks for" : "speaks against", number(p.value, 2)]]) },
    xAxis: axis(c, { type: "value", splitLine: grid(c), axisLabel: { formatter: (x) => number(x, 1) } }),
    yAxis: axis(c, { type: "category", inverse: true, data: sorted.map((r) => r.word), axisLine: { show: false }, axisLabel: { show: false } }),
    series: [{
      type: "bar", barWidth: 16,
      data: sorted.map((r) => ({ value: r.weight, itemStyle: { color: r.weight < 0 ? c.rust : c.accent, borderRadius: 3 },
        label: { show: true, position: r.weight < 0 ? "right" : "left", color: c.ink, fontSize: 12.5, formatter: r.word.replaceAll("{", "(") } })),
    }],
  });
};

charts.importance = function (rows, { c, width }) {
  const sorted = [...rows].sort((a, b) => b.share - a.share).slice(0, 8);
  const labels = Math.min(width * 0.45, 170);
  return frame(c, {
    height: sorted.length * 30 + 36,
    grid: { left: labels, right: 52, top: 4, bottom: 28 },
    tooltip: { trigger: "item", formatter: (p) => tip(sorted[p.dataIndex].column, [["share of the gain", percent(p.value, 1)]]) },
    xAxis: axis(c, { type: "value", splitNumber: 3, splitLine: grid(c), axisLabel: { formatter: (x) => percent(x), hideOverlap: true } }),
    yAxis: axis(c, { type: "category", inverse: true, data: sorted.map((r) => r.column), axisLine: { show: false }, axisLabel: { color: c.ink, fontSize: 12.5, width: labels - 8, overflow: "truncate" } }),
    series: [{ type: "bar", barWidth: 14, color: c.blue, data: sorted.map((r) => r.share), itemStyle: { borderRadius: 3 }, label: { show: true, position: "right", color: c.soft, fontSize: 12, formatter: (p) => percent(p.value) } }],
  });
};
