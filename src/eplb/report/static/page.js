// The controls, and which charts they redraw.
const CHARTS = {
  balance: balanceChart, frontier: frontierChart, before: beforeChart, after: afterChart, layer: layerChart, replicas: replicasChart,
  moves: movesChart, worst: worstChart,
};
const DEPENDS = {
  policy: ["before", "after", "layer", "replicas", "moves", "worst"], layer: ["before", "after", "layer", "replicas"],
  time: ["before", "after", "layer"], order: ["replicas"], movesBy: ["moves"],
};
const state = { policy: report.best, layer: 0, time: report.watched ? report.worstShown + 1 : 0, order: "load", movesBy: "layer" };
const scheme = window.matchMedia("(prefers-color-scheme: dark)");
const byId = (id) => document.getElementById(id);

function visibleCharts() {
  return [...document.querySelectorAll("figure[data-chart]")].filter((figure) => !figure.closest("[hidden]"));
}

function draw(figure) {
  const made = CHARTS[figure.dataset.chart](), chart = figure.querySelector(".chart");
  figure.querySelector("figcaption").textContent = made.caption;
  figure.table = made.table;
  chart.setAttribute("aria-label", made.empty ? made.empty : `${made.caption}. The same as a table follows.`);
  figure.querySelector("details").hidden = Boolean(made.empty);
  if (made.empty) {
    Plotly.purge(chart);
    chart.replaceChildren(element("p", made.empty, { class: "empty" }));
    return;
  }
  chart.querySelector(".empty")?.remove();
  Plotly.react(chart, made.traces, { ...made.layout, width: chart.clientWidth }, CONFIG);
  chart.removeAllListeners?.("plotly_click");
  if (made.click) chart.on("plotly_click", (event) => made.click(event.points[0]));
  fillTable(figure);
}

function redraw(names) {
  visibleCharts().filter((figure) => !names || names.includes(figure.dataset.chart)).forEach(draw);
}

function choose(change) {
  Object.assign(state, change);
  reflect();
  redraw([...new Set(Object.keys(change).flatMap((name) => DEPENDS[name]))]);
  byId("status").textContent = `Charts show ${state.policy}, layer ${layerName(state.layer)}, ${timeText()}.`;
}

function reflect() {
  byId("policy").value = state.policy;
  byId("layer").value = String(state.layer);
  byId("time").value = String(state.time);
  byId("time").setAttribute("aria-valuetext", timeText());
  byId("time-text").textContent = timeText();
  document.querySelectorAll(".layer-name").forEach((place) => { place.textContent = layerName(state.layer); });
  listReasons();
}

function fillControls() {
  byId("policy").append(...report.policies.map((policy) => element("option", policy.name, { value: policy.name })));
  byId("layer").append(...report.layers.map((_, i) => element("option", layerName(i), { value: String(i) })));
  byId("time").max = String(report.bins.length);
  byId("time").closest("label").hidden = report.bins.length === 1;
  byId("policy").addEventListener("change", (event) => choose({ policy: event.target.value }));
  byId("layer").addEventListener("change", (event) => choose({ layer: Number(event.target.value) }));
  byId("time").addEventListener("input", (event) => choose({ time: Number(event.target.value) }));
  byId("order").addEventListener("change", (event) => choose({ order: event.target.value }));
  byId("moves-by").addEventListener("change", (event) => choose({ movesBy: event.target.value }));
}

function hideWhatIsMissing() {
  const there = {
    frontier: report.frontier.length > 0, watched: report.watched, controls: report.policies.length > 1 || report.watched, moves: report.replayed,
    several: report.bins.length > 1,
  };
  document.querySelectorAll("[data-needs]").forEach((part) => { part.hidden = !there[part.dataset.needs]; });
  byId("layer").closest("label").hidden = !report.watched;
}

function setTheme(dark) {
  document.documentElement.dataset.theme = dark ? "dark" : "light";
  byId("theme").setAttribute("aria-pressed", String(dark));
}

// Paper is light and narrow: charts are drawn anew for it, and again afterwards.
function forPaper(on) {
  if (printing === on) return;
  const dark = document.documentElement.dataset.theme === "dark";
  if (on) document.documentElement.dataset.shown = dark ? "dark" : "light";
  printing = on;
  setTheme(on ? false : document.documentElement.dataset.shown === "dark");
  document.body.style.width = on ? "680px" : "";
  redraw();
}

function start() {
  setTheme(scheme.matches);
  state.layer = worstLayers(policyNamed(state.policy))[0] ?? 0;
  hideWhatIsMissing();
  fillControls();
  document.querySelectorAll("figure[data-chart]").forEach((figure) => furnish(figure, figure.dataset.chart));
  reflect();
  const waiting = visibleCharts();
  const marks = document.documentElement.dataset;
  const next = () => {
    const figure = waiting.shift();
    if (!figure || figure.getBoundingClientRect().top > window.innerHeight) marks.opened = "yes"; // the first screen is there
    if (figure) { draw(figure); setTimeout(next); } else { marks.drawn = "yes"; }
  };
  next();
  byId("theme").addEventListener("click", () => { setTheme(!isDark()); redraw(); });
  scheme.addEventListener("change", (event) => { setTheme(event.matches); redraw(); });
  window.addEventListener("beforeprint", () => forPaper(true));
  window.addEventListener("afterprint", () => forPaper(false));
  window.matchMedia("print").addEventListener("change", (event) => forPaper(event.matches));
  let width = window.innerWidth, timer = 0;
  window.addEventListener("resize", () => {
    if (window.innerWidth === width || printing) return;
    width = window.innerWidth;
    clearTimeout(timer);
    timer = setTimeout(() => redraw(), 100);
  });
}

start();
