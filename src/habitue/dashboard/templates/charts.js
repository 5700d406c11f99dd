// One function per chart: (rows of the report, {c: colours, width, metric, slice}) -> an ECharts option.
// `height` in the answer, where there is one, is the height in pixels that the rows need.

const charts = {};

// A week that was partly seen and partly opened is two rows: one bar of two colours.
charts.weeks = function (rows, { c, width }) {
  const weeks = [...new Set(rows.map((r) => r.week))];
  const sums = (opened) => weeks.map((week) => rows.filter((r) => r.week === week && r.opened === opened).reduce((sum, r) => sum + r.money, 0));
  const first = rows.find((r) => r.opened);
  const series = (name, opened, style) => ({ name, type: "bar", stack: "money", barCategoryGap: "22%", data: sums(opened), itemStyle: style });
  const line = {
    symbol: "none", silent: true, lineStyle: { color: c.ink, type: "solid", width: 1.5 },
    label: { formatter: "sealed", color: c.ink, fontWeight: 600, position: "end" }, data: first ? [{ xAxis: first.week }] : [],
  };
  return frame(c, {
    grid: { left: 52, right: 8, top: 30, bottom: 32 },
    tooltip: {
      trigger: "axis", axisPointer: { type: "shadow" },
      formatter: (points) => tip("Week of " + day(weeks[points[0].dataIndex]), points.filter((p) => p.value).map((p) => [p.seriesName, money(p.value)])),
    },
    xAxis: axis(c, {
      type: "category", data: weeks,
      axisLabel: { margin: 14, interval: (i) => i % (width < 520 ? 13 : 8) === 0, formatter: (week) => day(week).replace(/^\d+ /, "") },
    }),
    yAxis: axis(c, { type: "value", splitNumber: 3, splitLine: grid(c), axisLine: { show: false }, axisLabel: { formatter: shortMoney } }),
    series: [series("seen", false, { color: c.grey, opacity: 0.6 }), { ...series("opened", true, { color: c.accent }), markLine: line }],
  });
};

charts.gains = function (curves, { c }) {
  return risen(curves, c, { called: "customers called, riskiest first", reached: "of the lost reached", tip: (x) => "Calling " + x + " of customers reaches" });
};

charts.visits = function (rows, { c }) {
  const curves = [...new Set(rows.map((r) => r.model))].map((model) => ({
    model, points: rows.filter((r) => r.model === model).map((r) => [r.share_of_visits, r.share_of_purchases]),
  }));
  return risen(curves, c, { called: "visits looked at, surest first", reached: "of the purchases", tip: (x) => "The surest " + x + " of visits hold" });
};

// Curves from (0, 0) to (1, 1): how much is reached by how many, best first.
function risen(curves, c, said) {
  const line = (curve, i) => ({
    name: modelName(curve.model), type: "line", showSymbol: false, data: curve.points, color: colourOf(curve.model, c, i),
    lineStyle: { width: curve.model === "behaviour" ? 3 : 2 }, emphasis: { focus: "series" },
  });
  return frame(c, {
    legend: legend(c, curves.map((curve) => modelName(curve.model))),
    grid: { left: 52, right: 14, top: 46, bottom: 48 },
    tooltip: {
      trigger: "axis",
      formatter: (points) => tip(said.tip(percent(points[0].value[0])), points.filter((p) => p.seriesName !== "guessing").map((p) => [p.seriesName, percent(p.value[1])])),
    },
    xAxis: axis(c, { type: "value", min: 0, max: 1, name: said.called, nameGap: 30, axisLabel: { formatter: (x) => percent(x) } }),
    yAxis: axis(c, { type: "value", min: 0, max: 1, name: said.reached, nameGap: 42, splitLine: grid(c), axisLabel: { formatter: (x) => percent(x) } }),
    series: [...curves.map(line), diagonal(c, "guessing")],
  });
}

charts.calibration = function (curves, { c }) {
  const largest = Math.max(...curves.flatMap((curve) => curve.bins.map((b) => b.n)));
  const line = (curve, i) => ({
    name: modelName(curve.model), type: "line", color: colourOf(curve.model, c, i), lineStyle: { width: 1.5 }, symbol: "circle",
    symbolSize: (value) => 4 + 6 * Math.sqrt(value[2] / largest),
    data: curve.bins.map((b) => [b.forecast, b.observed, b.n]),
  });
  return frame(c, {
    legend: legend(c, curves.map((curve) => modelName(curve.model))),
    grid: { left: 52, right: 14, top: 46, bottom: 48 },
    tooltip: {
      trigger: "item",
      formatter: (p) => p.seriesName === "as forecast" ? tip("as forecast") : tip(p.seriesName, [
        ["forecast", percent(p.value[0])], ["lost", percent(p.value[1])], ["customers", number(p.value[2])]]),
    },
    xAxis: axis(c, { type: "value", min: 0, max: 1, name: "forecast risk", nameGap: 30, axisLabel: { formatter: (x) => percent(x) } }),
    yAxis: axis(c, { type: "value", min: 0, max: 1, name: "were lost", nameGap: 42, splitLine: grid(c), axisLabel: { formatter: (x) => percent(x) } }),
    series: [...curves.map(line), diagonal(c, "as forecast")],
  });
};

function diagonal(c, name) {
  return {
    name, type: "line", data: [[0, 0], [1, 1]], showSymbol: false, silent: true, color: c.soft,
    lineStyle: { type: "dashed", width: 1.5 }, z: 1,
  };
}

charts.forest = function (rows, { c, width, metric, slice }) {
  const better = words.measures[metric]?.better;
  const order = { lower: (r) => r.mean, "near 0": (r) => Math.abs(r.mean) }[better] || ((r) => -r.mean);
  const chosen = rows.filter((r) => r.metric === metric && (!slice || r.slice === slice));
  chosen.sort((a, b) => order(a) - order(b));
  const slices = new Set(chosen.map((r) => r.slice));
  const name = (r) => (slices.size > 1 ? modelName(r.model) + ", " + sliceName(r.slice) : modelName(r.model));
  return intervals(chosen, { c, width, name, colour: (r) => colourOf(r.model, c), say: (x) => score(x, metric) });
};

charts.paired = function (rows, { c, width, metric, slice }) {
  const chosen = rows.filter((r) => r.metric === metric && r.slice === slice).sort((a, b) => b.mean - a.mean);
  const colour = (r) => (r.low > 0 ? c.accent : r.high < 0 ? c.rust : c.soft);
  return intervals(chosen, { c, width, name: (r) => modelName(r.model), colour, say: (x) => (x > 0 ? "+" : "") + number(x, 3), zero: true });
};

// A forest plot: a point and its interval per row, the value and n at the right. On a narrow chart the name stands above
// its interval, so that the intervals keep the width.
function intervals(rows, { c, width, name, colour, say, zero = false }) {
  const narrow = width < 460, right = 66;
  const left = narrow ? 8 : Math.min(width * 0.34, 7.6 * Math.max(...rows.map((r) => name(r).length)) + 14);
  const ends = rows.flatMap((r) => [r.low ?? r.mean, r.high ?? r.mean]).concat(zero ? [0] : []);
  const pad = (Math.max(...ends) - Math.min(...ends)) * 0.06 || Math.abs(ends[0]) * 0.05 || 0.05;
  function draw(params, api) {
    const r = rows[params.dataIndex], ink = colour(r, params.dataIndex), area = params.coordSys;
    const [low, middle] = api.coord([r.low ?? r.mean, params.dataIndex]);
    const [mean] = api.coord([r.mean, params.dataIndex]), [high] = api.coord([r.high ?? r.mean, params.dataIndex]);
    const y = narrow ? middle + 9 : middle;
    const line = (x1, y1, x2, y2) => ({ type: "line", shape: { x1, y1, x2, y2 }, style: { stroke: ink, lineWidth: 2 } });
    const text = (words, x, y, style) => ({ type: "text", style: { text: words, x, y, verticalAlign: "middle", fontFamily: c.font, ...style } });
    const children = [
      line(low, y, high, y), line(low, y - 5, low, y + 5), line(high, y - 5, high, y + 5),
      { type: "circle", shape: { cx: mean, cy: y, r: 4.5 }, style: { fill: ink, stroke: c.surface, lineWidth: 1.5 } },
      text(say(r.mean), area.x + area.width + 10, r.n ? y - 7 : y, { fill: c.ink, fontSize: 13, fontWeight: 600 }),
    ];
    if (r.n) children.push(text("n " + number(r.n), area.x + area.width + 10, y + 8, { fill: c.soft, fontSize: 11 }));
    if (narrow) children.push(text(name(r), area.x, middle - 9, { fill: c.ink, stroke: c.surface, lineWidth: 4, fontSize: 13, width: width - 16, overflow: "truncate" }));
    return { type: "group", children };
  }
  return frame(c, {
    height: rows.length * (narrow ? 46 : 38) + 40,
    grid: { left, right, top: 4, bottom: 32 },
    tooltip: {
      trigger: "item",
      formatter: (p) => {
        const r = rows[p.dataIndex], lines = [["measured", say(r.mean)]];
        if (r.low !== null && r.low !== undefined) lines.push(["interval", say(r.low) + " to " + say(r.high)]);
        if (r.n) lines.push(["n", number(r.n)]);
        return tip(name(r), lines);
      },
    },
    xAxis: axis(c, {
      type: "value", min: Math.min(...ends) - pad, max: Math.max(...ends) + pad, splitNumber: 3,
      splitLine: { ...grid(c), showMinLine: false, showMaxLine: false },
      axisLabel: { formatter: (x) => say(x), showMinLabel: false, showMaxLabel: false, hideOverlap: true },
    }),
    yAxis: axis(c, {
      type: "category", inverse: true, data: rows.map(name), axisLine: { show: false },
      axisLabel: { show: !narrow, color: c.ink, fontSize: 13, width: left - 12, overflow: "break", lineHeight: 15 },
    }),
    series: [{
      type: "custom", renderItem: draw, clip: false, encode: { x: [1, 2, 3], y: 0 },
      data: rows.map((r, i) => [i, r.low ?? r.mean, r.mean, r.high ?? r.mean]),
      markLine: zero ? { symbol: "none", silent: true, label: { show: false }, lineStyle: { color: c.ink, type: "solid" }, z: 1, data: [{ xAxis: 0 }] } : undefined,
    }],
  });
}
