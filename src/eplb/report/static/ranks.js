// Rank loads: heat maps over layers before and after, and one layer.
function timeText() {
  return state.time === 0 ? "sum of all windows" : `window ${report.shown[state.time - 1]}`;
}

function rankRows(name) {
  return rows(policyNamed(name).rankLoads, state.time).map(overMean);
}

// One scale for both heat maps, so that their colours can be compared; a single hot rank must not darken all others.
const MOST_SHOWN = 2;

function brightest() {
  const shown = [report.baseline, state.policy].filter((name) => name && policyNamed(name).rankLoads);
  const most = Math.max(1.05, ...shown.flatMap((name) => rankRows(name).map((row) => Math.max(...row.filter((v) => v !== null), 0))));
  return Math.min(MOST_SHOWN, most);
}

function heatChart(name, title) {
  const z = rankRows(name), names = report.layers.map((_, i) => layerName(i)), ranks = z[0].length;
  const gap = z.length > 30 || ranks > 40 ? 0 : 1, most = brightest();
  const traces = [{
    type: "heatmap", z, colorscale: "Cividis", zmin: 0, zmax: most, xgap: gap, ygap: gap,
    hovertemplate: "layer %{customdata}, rank %{x}: %{z:.3f} times the mean<extra></extra>", customdata: names.map((text) => Array(ranks).fill(text)),
    colorbar: scaleBar(`load over the mean of the layer${most === MOST_SHOWN ? `, ${MOST_SHOWN} and more brightest` : ""}`), hoverongaps: false,
  }];
  const outline = {
    type: "rect", xref: "paper", x0: 0, x1: 1, y0: state.layer - 0.5, y1: state.layer + 0.5, line: { color: isDark() ? "#ff9361" : "#d1500b", width: 2.5 },
  };
  return {
    caption: `${title}: ${name}, ${timeText()}`, traces,
    layout: layout(rowHeight(z.length) + 130, {
      xaxis: axis("rank", { dtick: Math.max(1, Math.ceil((ranks * 24) / chartWidth("after"))), showgrid: false, constrain: "domain" }),
      yaxis: axis("layer", { ...ticks(names, Math.min(20, rowHeight(z.length) / 16)), autorange: "reversed", showgrid: false }),
      shapes: z.length > 1 ? [outline] : [],
      margin: { l: 66, r: 8, t: 8, b: 100 },
    }),
    table: () => ({
      head: ["layer", ...z[0].map((_, rank) => `rank ${rank}`)],
      rows: z.map((row, i) => [names[i], ...row.map((v) => (v === null ? "failed" : v.toFixed(2)))]),
    }),
    click: (point) => choose({ layer: point.pointNumber[0] }),
  };
}

function beforeChart() {
  return report.baseline ? heatChart(report.baseline, "Before") : { caption: "Before", empty: "The experts in order were not replayed." };
}

function afterChart() {
  return heatChart(state.policy, "After");
}

function layerChart() {
  const after = rankRows(state.policy)[state.layer], style = styleOf(state.policy), ranks = after.map((_, rank) => rank);
  const traces = [{
    type: "bar", name: plain(state.policy), x: ranks, y: after, marker: { color: style.colour },
    hovertemplate: "rank %{x}: %{y:.3f} times the mean<extra>%{fullData.name}</extra>",
  }];
  const before = report.baseline && report.baseline !== state.policy ? rankRows(report.baseline)[state.layer] : null;
  if (before) {
    traces.push({
      type: "scatter", mode: "markers", name: `before: ${plain(report.baseline)}`, x: ranks, y: before,
      marker: { symbol: "line-ew", size: ranks.length > 40 ? 8 : 18, line: { width: 3, color: isDark() ? "#f4f6f8" : "#17202a" } },
      hovertemplate: "rank %{x}: %{y:.3f} times the mean<extra>before</extra>",
    });
  }
  return {
    caption: `Load of each rank in layer ${layerName(state.layer)} over its mean, ${timeText()}; the line at 1 is an equal share`, traces,
    layout: layout(300, {
      xaxis: axis("rank", { showgrid: false, range: [-0.6, ranks.length - 0.4], dtick: Math.max(1, Math.ceil((ranks.length * 24) / chartWidth("layer"))) }), yaxis: axis("load over the mean", { rangemode: "tozero" }), showlegend: true,
      shapes: [{ type: "line", xref: "paper", x0: 0, x1: 1, y0: 1, y1: 1, line: { color: colour("ink"), width: 1.5, dash: "dot" } }],
    }),
    table: () => ({
      head: ["rank", state.policy, ...(before ? ["before"] : [])],
      rows: ranks.map((rank) => [String(rank), ...[after, ...(before ? [before] : [])].map((row) => (row[rank] === null ? "failed" : row[rank].toFixed(3)))]),
    }),
  };
}
