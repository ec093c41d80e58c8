// The layers that wait most: where they stand between the baseline and the bound, and why.
const MOST_LAYERS = 10, AS_GOOD = 0.995;

function worstLayers(policy) {
  if (policy.reasons.length) return policy.reasons.map((reason) => reason.layer);
  const reached = values(policy.perLayer);
  return Array.from(reached.keys()).sort((a, b) => reached[a] - reached[b] || a - b).slice(0, MOST_LAYERS);
}

function worstChart() {
  const policy = policyNamed(state.policy), layers = worstLayers(policy), names = layers.map(layerName);
  const shown = [...new Set([report.baseline, policy.name, report.oracle])].filter(Boolean).map(policyNamed);
  const positions = layers.map((_, i) => i);
  const traces = shown.map((other) => {
    const style = styleOf(other.name), reached = values(other.perLayer);
    return mark(plain(other.name), layers.map((layer) => reached[layer]), positions, names, style.symbol, style.colour);
  });
  if (report.boundPerLayer) {
    const bound = values(report.boundPerLayer);
    traces.push(mark("bound", layers.map((layer) => bound[layer]), positions, names, "line-ns-open", colour("ink")));
  }
  return {
    caption: `Balancedness of the ${layers.length === 1 ? "layer" : `${layers.length} layers`} that ${policy.reasons.length ? "wait most" : "are least balanced"} under ${policy.name}`, traces,
    layout: layout(110 + 30 * layers.length, {
      xaxis: balanceAxis("balancedness over all windows", traces.map((trace) => trace.x)),
      yaxis: axis("layer", { tickmode: "array", tickvals: positions, ticktext: names, range: [layers.length - 0.4, -0.6] }), showlegend: true,
    }),
    table: () => ({
      head: ["layer", ...shown.map((other) => other.name), ...(report.boundPerLayer ? ["bound"] : [])],
      rows: layers.map((layer, i) => [names[i], ...traces.map((trace) => trace.x[i].toFixed(4))]),
    }),
    click: (point) => choose({ layer: layers[point.pointNumber] }),
  };
}

function mark(name, x, y, names, symbol, shade) {
  return {
    type: "scatter", mode: "markers", name, x, y, customdata: names, marker: { symbol, size: symbol.startsWith("line") ? 16 : 11, color: shade, line: { width: symbol.startsWith("line") ? 3 : 0, color: shade } },
    hovertemplate: "layer %{customdata}: %{x:.4f}<extra>%{fullData.name}</extra>",
  };
}

function listReasons() {
  const list = document.getElementById("reasons"), policy = policyNamed(state.policy);
  const waiting = policy.reasons.filter((reason) => reason.balancedness < AS_GOOD);
  if (policy.reasons.length && !waiting.length) list.replaceChildren(element("li", "All layers are as good as balanced."));
  else list.replaceChildren(...waiting.slice(0, 5).map((reason) => {
    const item = element("li"), head = element("p");
    head.append(element("strong", `Layer ${layerName(reason.layer)}`), ` at ${reason.balancedness.toFixed(3)}, ${percent(reason.waiting, 0)} of all waiting. ${reason.cause}`);
    item.append(head, element("p", reason.moment, { class: "moment" }));
    return item;
  }));
}
