// The replicas of each expert of a layer, beside what its tokens ask for.
function replicasChart() {
  const replicas = part(policyNamed(state.policy).replicas, state.layer), shares = part(report.shares, state.layer);
  const slots = replicas.reduce((sum, count) => sum + count, 0);
  const order = Array.from(replicas.keys());
  if (state.order === "load") order.sort((a, b) => shares[b] - shares[a] || a - b);
  const style = styleOf(state.policy), positions = order.map((_, i) => i), names = order.map(String);
  const traces = [
    {
      type: "bar", name: "slots", x: positions, y: order.map((expert) => replicas[expert]), marker: { color: style.colour }, customdata: names,
      hovertemplate: "expert %{customdata}: %{y} slots<extra></extra>",
    },
    {
      type: "scatter", mode: "markers", name: "slots by its share of the tokens", x: positions, y: order.map((expert) => shares[expert] * slots), customdata: order.map((expert) => [String(expert), percent(shares[expert], 2)]),
      marker: { symbol: "diamond", size: order.length > 100 ? 5 : 8, color: isDark() ? "#f0883e" : "#c04a00", line: { color: colour("card"), width: 1 } },
      hovertemplate: "expert %{customdata[0]}: %{customdata[1]} of the tokens, worth %{y:.2f} slots<extra></extra>",
    },
  ];
  const most = Math.max(4, Math.floor(chartWidth("replicas") / 34));
  return {
    caption: `Slots of each expert in layer ${layerName(state.layer)}: ${state.policy}, the last placement; tokens of all windows`, traces,
    layout: layout(300, {
      xaxis: axis(state.order === "load" ? "expert, most tokens first" : "expert", { ...ticks(names, most), range: [-0.8, names.length - 0.2], showgrid: false, tickangle: 0 }),
      yaxis: axis("slots", { rangemode: "tozero" }), bargap: order.length > 100 ? 0.1 : 0.25, showlegend: true,
    }),
    table: () => ({
      head: ["expert", "slots", "share of the tokens", "slots by that share"],
      rows: order.map((expert) => [String(expert), String(replicas[expert]), percent(shares[expert], 2), (shares[expert] * slots).toFixed(2)]),
    }),
  };
}
