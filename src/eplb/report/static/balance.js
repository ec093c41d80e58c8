// Balancedness over time, and against what is moved.
// An axis that ends at 1, which nothing exceeds, and begins below the least.
function balanceAxis(title, lists) {
  const least = Math.min(...lists.map((list) => Math.min(...list)), 0.98), room = 0.07 * (1 - least);
  return axis(title, { tickformat: least > 0.9 ? ".3f" : ".2f", range: [least - 1.5 * room, 1 + room], nticks: 7 });
}

function pointNames() {
  const { first, size, last } = report.points, names = [];
  for (let start = first; start <= last; start += size) names.push([start, Math.min(start + size - 1, last)]);
  return names;
}

function balanceChart() {
  return report.replayed && values(report.policies[0].balancedness).length > 1 ? balanceLines() : balanceBars();
}

function balanceLines() {
  const spans = pointNames(), x = spans.map(([first]) => first), texts = spans.map(span);
  const traces = report.policies.map((policy) => {
    const style = styleOf(policy.name);
    return {
      type: "scatter", mode: "lines+markers", name: plain(policy.name), x, y: Array.from(values(policy.balancedness)), text: texts,
      line: { color: style.colour, dash: style.dash, width: style.width },
      marker: { symbol: style.symbol, size: 8, color: style.colour, maxdisplayed: 9 },
      hovertemplate: "%{text}: %{y:.4f}<extra>%{fullData.name}</extra>",
    };
  });
  if (report.bound) {
    traces.push({
      type: "scatter", mode: "lines", name: "bound: no plan exceeds it", x, y: Array.from(values(report.bound)), text: texts,
      line: { color: colour("ink"), dash: "2px 2px", width: 1.5 }, hovertemplate: "%{text}: %{y:.4f}<extra>bound</extra>",
    });
  }
  const size = report.points.size;
  return {
    caption: "Balancedness of each window by policy" + (size > 1 ? `; a point is the mean of ${size} windows` : ""),
    traces,
    layout: layout(400, { xaxis: axis("window", { range: [x[0] - 0.01 * (x[x.length - 1] - x[0]), x[x.length - 1] + 0.01 * (x[x.length - 1] - x[0])] }), yaxis: balanceAxis("balancedness", traces.map((trace) => trace.y)) }),
    table: () => ({
      head: ["windows", ...report.policies.map((policy) => policy.name), ...(report.bound ? ["bound"] : [])],
      rows: texts.map((text, i) => [text, ...traces.map((trace) => trace.y[i].toFixed(4))]),
    }),
  };
}

function balanceBars() {
  const names = report.policies.map((policy) => policy.name), means = report.policies.map((policy) => policy.mean);
  const all = [...names, ...(report.bound ? ["bound"] : [])], heights = [...means, ...(report.bound ? [values(report.bound)[0]] : [])];
  const traces = [{
    type: "bar", orientation: "h", y: all.map(plain), x: heights, text: heights.map((v) => v.toFixed(4)), textposition: "inside",
    insidetextanchor: "end", insidetextfont: { color: colour("card") }, hovertemplate: "%{y}: %{x:.4f}<extra></extra>",
    marker: { color: all.map((name) => (policyNamed(name) ? styleOf(name).colour : colour("soft"))) },
  }];
  return {
    caption: "Balancedness of the one window", traces,
    layout: layout(80 + 42 * all.length, {
      xaxis: axis("balancedness", { range: [0, 1] }), yaxis: axis("", { autorange: "reversed", type: "category", automargin: true }), showlegend: false,
    }),
    table: () => ({ head: ["policy", "balancedness"], rows: all.map((name, i) => [name, heights[i].toFixed(4)]) }),
  };
}

function movedText(moves) {
  const share = `${percent(moves / report.numSlots)} of the slots`;
  return report.expertBytes ? `${share}, ${bytesText(moves * report.expertBytes)}` : share;
}

function budgetText(point) {
  return point.budget === null ? "" : point.budget === 1 ? "no limit" : percent(point.budget, 0);
}

// Squares spread out what moves little, where the choice is made; ticks say what is meant.
function movedAxis(points) {
  const unit = report.expertBytes ? report.expertBytes : 1 / report.numSlots;
  const most = Math.max(...points.map((point) => point.moves * unit), 0.01 * report.numSlots * unit);
  const steps = [0], gap = Math.max(0.06, 42 / chartWidth("frontier")), top = 10 ** Math.floor(Math.log10(most));
  for (const step of [0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5]) if (top * step <= most * 1.05) steps.push(top * step);
  const kept = steps.reduce((list, step) => (list.length && Math.sqrt(step / most) - Math.sqrt(list[list.length - 1] / most) < gap ? list : [...list, step]), []);
  return {
    at: (moves) => Math.sqrt(moves * unit),
    axis: axis(report.expertBytes ? "bytes moved in a window" : "slots moved in a window", {
      tickmode: "array", tickangle: 0, tickvals: kept.map(Math.sqrt), ticktext: kept.map((step) => (report.expertBytes ? bytesText(step) : percent(step, step >= 0.01 || step === 0 ? 0 : step >= 0.001 ? 1 : 2))),
      range: [-0.03 * Math.sqrt(most), 1.06 * Math.sqrt(most)],
    }),
  };
}

function frontierChart() {
  const points = report.frontier.filter((point) => !point.ceiling), moved = movedAxis(points);
  const names = [...new Set(points.map((point) => point.policy))];
  const traces = names.map((name) => {
    const style = styleOf(name), own = points.filter((point) => point.policy === name).sort((a, b) => a.moves - b.moves);
    return {
      type: "scatter", mode: "lines+markers+text", name: plain(name), x: own.map((point) => moved.at(point.moves)), y: own.map((point) => point.balancedness),
      text: labels(own, moved), textposition: "bottom center", textfont: { color: colour("soft"), size: 12 },
      customdata: own.map((point) => [movedText(point.moves), budgetText(point) ? `<br>budget of a replan: ${budgetText(point)}` : ""]),
      line: { color: style.colour, dash: style.dash, width: 2 }, marker: { symbol: style.symbol, size: 12, color: style.colour },
      hovertemplate: "balancedness %{y:.4f}<br>%{customdata[0]} a window%{customdata[1]}<extra>%{fullData.name}</extra>",
    };
  });
  const ceiling = report.frontier.find((point) => point.ceiling);
  if (ceiling) traces.push(levelLine(`${ceiling.policy}, whatever it moves`, ceiling.balancedness, moved.axis.range, styleOf(ceiling.policy)));
  if (report.bound) traces.push(levelLine("bound", mean(values(report.bound)), moved.axis.range, { colour: colour("ink"), dash: "2px 2px" }));
  return {
    caption: "Mean balancedness of the windows against moves in a window, by policy and budget; the scale below spreads out what moves little (square root)", traces,
    layout: layout(380, { xaxis: moved.axis, yaxis: balanceAxis("mean balancedness", traces.map((trace) => trace.y)) }),
    table: () => ({
      head: ["policy", "budget of a replan", "moved a window", "mean balancedness"],
      rows: report.frontier.map((point) => [point.policy, budgetText(point), movedText(point.moves), point.balancedness.toFixed(4)]),
    }),
  };
}

// The budgets of points, where they do not run into the label before.
function labels(points, moved) {
  const [left, right] = moved.axis.range;
  let last = -Infinity;
  return points.map((point) => {
    const at = moved.at(point.moves) / (right - left);
    if (at - last < Math.max(0.04, 34 / chartWidth("frontier"))) return "";
    last = at;
    return budgetText(point);
  });
}

function levelLine(name, level, range, style) {
  return {
    type: "scatter", mode: "lines", name: plain(name), x: range, y: [level, level], line: { color: style.colour, dash: style.dash, width: 1.5 },
    hovertemplate: `${plain(name)}: %{y:.4f}<extra></extra>`,
  };
}

function mean(numbers) {
  return numbers.reduce((sum, value) => sum + value, 0) / numbers.length;
}
