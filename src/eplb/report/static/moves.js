// Moves over time: in all, and by layer or by the rank that receives.
function movesChart() {
  const policy = policyNamed(state.policy), totals = Array.from(values(policy.moves));
  const summed = Math.max(...report.bins.map(([first, last]) => last - first + 1));
  const caption = `Moves of ${policy.name}` + (summed > 1 ? `, each bar and cell the sum of up to ${summed} windows` : "");
  if (!totals.some((count) => count > 0)) return { caption, empty: `Nothing moves after the first plan of ${policy.name}.` };
  const texts = report.bins.map(span), x = report.bins.map((_, i) => i), style = styleOf(policy.name);
  const packed = state.movesBy === "rank" ? policy.movesByRank : policy.movesByLayer;
  const names = !packed ? [] : Array.from({ length: packed.shape[1] }, (_, i) => (state.movesBy === "rank" ? String(i) : layerName(i)));
  const traces = [{
    type: "bar", x, y: totals, customdata: texts, marker: { color: style.colour }, hovertemplate: "%{customdata}: %{y} moves<extra></extra>",
  }];
  const bars = 110, map = packed ? rowHeight(names.length) : 0, height = bars + map + (packed ? 165 : 60);
  const inner = height - (packed ? 112 : 56) - 12, split = packed ? map / inner : 0;
  if (packed) traces.push(moveMap(packed, x, texts, names));
  const marks = ticks(report.bins.map(([first]) => String(first)), Math.max(3, Math.floor(chartWidth("moves") / 60)));
  return {
    caption: `${caption}: in all${packed ? `, and by ${state.movesBy === "rank" ? "the rank that receives" : "layer"}` : ""}`, traces,
    layout: layout(height, {
      xaxis: axis("window", { ...marks, range: [-0.5, x.length - 0.5], showgrid: false, anchor: packed ? "y2" : "y" }),
      yaxis: axis("moves", { domain: packed ? [split + 24 / inner, 1] : [0, 1], rangemode: "tozero", nticks: 4, tickformat: "~s" }),
      yaxis2: axis(state.movesBy, { domain: [0, split], ...ticks(names, Math.min(20, Math.max(2, map / 16))), autorange: "reversed", showgrid: false }),
      margin: { l: 66, r: 8, t: 12, b: packed ? 100 : 44 }, showlegend: false, bargap: 0.15,
    }),
    table: () => ({
      head: ["windows", "moves", ...names.map((name) => `${state.movesBy} ${name}`)],
      rows: texts.map((text, i) => [text, String(totals[i]), ...(packed ? Array.from(part(packed, i), String) : [])]),
    }),
  };
}

function moveMap(packed, x, texts, names) {
  const byBin = rows(packed), z = names.map((_, i) => byBin.map((row) => row[i]));
  return {
    type: "heatmap", z, x, yaxis: "y2", colorscale: "Cividis", zmin: 0, xgap: names.length > 30 ? 0 : 1, ygap: names.length > 30 ? 0 : 1,
    customdata: names.map((name) => texts.map((text) => [text, `${state.movesBy} ${name}`])),
    hovertemplate: "%{customdata[1]}, %{customdata[0]}: %{z} moves<extra></extra>", colorbar: scaleBar("moves"),
  };
}
