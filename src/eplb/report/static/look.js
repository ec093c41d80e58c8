// How charts look: colours of Okabe and Ito, darkened or lightened for the theme; dashes and marks tell lines apart too.
const LIGHT = { baseline: "#6a6f75", ceiling: "#00805c", others: ["#0072b2", "#c04a00", "#a8558a", "#8a6d00", "#2b7fb0", "#333333"] };
const DARK = { baseline: "#a4adb6", ceiling: "#2fc795", others: ["#5ab4ee", "#f0883e", "#dd9cc3", "#e6c229", "#9ad0f5", "#dddddd"] };
const DASHES = ["solid", "dashdot", "longdash", "10px 3px 2px 3px", "4px 3px", "16px 4px"];
const SYMBOLS = ["circle", "square", "triangle-up", "cross", "star-diamond", "hexagon"];
const ORDER = ["eplb", "static", "deepseek"];
const COARSE = window.matchMedia("(pointer: coarse)").matches;
const CONFIG = {
  displaylogo: false, responsive: false, displayModeBar: COARSE ? false : "hover",
  modeBarButtons: [["toImage", "zoom2d", "pan2d", "zoomIn2d", "zoomOut2d", "resetScale2d"]], // none that sends anything away
};
let printing = false;

function isDark() {
  return document.documentElement.dataset.theme === "dark" && !printing;
}

function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
}

// Well-known policies have a look of their own in every report; others take what is left.
function styleOf(name) {
  const palette = isDark() ? DARK : LIGHT;
  if (name === report.baseline) return { colour: palette.baseline, dash: "dot", symbol: "x", width: 2 };
  if (policyNamed(name)?.ceiling) return { colour: palette.ceiling, dash: "dash", symbol: "diamond", width: 2 };
  const others = report.policies.map((policy) => policy.name).filter((other) => !ORDER.includes(other) && other !== report.baseline);
  const known = ORDER.indexOf(name);
  const index = (known >= 0 ? known : ORDER.length + others.indexOf(name)) % palette.others.length;
  return { colour: palette.others[index], dash: DASHES[index], symbol: SYMBOLS[index], width: name === report.best ? 3 : 2 };
}

function axis(title, more = {}) {
  return {
    title: { text: title, standoff: 8 }, automargin: false, gridcolor: colour("grid"), linecolor: colour("line"),
    zeroline: false, tickcolor: colour("line"), fixedrange: COARSE, ...more,
  };
}

function layout(height, more = {}) {
  return {
    height, autosize: true, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
    font: { family: getComputedStyle(document.body).fontFamily, size: 13, color: colour("ink") },
    margin: { l: 66, r: 12, t: 12, b: 48 }, dragmode: COARSE ? false : "zoom", hovermode: "closest",
    hoverlabel: { bgcolor: colour("card"), bordercolor: colour("soft"), font: { color: colour("ink"), size: 13 }, align: "left" },
    modebar: { color: colour("soft"), activecolor: colour("accent"), bgcolor: "rgba(0,0,0,0)" },
    legend: { orientation: "h", x: 0, xanchor: "left", y: 1.02, yanchor: "bottom", bgcolor: "rgba(0,0,0,0)" },
    ...more,
  };
}

// A bar of colours under a heat map.
function scaleBar(title, more = {}) {
  return {
    orientation: "h", thickness: 10, len: 0.9, x: 0.5, xanchor: "center", yref: "container", y: 0, yanchor: "bottom", ypad: 4, outlinewidth: 0,
    title: { text: title, side: "bottom", font: { size: 12 } }, tickfont: { size: 12 }, ...more,
  };
}

function chartWidth(name) {
  return Math.max(200, document.querySelector(`[data-chart=${name}]`).clientWidth - 60);
}

function rowHeight(count) {
  return Math.max(90, Math.min(620, count * (count > 30 ? 10 : count > 8 ? 16 : 24)));
}

// Ticks for names of layers and the like that do not run into each other.
function ticks(names, most) {
  const step = Math.max(1, Math.ceil(names.length / most));
  const kept = names.map((_, i) => i).filter((i) => i % step === 0);
  return { tickmode: "array", tickvals: kept, ticktext: kept.map((i) => names[i]) };
}
