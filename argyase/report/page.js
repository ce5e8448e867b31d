"use strict";
// Draws the page from the JSON in it. Text of the lake goes into the page by text nodes only (`el`); where plotly takes
// it, which reads some tags, by `plain`.

const report = JSON.parse(document.getElementById("data").textContent);
const COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#8A6D00", "#56B4E9", "#000000"]; // Okabe-Ito, darker yellow
const SYMBOLS = ["circle", "square", "diamond", "triangle-up", "cross", "star", "x"];
const CIVIDIS = ["#00224e", "#123570", "#3b496c", "#575d6d", "#707173", "#8a8678", "#a59c74", "#c3b369", "#e1cc55", "#fee838"];
const ATOMS = { S: "#E69F00", P: "#CC79A7", Cl: "#009E73", Br: "#8A4B00", I: "#6A3D9A", Li: "#56B4E9" };
const NAMES = {
  temperature_K: "temperature (K)", supercell: "cells", li_added: "Li added", length_ps: "length (ps)", source: "file", potential: "potential",
  halide: "halide", decoration: "decoration",
};
const CONFIG = { responsive: true, displaylogo: false, modeBarButtonsToRemove: ["select2d", "lasso2d"] };

function el(tag, attributes, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) {
    if (typeof value === "function") node.addEventListener(name, value);
    else if (value !== null && value !== undefined && value !== false) node.setAttribute(name, value);
  }
  for (const child of children.flat()) {
    if (child !== null && child !== undefined && child !== "") node.append(child);
  }
  return node;
}

const at = (id) => document.getElementById(id);
const plain = (text) => String(text).replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
const percent = (fraction) => `${+(100 * fraction).toFixed(2)} %`;
const short = (value) => (value === null || value === undefined ? "" : String(+value.toPrecision(6)));

function titleOf(run) {
  const l = run.labels;
  return [
    run.composition,
    l.inversion === undefined ? "" : `${percent(l.inversion)} inversion`,
    l.temperature_K === undefined ? "" : `${l.temperature_K} K`,
  ].filter(Boolean).join(", ");
}

// ---- the map ----

const facetNames = [...new Set(report.cells.flatMap((c) => Object.keys(c.facets)))]
  .filter((name) => new Set(report.cells.map((c) => String(c.facets[name]))).size > 1)
  .sort((a, b) => (b === "temperature_K") - (a === "temperature_K"));
let facets = mostCommon(report.cells);

function mostCommon(cells) {
  const counts = new Map();
  for (const cell of cells) {
    const key = JSON.stringify(facetNames.map((name) => String(cell.facets[name])));
    counts.set(key, (counts.get(key) || 0) + 1);
  }
  const best = [...counts].sort((a, b) => b[1] - a[1])[0];
  const values = best ? JSON.parse(best[0]) : [];
  return Object.fromEntries(facetNames.map((name, n) => [name, values[n]]));
}

const inFacets = (cell, some) => Object.entries(some).every(([name, value]) => String(cell.facets[name]) === value);

function drawFacets() {
  const choices = facetNames.map((name) => {
    const values = [...new Set(report.cells.map((c) => String(c.facets[name])))].sort((a, b) => a - b || a.localeCompare(b));
    const select = el("select", {
      id: `facet-${name}`,
      change: (event) => {
        const wanted = { ...facets, [name]: event.target.value };
        const possible = report.cells.some((c) => inFacets(c, wanted));
        facets = possible ? wanted : mostCommon(report.cells.filter((c) => String(c.facets[name]) === event.target.value));
        drawFacets();
        drawMap();
        at(`facet-${name}`).focus();
      },
    }, values.map((v) => el("option", { value: v, selected: v === facets[name] ? "" : null }, v === "undefined" ? "none" : v)));
    return el("label", {}, `${NAMES[name] || name} `, select);
  });
  at("facets").replaceChildren(...choices);
}

const shownValue = (c) => (c ? c.value ?? (c.low === 0 ? c.high : null) : null);

function colourScale(cells) {
  const values = cells.map((c) => shownValue(c.conductivity)).filter((v) => v > 0);
  if (!values.length) return null;
  const low = Math.min(...values), high = Math.max(...values), log = high > 30 * low;
  const bottom = log ? low : 0;
  const place = (v) => (log ? Math.log(v / low) / Math.log(high / low) : v / high);
  return { bottom, high, log, colour: (v) => cividis(v > 0 ? place(v) : 0) };
}

function cividis(t) {
  const s = Math.min(Math.max(t, 0), 1) * (CIVIDIS.length - 1), n = Math.min(Math.floor(s), CIVIDIS.length - 2);
  const [a, b] = [CIVIDIS[n], CIVIDIS[n + 1]].map((c) => [1, 3, 5].map((k) => parseInt(c.slice(k, k + 2), 16)));
  return a.map((v, k) => Math.round(v + (s - n) * (b[k] - v)));
}

function ink(rgb) {
  const [r, g, b] = rgb.map((v) => ((v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
  return 0.2126 * r + 0.7152 * g + 0.0722 * b > 0.179 ? "#000" : "#fff"; // at least 4.5 : 1 (WCAG)
}

function drawMap() {
  const cells = report.cells.filter((c) => inFacets(c, facets));
  if (!cells.length) {
    at("map").replaceChildren(el("p", { class: "absent" }, "No run has a composition x and an inversion: see the table."));
    at("points").hidden = true;
    return;
  }
  const scale = colourScale(cells);
  const unique = (key) => [...new Set(cells.map((c) => c[key]))].sort((a, b) => a - b);
  const columns = unique("inversion");
  const rows = unique("x").map((x) => {
    const here = cells.filter((c) => c.x === x);
    const formulas = [...new Set(here.map((c) => c.composition))];
    return el("tr", {}, el("th", { scope: "row" }, formulas.join(", "), el("small", {}, ` x = ${x}`)),
      columns.map((inversion) => mapCell(here.filter((c) => c.inversion === inversion), scale, x, inversion)));
  });
  const head = [
    el("tr", {}, el("th", { rowspan: 2, scope: "col" }, "composition"),
      el("th", { colspan: columns.length, scope: "colgroup" }, "S/halide site inversion")),
    el("tr", {}, columns.map((v) => el("th", { scope: "col" }, percent(v)))),
  ];
  const where = facetNames.map((name) => `${NAMES[name] || name} ${facets[name]}`).join(", ");
  const table = el("table", { "aria-label": `Conductivity in mS/cm${where ? ` at ${where}` : ""}` }, el("thead", {}, head), el("tbody", {}, rows));
  at("map").replaceChildren(table, ...(scale ? [colourBar(scale)] : []));
  drawPoints(cells);
  markOpen();
}

function colourBar(scale) {
  const stops = CIVIDIS.join(", ");
  return el("p", { class: "small" }, `${short(+scale.bottom.toPrecision(3))}`,
    el("span", { class: "bar", style: `background: linear-gradient(to right, ${stops}); print-color-adjust: exact` }),
    `${short(+scale.high.toPrecision(3))} mS/cm${scale.log ? " (logarithmic)" : ""}`);
}

function mapCell(cells, scale, x, inversion) {
  const runs = cells.flatMap((c) => c.runs);
  const waiting = cells.reduce((n, c) => n + c.missing, 0);
  if (!runs.length) {
    if (waiting) return el("td", { class: "missing", title: "asked for by the campaign, not in the lake" }, "to do");
    if (inversion < x) return el("td", { class: "impossible", title: "x <= inversion: 4a cannot hold more than one halide a site" }, "not possible");
    return el("td", { class: "missing", title: "no run in the lake" }, "no run");
  }
  const cell = cells.find((c) => c.runs.length), known = cell.conductivity, value = shownValue(known);
  const run = report.runs[cell.runs[0]];
  const [main, rest] = known ? split(known.text) : [run.stage === "md-failed" ? "stopped" : "no value", ""];
  const notes = [rest ? `(${rest})` : ""];
  if (cell.runs.length > 1) notes.push(cell.determined === cell.runs.length ? `${cell.runs.length} runs` : `${cell.determined} of ${cell.runs.length} runs`);
  if (waiting) notes.push(`${waiting} to do`);
  const flagged = cell.runs.some((i) => report.runs[i].flags.some((f) => !f.text.endsWith("not determined")));
  const rgb = value === null ? null : scale.colour(value);
  const bound = known !== null && known.value === null && value !== null;
  let style = "";
  if (rgb) {
    const colour = `rgb(${rgb.join(",")})`;
    style = bound
      ? `background: repeating-linear-gradient(45deg, ${colour} 0 6px, #fff 6px 12px); color: #000`
      : `background: ${colour}; color: ${ink(rgb)}`;
  }
  const kind = bound ? "bound" : rgb ? "known" : "none";
  const label = `${titleOf(run)}: conductivity ${known ? known.text : main} mS/cm; opens its details`;
  return el("td", {}, el("button", {
    type: "button", class: kind, style, "aria-label": label, "data-run": run.id, click: (e) => open(run.id, e.currentTarget),
  }, el("span", {}, main + (flagged ? " !" : "")), ...notes.filter(Boolean).map((n) => el("small", {}, el("span", {}, n)))));
}

function split(text) {
  const n = text.indexOf(" (");
  return n < 0 ? [text, ""] : [text.slice(0, n), text.slice(n + 2, -1)];
}

function axis(title, more) {
  return { title: { text: title, standoff: 8 }, linecolor: "#333", mirror: true, ticks: "inside", zeroline: false, gridcolor: "#e8ebef", ...more };
}

function layout(x, y, more) {
  return {
    xaxis: x, yaxis: y, margin: { l: 62, r: 14, t: 10, b: 46 }, font: { size: 12, color: "#16202c", family: "system-ui, sans-serif" },
    paper_bgcolor: "#fff", plot_bgcolor: "#fff", legend: { orientation: "h", y: 1.02, yanchor: "bottom", x: 0 }, ...more,
  };
}

const logAxis = (title, more) => axis(title, { type: "log", exponentformat: "power", dtick: 1, minor: { ticks: "inside", dtick: "D1" }, ...more });

function drawPoints(cells) {
  at("points").hidden = false;
  const traces = [];
  [...new Set(cells.map((c) => c.x))].sort((a, b) => a - b).forEach((x, n) => {
    const here = cells.filter((c) => c.x === x && c.conductivity).sort((a, b) => a.inversion - b.inversion);
    const known = here.filter((c) => c.conductivity.value !== null);
    const bounds = here.filter((c) => c.conductivity.value === null && c.conductivity.high !== null);
    const name = plain(here.length ? `${here[0].composition}, x = ${x}` : `x = ${x}`), color = COLOURS[n % COLOURS.length];
    const common = { type: "scatter", legendgroup: String(x), hovertemplate: "%{text}<extra></extra>" };
    const words = (c) => plain(`${c.composition}, ${percent(c.inversion)} inversion: ${c.conductivity.text} mS/cm`);
    const ends = (end, sign) => known.map((c) => (c.conductivity[end] === null ? 0 : sign * (c.conductivity[end] - c.conductivity.value)));
    traces.push({
      ...common, name, mode: "lines+markers", x: known.map((c) => 100 * c.inversion), y: known.map((c) => c.conductivity.value),
      error_y: { type: "data", symmetric: false, array: ends("high", 1), arrayminus: ends("low", -1), color, thickness: 1.2 },
      line: { color, width: 1 }, marker: { color, size: 8, symbol: SYMBOLS[n % SYMBOLS.length] },
      text: known.map(words), customdata: known.map((c) => report.runs[c.runs[0]].id),
    });
    if (bounds.length) {
      traces.push({
        ...common, name: `${name}: upper bounds`, mode: "markers", x: bounds.map((c) => 100 * c.inversion),
        y: bounds.map((c) => c.conductivity.high), marker: { color, size: 11, symbol: "triangle-down-open", line: { width: 2 } },
        text: bounds.map(words), customdata: bounds.map((c) => report.runs[c.runs[0]].id),
      });
    }
  });
  const y = axis("Li⁺ conductivity (mS/cm)", { rangemode: "tozero" });
  at("points").hidden = !traces.some((t) => t.x.length);
  if (at("points").hidden) return;
  Plotly.react(at("points"), traces, layout(axis("S/halide site inversion (%)", { range: [-6, 106] }), y, { hovermode: "closest", showlegend: true }), CONFIG);
  at("points").removeAllListeners("plotly_click");
  at("points").on("plotly_click", (event) => open(event.points[0].customdata, null));
}

// ---- the table ----

const text = (value) => (value === null || value === undefined ? "" : String(value));
const several = (name) => new Set(report.runs.map((r) => text(r.labels[name]))).size > 1;
const label = (name, title, more) => ({ title, value: (r) => r.labels[name] ?? null, number: true, ...more });
const quantity = (name, title) => ({
  title, value: (r) => (r[name] ? r[name].value ?? r[name].high : null), show: (r) => (r[name] ? r[name].text : ""), number: true,
  skip: report.runs.every((r) => !r[name]),
});
const COLUMNS = [
  { title: "composition", value: (r) => r.composition },
  label("x", "x"),
  label("inversion", "inversion", { show: (r) => (r.labels.inversion === undefined ? "" : percent(r.labels.inversion)) }),
  label("configurational_entropy", "ΔS/R"),
  label("temperature_K", "T (K)"),
  label("seed", "seed", { skip: !several("seed") }),
  label("replica", "replica", { skip: !several("replica") }),
  label("supercell", "cells", { number: false }),
  label("potential", "potential", { number: false, skip: !several("potential") }),
  { title: "length (ps)", value: (r) => r.length_ps, number: true },
  quantity("conductivity", "σ (mS/cm)"),
  quantity("haven_ratio", "Haven ratio"),
  quantity("crossing_rate", "hops per Li and ns"),
  { title: "flags", value: (r) => r.flags.map((f) => f.text).join(", ") },
  { title: "run", value: (r) => r.id.slice(0, 8) },
].filter((c) => !c.skip);
const shown = (column, run) => (column.show ? column.show(run) : text(column.value(run)));
let sorted = { column: null, down: false };
let order = report.runs.map((_, i) => i);

function drawTable() {
  const heads = COLUMNS.map((c) => el("th", {
    scope: "col", class: c.number ? "number" : null, "aria-sort": sorted.column === c ? (sorted.down ? "descending" : "ascending") : null,
  }, el("button", { type: "button", click: () => sortBy(c) }, c.title)));
  at("runs").tHead.replaceChildren(el("tr", {}, heads));
  at("runs").tBodies[0].replaceChildren(...order.map((i) => {
    const run = report.runs[i];
    const button = el("button", { type: "button", class: "link", "data-run": run.id, "aria-label": `open ${titleOf(run)}, run ${run.id.slice(0, 8)}` },
      shown(COLUMNS[0], run) || "run");
    return el("tr", { "data-run": run.id, click: (e) => open(run.id, e.currentTarget.querySelector("button")) },
      el("td", {}, button), COLUMNS.slice(1).map((c) => el("td", { class: c.number ? "number" : null }, shown(c, run))));
  }));
  filterRows();
  markOpen();
}

function compare(column) {
  return (i, j) => {
    const [a, b] = [i, j].map((n) => column.value(report.runs[n]));
    const none = (v) => v === null || v === "";
    if (none(a) || none(b)) return none(a) - none(b) || i - j; // at the end, whichever way
    const sign = sorted.down ? -1 : 1;
    return sign * (typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b), "en", { numeric: true })) || i - j;
  };
}

function sortBy(column) {
  sorted = { column, down: sorted.column === column && !sorted.down };
  order.sort(compare(column));
  drawTable();
  at("runs").tHead.querySelectorAll("button")[COLUMNS.indexOf(column)].focus();
}

function filterRows() {
  const words = at("filter").value.toLowerCase().split(/\s+/).filter(Boolean);
  let count = 0;
  order.forEach((i, n) => {
    const run = report.runs[i];
    const all = `${COLUMNS.map((c) => shown(c, run)).join(" ")} ${titleOf(run)} ${text(run.labels.potential)} ${run.id}`.toLowerCase();
    const fits = words.every((w) => all.includes(w));
    at("runs").tBodies[0].rows[n].hidden = !fits;
    count += fits;
  });
  at("count").textContent = `${count} of ${report.runs.length} runs`;
}

// ---- details ----

let opener = null;
let opened = null;

function open(id, from) {
  opener = from;
  if (location.hash === `#run=${id}`) showDetails();
  else location.hash = `run=${id}`;
}

function close() {
  history.replaceState(null, "", location.pathname + location.search);
  showDetails();
  if (opener && opener.isConnected) opener.focus();
}

function markOpen() {
  document.querySelectorAll("#map button").forEach((b) => {
    const cell = report.cells.find((c) => c.runs.some((i) => report.runs[i].id === b.dataset.run));
    b.setAttribute("aria-pressed", String(opened !== null && cell.runs.includes(opened)));
  });
  document.querySelectorAll("#runs tbody tr").forEach((row) => row.classList.toggle("open", opened !== null && row.dataset.run === report.runs[opened].id));
}

function showDetails() {
  const panel = at("details"), found = /^#run=([0-9a-f]+)$/.exec(location.hash);
  panel.querySelectorAll(".js-plotly-plot").forEach((plot) => Plotly.purge(plot));
  const index = found ? report.runs.findIndex((r) => r.id.startsWith(found[1])) : -1;
  opened = index < 0 ? null : index;
  markOpen();
  panel.hidden = opened === null;
  if (opened === null) {
    panel.replaceChildren();
    return;
  }
  const run = report.runs[opened], cell = report.cells.find((c) => c.runs.includes(opened));
  const siblings = cell ? cell.runs.filter((i) => i !== opened) : [];
  const plots = el("div", { class: "plots" });
  panel.replaceChildren(
    el("div", { class: "head" }, el("h2", { id: "details-title" }, titleOf(run) || run.id), el("code", {}, run.id),
      el("button", { type: "button", class: "close", click: close }, "close (Esc)")),
    siblings.length ? el("p", { class: "siblings" }, "Other runs of this composition: ", siblings.map((i) => el("button", {
      type: "button", class: "link", click: () => open(report.runs[i].id, opener),
    }, siblingName(report.runs[i])))) : "",
    ...run.flags.map((f) => el("p", { class: "flag" }, el("b", {}, f.text), `: ${f.why}`)),
    run.warning ? el("p", { class: "warning" }, el("b", {}, "Potential: "), run.warning) : "",
    facts(run), plots,
    el("h3", {}, "Where it comes from"), el("ul", { class: "tree" }, branch(run.lineage)),
    el("h3", {}, "What was computed from it"), observableList(run),
    el("h3", {}, "Provenance"), provenance(run),
    el("details", {}, el("summary", {}, "Settings of the run"), pairs(run.settings)),
    numbers(run),
  );
  panel.setAttribute("aria-labelledby", "details-title");
  for (const [stage, title, draw] of PLOTS) {
    const figure = el("figure", { "data-plot": stage }, el("h3", {}, title));
    plots.append(figure);
    if (run.curves[stage]) draw(figure, run.curves[stage], run);
    else figure.append(el("p", { class: "absent" }, "Not in the lake. To compute it: ", el("code", {}, `argyase ${stage} --run ${run.id}`)));
  }
  panel.focus({ preventScroll: true });
  panel.scrollIntoView({ block: "start" });
}

function siblingName(run) {
  const l = run.labels;
  return [l.seed === undefined ? "" : `seed ${l.seed}`, l.replica === undefined ? "" : `replica ${l.replica}`, `${run.length_ps} ps`, run.id.slice(0, 8)].filter(Boolean).join(", ");
}

function facts(run) {
  const l = run.labels, msd = number(run, "msd", "diffusivity") || number(run, "conductivity", "diffusivity");
  const rows = [
    ["conductivity (mS/cm)", run.conductivity && run.conductivity.text],
    ["D (cm²/s)", msd && msd.text],
    ["Haven ratio", run.haven_ratio && run.haven_ratio.text],
    ["hops per Li and ns", run.crossing_rate && run.crossing_rate.text],
    ["ΔS/R per formula unit", l.configurational_entropy],
    ["mean temperature (K)", run.mean_temperature === null ? null : run.mean_temperature.toFixed(1)],
    ["length (ps)", run.length_ps], ["atoms", run.atoms], ["cells", l.supercell], ["seed of structure, of velocities", [l.seed, l.replica].filter((v) => v !== undefined).join(", ")],
    ["potential", l.potential],
  ];
  return el("dl", { class: "facts" }, rows.filter((r) => r[1] !== null && r[1] !== undefined && r[1] !== "").map(([k, v]) => el("div", {}, el("dt", {}, k), el("dd", {}, String(v)))));
}

function number(run, stage, name) {
  const observable = run.observables.find((o) => o.stage === stage);
  return observable ? observable.numbers.find((n) => n.name === name) : undefined;
}

const idCode = (id) => el("code", { title: id }, id.slice(0, 8));
const branch = (node) => el("li", {}, el("b", {}, node.stage || "run"), " ", node.id ? idCode(node.id) : "", ` ${node.text}`,
  node.parents.length ? el("ul", { class: "tree" }, node.parents.map(branch)) : "");

function observableList(run) {
  if (!run.observables.length) return el("p", { class: "small" }, "Nothing yet.");
  return el("ul", { class: "tree" }, run.observables.map((o) => el("li", {}, el("b", {}, o.stage), " ", idCode(o.id), ` ${o.created.slice(0, 10)}`,
    Object.entries(o.settings).map(([k, v]) => `, ${k} ${v}`).join(""))));
}

function provenance(run) {
  const stages = Object.keys(run.provenance), first = stages[0];
  return el("div", {}, pairs(run.provenance[first]),
    ...stages.slice(1).map((s) => el("details", {}, el("summary", {}, `Provenance of ${s}`), pairs(run.provenance[s]))));
}

const pairs = (rows) => el("table", { class: "data" }, el("tbody", {}, Object.entries(rows).map(([k, v]) => el("tr", {}, el("th", { scope: "row" }, k), el("td", {}, el("code", {}, String(v)))))));

function numbers(run) {
  const rows = run.observables.flatMap((o) => o.numbers.map((n) => el("tr", {}, el("td", {}, o.stage), el("td", {}, n.what),
    el("td", { class: "number" }, n.text ?? (n.value === null ? "not determined" : short(n.value))), el("td", {}, n.unit))));
  return el("details", {}, el("summary", {}, "All numbers"), el("table", { class: "data" },
    el("thead", {}, el("tr", {}, ["stage", "what", "value (95 % interval)", "unit"].map((t) => el("th", { scope: "col" }, t)))), el("tbody", {}, rows)));
}

// ---- plots of one run ----

const PLOTS = [
  ["msd", "Mean squared displacement", drawMsd], ["vanhove", "Van Hove self part", drawVanHove], ["hops", "Hops", drawHops],
  ["density", "Density of Li", drawDensity], ["jumps", "Jumps", drawJumps], ["coordination", "Radial distributions", drawRdf],
  ["distinct", "Van Hove distinct part", drawDistinct],
];

function plot(figure, traces, form, kind = "plot") {
  const place = el("div", { class: kind });
  figure.append(place);
  Plotly.newPlot(place, traces, form, CONFIG);
  return place;
}

const caption = (...words) => el("figcaption", {}, ...words);

function drawMsd(figure, c) {
  const keep = c.lag.map((_, n) => n).filter((n) => c.msd[n] > 0), pick = (name) => keep.map((n) => c[name][n]);
  const lag = pick("lag"), msd = pick("msd"), error = pick("msd_stderr");
  const known = keep.map((_, n) => n).filter((n) => error[n] !== null && msd[n] > error[n]);
  const inside = keep.map((_, n) => n).filter((n) => c.window && lag[n] >= c.window[0] && lag[n] <= c.window[1]);
  const shade = (xs, up, down) => ({ x: [...xs, ...xs.slice().reverse()], y: [...up, ...down.slice().reverse()] });
  const band = shade(known.map((n) => lag[n]), known.map((n) => msd[n] + error[n]), known.map((n) => msd[n] - error[n]));
  const shapes = c.window ? [{ type: "rect", xref: "x", yref: "paper", x0: c.window[0], x1: c.window[1], y0: 0, y1: 1, fillcolor: "rgba(213,94,0,0.10)", line: { width: 0 } }] : [];
  plot(figure, [
    { ...band, type: "scatter", mode: "lines", fill: "toself", fillcolor: "rgba(0,114,178,0.25)", line: { width: 0 }, name: "standard error", hoverinfo: "skip" },
    { x: lag, y: msd, type: "scatter", mode: "lines", line: { color: COLOURS[0], width: 1.2 }, name: "MSD", hovertemplate: "%{x} ps: %{y} Å²<extra></extra>" },
    { x: inside.map((n) => lag[n]), y: inside.map((n) => msd[n]), type: "scatter", mode: "lines", line: { color: COLOURS[1], width: 3.5 }, name: "lags of the fit", hoverinfo: "skip" },
  ], layout(logAxis("lag time (ps)"), logAxis("mean squared displacement (Å²)"), { shapes }));
  figure.append(caption(c.window ? `D from lags ${short(c.window[0])} to ${short(c.window[1])} ps, ${c.ions} ions, all time origins.` : "No lags in which the slope has settled: no D, at most a bound."));
}

// Edges of bins about points that are spread over a logarithm.
function edges(points) {
  const mid = points.slice(1).map((v, n) => Math.sqrt(v * points[n]));
  return points.length < 2 ? [points[0] / 1.2, points[0] * 1.2] : [points[0] ** 2 / mid[0], ...mid, points.at(-1) ** 2 / mid.at(-1)];
}

function drawMap2(figure, c, scale, unit, what) {
  const keep = c.lag.map((_, n) => n).filter((n) => c.lag[n] > 0);
  const z = c.r.map((_, m) => keep.map((n) => c.map[n][m]));
  plot(figure, [{
    type: "heatmap", x: edges(keep.map((n) => c.lag[n])), y: c.r, z, colorscale: "Cividis", ...scale,
    colorbar: { title: { text: what, side: "right" }, thickness: 12 }, hovertemplate: `%{x:.3g} ps, %{y} Å: %{z}${unit}<extra></extra>`,
  }], layout(logAxis("lag time (ps)"), axis("distance r (Å)")));
}

function drawVanHove(figure, c) {
  drawMap2(figure, c, { zmin: 0, zmax: c.top || 1 }, " Å⁻¹", "4πr² G<sub>s</sub>(r, t) (Å⁻¹)");
  figure.append(caption("Probability of a displacement r of an ion. The colours end at the largest value beyond 1.5 Å; rattling at short times is above."));
}

function drawDistinct(figure, c) {
  drawMap2(figure, c, { zmin: 0, zmax: 2 }, "", "G<sub>d</sub>(r, t) / ρ");
  figure.append(caption("Another ion at a distance r from where one was, over the mean density. The colours end at 2."));
}

function drawHops(figure, c, run) {
  plot(figure, [{
    x: c.time, y: c.cumulative_ever.map((v) => v / c.ions), type: "scatter", mode: "lines", line: { color: COLOURS[0], shape: "hv" },
    hovertemplate: "%{x} ps: %{y:.3f}<extra></extra>",
  }], layout(axis("time (ps)", { rangemode: "tozero" }), axis(`ions ever beyond ${c.threshold} Å (fraction)`, { range: [0, 1.03] })));
  const [ever, end, crossings] = ["ever_beyond", "end_beyond", "crossings"].map((n) => number(run, "hops", n).value);
  figure.append(caption(`Of ${c.ions} ions farther than ${c.threshold} Å from their start: ${ever} ever, ${end} at the end; ${crossings} upward crossings, ${run.crossing_rate.text} per ion and ns.`));
}

function drawJumps(figure, c) {
  const words = { intra_cage: "inside of a cage", inter_cage: "between cages", doublet: "doublet" };
  const names = c.jump.map((n) => plain(words[n] || n.replace(/_/g, " ")));
  const seen = c.rate.map((v, n) => (v > 0 ? v : c.rate_high[n])), zero = c.rate.map((v) => !(v > 0));
  plot(figure, [{
    x: names, y: seen, type: "scatter", mode: "markers",
    marker: { color: COLOURS[0], size: 9, symbol: zero.map((z) => (z ? "triangle-down-open" : "circle")) },
    error_y: { type: "data", symmetric: false, array: seen.map((v, n) => (zero[n] || c.rate_high[n] === null ? 0 : c.rate_high[n] - v)), arrayminus: seen.map((v, n) => (zero[n] || c.rate_low[n] === null ? 0 : v - c.rate_low[n])) },
    hovertemplate: "%{x}: %{y:.3g} per ion and ns<extra></extra>",
  }], layout(axis("", { type: "category", automargin: true, range: [-0.5, names.length - 0.5] }), logAxis("jumps per ion and ns")));
  const value = (name, n) => interval(c[name][n], c[`${name}_low`][n], c[`${name}_high`][n]);
  figure.append(
    el("table", { class: "data" }, el("thead", {}, el("tr", {}, ["site", "occupancy", "residence time (ps)"].map((t) => el("th", { scope: "col" }, t)))),
      el("tbody", {}, c.site.map((s, n) => el("tr", {}, el("th", { scope: "row" }, s), el("td", { class: "number" }, value("occupancy", n)), el("td", { class: "number" }, value("residence_time", n)))))),
    caption("95 % intervals; a triangle is the upper bound of a jump that was not seen."));
}

function interval(value, low, high) {
  const digits = (v) => (v === null ? "not known" : String(+v.toPrecision(3)));
  return value === null ? "not determined" : `${digits(value)} (${digits(low)} ... ${digits(high)})`;
}

function drawRdf(figure, c) {
  const traces = c.pair.map((name, n) => ({ x: c.r, y: c.rdf[n], type: "scatter", mode: "lines", name: plain(name), line: { color: COLOURS[n % COLOURS.length], width: 1.3, dash: ["solid", "dash", "dot"][Math.floor(n / COLOURS.length) % 3] } }));
  plot(figure, traces, layout(axis("distance r (Å)"), axis("g(r)", { rangemode: "tozero" }), { legend: { orientation: "v", x: 1.02, y: 1, font: { size: 11 } } }));
}

// ---- the density ----

function drawDensity(figure, c) {
  const bytes = Uint8Array.from(atob(c.bytes), (b) => b.charCodeAt(0));
  const values = Float32Array.from(bytes, (b) => c.top * (b / 255) ** 2);
  const [first, last] = [Math.log(Math.min(0.5, c.top / 4)), Math.log(Math.max(c.top * 0.9, 1))];
  const percolates = [3, 2, 1].filter((d) => c.percolation_level[d] !== null && c.percolation_level[d] !== undefined);
  const start = percolates.length ? c.percolation_level[percolates[0]] : 5;
  const slider = el("input", { type: "range", min: 0, max: 100, step: 1, value: Math.round(100 * (Math.log(Math.min(start, c.top * 0.9)) - first) / (last - first)), "aria-label": "level of the isosurface, in mean densities" });
  const told = el("output", {});
  const atoms = el("input", { type: "checkbox", checked: "" });
  const place = el("div", { class: "space", tabindex: 0, role: "img", "aria-label": "Density of Li in the cell. Arrow keys turn it, plus and minus zoom." });
  figure.append(place, el("p", { class: "controls" }, el("label", {}, "level ", slider), " ", told, " ", el("label", {}, atoms, " framework")));
  figure.append(caption(percolates.length
    ? `Goes on for ever in ${percolates.map((d) => `${d} direction${d > 1 ? "s" : ""} up to ${short(c.percolation_level[d])}`).join(", in ")} mean densities (found on the grid of the lake; drawn on one of ${c.shape.join(" x ")} points). Drag or arrow keys turn it, wheel or + and - zoom.`
    : `Does not go on for ever at any level. Drawn on a grid of ${c.shape.join(" x ")} points. Drag or arrow keys turn it, wheel or + and - zoom.`));
  const scene = Object.fromEntries(["x", "y", "z"].map((a) => [`${a}axis`, { title: { text: `${a} (Å)` }, backgroundcolor: "#fff", gridcolor: "#e3e6ea", showspikes: false }]));
  const form = { margin: { l: 0, r: 0, t: 0, b: 0 }, scene: { ...scene, aspectmode: "data", dragmode: false, hovermode: false }, paper_bgcolor: "#fff", legend: { x: 0, y: 1 } };
  const still = [cellEdges(c.cell)];
  for (const s of [...new Set(c.species)]) {
    const mine = c.framework.filter((_, n) => c.species[n] === s).map((f) => cartesian(f, c.cell));
    still.push({ type: "scatter3d", mode: "markers", name: plain(s), x: mine.map((p) => p[0]), y: mine.map((p) => p[1]), z: mine.map((p) => p[2]), marker: { size: 3.5, color: ATOMS[s] || "#555" } });
  }
  const view = turnable(place);
  const draw = () => {
    const level = Math.exp(first + (last - first) * slider.value / 100);
    told.textContent = `${level.toPrecision(2)} × mean`;
    const { points, triangles } = isosurface(values, c.shape, level);
    const xyz = points.map((p) => cartesian(p, c.cell));
    const mesh = {
      type: "mesh3d", x: xyz.map((p) => p[0]), y: xyz.map((p) => p[1]), z: xyz.map((p) => p[2]), i: triangles.map((t) => t[0]), j: triangles.map((t) => t[1]), k: triangles.map((t) => t[2]),
      color: "#3D8FD1", opacity: 0.75, name: "Li density", showlegend: true, hoverinfo: "skip", lighting: { ambient: 0.55, diffuse: 0.75, specular: 0.15 },
    };
    const shownAtoms = still.map((t, n) => (n ? { ...t, visible: atoms.checked } : t));
    form.scene.camera = view();
    Plotly.react(place, [mesh, ...shownAtoms], form, { ...CONFIG, modeBarButtons: [["toImage"]] });
  };
  slider.addEventListener("input", once(draw));
  atoms.addEventListener("change", draw);
  draw();
}

// Many calls between two frames are one.
function once(action) {
  let waiting = false;
  return () => {
    if (!waiting) requestAnimationFrame(() => { waiting = false; action(); });
    waiting = true;
  };
}

// Turn a scene by mouse, finger and keys; where it is seen from. Plotly's own turning goes on with the speed of the
// last move until the next frame, which without a graphics card takes half a second: nothing stays where it is put.
function turnable(place) {
  let [theta, phi, distance] = [0.63, 1.17, 2.3]; // rad, rad from z, in sides of the scene
  const view = () => ({
    eye: { x: distance * Math.sin(phi) * Math.cos(theta), y: distance * Math.sin(phi) * Math.sin(theta), z: distance * Math.cos(phi) },
    up: { x: 0, y: 0, z: 1 },
  });
  const show = once(() => place.isConnected && Plotly.relayout(place, { "scene.camera": view() }));
  const turn = (dx, dy, zoom = 1) => {
    theta -= dx;
    phi = Math.min(Math.max(phi - dy, 0.05), Math.PI - 0.05);
    distance = Math.min(Math.max(distance * zoom, 0.3), 6);
    show();
  };
  const step = Math.PI / 18, keys = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, -step], ArrowDown: [0, step], "+": [0, 0, 0.85], "-": [0, 0, 1 / 0.85] };
  place.addEventListener("keydown", (event) => {
    if (!(event.key in keys)) return;
    event.preventDefault();
    turn(...keys[event.key]);
  });
  let last = null;
  place.addEventListener("pointerdown", (event) => {
    if (event.button || event.target.closest(".modebar, .legend")) return;
    last = [event.clientX, event.clientY];
    place.setPointerCapture(event.pointerId);
  });
  place.addEventListener("pointermove", (event) => {
    if (!last) return;
    const scale = Math.PI / place.clientHeight;
    turn((event.clientX - last[0]) * scale, (event.clientY - last[1]) * scale);
    last = [event.clientX, event.clientY];
  });
  for (const end of ["pointerup", "pointercancel"]) place.addEventListener(end, () => { last = null; });
  place.addEventListener("wheel", (event) => {
    event.preventDefault();
    turn(0, 0, Math.exp(event.deltaY * 1e-3));
  }, { passive: false });
  return view;
}

function cartesian(f, cell) {
  return [0, 1, 2].map((k) => f[0] * cell[0][k] + f[1] * cell[1][k] + f[2] * cell[2][k]);
}

function cellEdges(cell) {
  const path = [[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0], [0, 0, 0], [0, 0, 1], [1, 0, 1], [1, 1, 1], [0, 1, 1], [0, 0, 1], null, [1, 0, 0], [1, 0, 1], null, [1, 1, 0], [1, 1, 1], null, [0, 1, 0], [0, 1, 1]];
  const points = path.map((p) => (p ? cartesian(p, cell) : [null, null, null]));
  return { type: "scatter3d", mode: "lines", x: points.map((p) => p[0]), y: points.map((p) => p[1]), z: points.map((p) => p[2]), line: { color: "#333", width: 2 }, hoverinfo: "skip", showlegend: false };
}

/**
 * Triangles of the surface of equal value of a periodic grid, in fractional coordinates from 0 to 1.
 *
 * Each cube of eight points is cut into six tetrahedra about its diagonal (Kuhn), in which the surface is flat; cubes
 * that share a face cut it alike, so the surface has no holes (Doi and Koide, IEICE Trans. E74, 214, 1991).
 */
function isosurface(values, shape, level) {
  const [na, nb, nc] = shape, size = [na + 1, nb + 1, nc + 1], total = size[0] * size[1] * size[2];
  const value = (a, b, c) => values[((a % na) * nb + (b % nb)) * nc + (c % nc)];
  const orders = [[1, 2, 1], [1, 4, -1], [2, 1, -1], [2, 4, 1], [4, 1, 1], [4, 2, -1]].map(([p, q, hand]) => [[0, p, p + q, 7], hand]);
  const points = [], triangles = [], known = new Map();
  const v = new Float64Array(8), number = new Int32Array(8), place = Array.from({ length: 8 }, () => [0, 0, 0]);
  const cut = (p, q) => {
    const key = Math.min(number[p], number[q]) * total + Math.max(number[p], number[q]);
    let found = known.get(key);
    if (found === undefined) {
      const t = (level - v[p]) / (v[q] - v[p]);
      found = points.push(place[p].map((x, k) => (x + t * (place[q][k] - x)) / shape[k])) - 1;
      known.set(key, found);
    }
    return found;
  };
  // Outwards, to lower values, by the sense of the tetrahedron: where points coincide, an area of zero has no side.
  const add = (i, j, k, sense) => triangles.push(sense > 0 ? [i, j, k] : [i, k, j]);
  for (let a = 0; a < na; a++) for (let b = 0; b < nb; b++) for (let c = 0; c < nc; c++) {
    let count = 0;
    for (let n = 0; n < 8; n++) {
      const [x, y, z] = [a + (n & 1), b + ((n >> 1) & 1), c + (n >> 2)];
      v[n] = value(x, y, z);
      number[n] = (x * size[1] + y) * size[2] + z;
      place[n][0] = x; place[n][1] = y; place[n][2] = z;
      count += v[n] >= level;
    }
    if (count === 0 || count === 8) continue;
    for (const [corners, hand] of orders) {
      const inside = corners.filter((n) => v[n] >= level), outside = corners.filter((n) => v[n] < level);
      if (!inside.length || !outside.length) continue;
      // Turned round by each pair that stands the other way round in the corners.
      let sense = hand;
      for (const p of inside) for (const q of outside) if (corners.indexOf(p) > corners.indexOf(q)) sense = -sense;
      if (inside.length === 2) {
        const [[p, q], [r, s]] = [inside, outside];
        const [pr, ps, qr, qs] = [cut(p, r), cut(p, s), cut(q, r), cut(q, s)];
        add(pr, ps, qr, sense);
        add(ps, qs, qr, sense);
      } else {
        const ends = inside.flatMap((p) => outside.map((q) => cut(p, q)));
        add(...ends, sense);
      }
    }
  }
  return { points, triangles };
}

// ---- begin ----

{
  const m = report.made;
  at("made").textContent = `argyase ${m.version}${m.git ? ` (${m.git.slice(0, 12)})` : ""}, ${m.when.slice(0, 16).replace("T", " ")} UTC, lake ${m.lake}, ${report.runs.length} runs`;
  at("warnings").replaceChildren(...report.warnings.map((w) => el("p", { class: "warning" }, w)));
  at("filter").addEventListener("input", filterRows);
  at("facets").addEventListener("submit", (event) => event.preventDefault());
  window.addEventListener("hashchange", showDetails);
  window.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && opened !== null) close();
  });
  drawFacets();
  drawMap();
  drawTable();
  if (location.hash) showDetails();
}
