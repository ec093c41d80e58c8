// A table in place of each chart, made when it is opened.
function element(tag, text, attributes = {}) {
  const made = document.createElement(tag);
  if (text !== undefined) made.textContent = text;
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
}

function row(cells, head) {
  const made = element("tr");
  cells.forEach((cell, i) => {
    const tag = head || i === 0 ? "th" : "td";
    made.append(element(tag, cell, tag === "th" ? { scope: head ? "col" : "row" } : {}));
  });
  return made;
}

function tableOf({ head, rows }, caption) {
  const table = element("table"), top = element("thead"), body = element("tbody");
  table.append(element("caption", caption));
  top.append(row(head, true));
  rows.forEach((cells) => body.append(row(cells, false)));
  table.append(top, body);
  const scroll = element("div", undefined, { class: "scroll", tabindex: "0", role: "region", "aria-label": caption });
  scroll.append(table);
  return scroll;
}

// Put a figure's parts in place once: caption, chart, and the closed table.
function furnish(figure, name) {
  const caption = element("figcaption");
  const chart = element("div", undefined, { class: "chart", id: `chart-${name}`, role: "group", "aria-roledescription": "chart" });
  const details = element("details");
  details.append(element("summary", "Show as a table"));
  figure.append(caption, chart, details);
  details.addEventListener("toggle", () => fillTable(figure));
}

function fillTable(figure) {
  const details = figure.querySelector("details");
  details.querySelector(".scroll")?.remove();
  if (details.open && figure.table) details.append(tableOf(figure.table(), figure.querySelector("figcaption").textContent));
}
