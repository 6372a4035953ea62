"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const NS = "http://www.w3.org/2000/svg";
const format = v => v === null || v === undefined ? "–" : Math.abs(v) >= 1000 ? v.toFixed(0) : String(Number(v.toPrecision(3)));
const make = (parent, name, attributes, text) => {
  const node = document.createElementNS(NS, name);
  for (const key in attributes) node.setAttribute(key, attributes[key]);
  if (text !== undefined) node.textContent = text;
  parent.appendChild(node);
  return node;
};
const ticks = (low, high, count) => {
  const raw = (high - low || 1) / count, power = Math.pow(10, Math.floor(Math.log10(raw)));
  const step = [1, 2, 5, 10].map(k => k * power).find(s => s >= raw);
  const found = [];
  for (let t = Math.ceil(low / step) * step; t <= high + step / 1e6; t += step) found.push(Math.abs(t) < step / 1e6 ? 0 : t);
  return found.length > 1 || count > 9 ? found : ticks(low, high, count + 1); // one alone tells no scale
};
// logarithms of 1, 2 and 5 times powers of ten, or of ten's powers alone where there are many
const powers = (low, high) => {
  const steps = high - low > 3 ? [1] : [1, 2, 5], found = [];
  for (let p = Math.floor(low); p <= high; p += 1) for (const k of steps) found.push(p + Math.log10(k));
  return found.filter(t => t >= low && t <= high);
};
const canvas = (host, height) => {
  host.replaceChildren();
  const width = Math.max(280, host.clientWidth);
  const svg = make(host, "svg", { viewBox: `0 0 ${width} ${height}`, height, role: "img", "aria-label": host.dataset.about || "" });
  return [svg, width];
};
const wide = width => width > 560;
const LONGEST = 3; // as many times as values lie apart, an interval is drawn to each side of them: that of two speakers may be endless

// one line a row: its value and its interval, which is cut where it is far longer than the values lie apart
function intervals(host, rows, title, zero) {
  const [svg, width] = canvas(host, 44 + 30 * rows.length);
  const left = wide(width) ? 230 : 128, right = width - (wide(width) ? 150 : 62);
  const given = v => v !== null && v !== undefined;
  const values = [...rows.map(r => r.value), zero].filter(given), ends = rows.flatMap(r => [r.low, r.high]).filter(given);
  const least = Math.min(...values), most = Math.max(...values), room = LONGEST * (most - least || Math.abs(most) || 1);
  let low = Math.max(Math.min(...values, ...ends), least - room), high = Math.min(Math.max(...values, ...ends), most + room);
  const pad = (high - low || Math.abs(high) || 1) * 0.06; low -= pad; high += pad;
  const within = v => Math.min(Math.max(v, low), high);
  const x = v => left + (v - low) / (high - low) * (right - left), bottom = 12 + 30 * rows.length;
  for (const t of ticks(low, high, wide(width) ? 6 : 3)) {
    make(svg, "line", { x1: x(t), x2: x(t), y1: 4, y2: bottom, stroke: t === zero ? "#8793a1" : "#e6eaee" });
    make(svg, "text", { x: x(t), y: bottom + 16, "text-anchor": "middle" }, format(t));
  }
  make(svg, "text", { x: (left + right) / 2, y: bottom + 31, "text-anchor": "middle" }, title);
  rows.forEach((row, i) => {
    const y = 19 + 30 * i, name = wide(width) ? row.name : row.short || row.name;
    make(svg, "text", { x: left - 12, y: y + 4, "text-anchor": "end", class: "label" }, name);
    if (row.low !== null && row.low !== undefined) {
      make(svg, "line", { x1: x(within(row.low)), x2: x(within(row.high)), y1: y, y2: y, stroke: row.color, "stroke-width": 5, "stroke-opacity": 0.35, "stroke-linecap": "round" });
    }
    const dot = make(svg, "circle", { cx: x(row.value), cy: y, r: 5.5, fill: row.color });
    const range = row.low === null || row.low === undefined ? "" : ` [${format(row.low)}, ${format(row.high)}]`;
    make(dot, "title", {}, `${row.name}: ${format(row.value)}${range}`);
    make(svg, "text", { x: right + 12, y: y + 4 }, format(row.value) + (wide(width) ? range : ""));
  });
}

// lines over x, with a reading under the pointer; returns nothing
function lines(host, series, options) {
  const [svg, width] = canvas(host, options.height || 190);
  const height = options.height || 190, left = 46, right = width - 10, top = 24, bottom = height - 34;
  const finite = series.filter(s => s.x.length);
  if (!finite.length) return;
  const scale = options.log ? v => Math.log10(Math.max(v, 1e-9)) : v => v;
  const xs = finite.flatMap(s => [s.x[0], s.x[s.x.length - 1]]), ys = finite.flatMap(s => s.y).map(scale);
  const x0 = Math.min(...xs), x1 = Math.max(...xs), low = options.log ? Math.min(...ys) : Math.min(0, ...ys), high = Math.max(...ys) * (options.log ? 1 : 1.05) || 1;
  const px = v => left + (v - x0) / (x1 - x0 || 1) * (right - left), py = v => bottom - (scale(v) - low) / (high - low || 1) * (bottom - top);
  for (const t of options.log ? powers(low, high) : ticks(low, high, 4)) {
    const y = bottom - (t - low) / (high - low || 1) * (bottom - top);
    make(svg, "line", { x1: left, x2: right, y1: y, y2: y, stroke: "#e6eaee" });
    make(svg, "text", { x: left - 6, y: y + 4, "text-anchor": "end" }, format(options.log ? Math.pow(10, t) : t));
  }
  for (const t of ticks(x0, x1, wide(width) ? 8 : 4)) make(svg, "text", { x: px(t), y: bottom + 15, "text-anchor": "middle" }, format(t));
  make(svg, "text", { x: (left + right) / 2, y: height - 4, "text-anchor": "middle" }, options.x);
  make(svg, "text", { x: 2, y: 12 }, options.y);
  for (const s of finite) {
    const path = s.x.map((v, i) => `${i ? "L" : "M"}${px(v).toFixed(1)} ${py(s.y[i]).toFixed(1)}`).join("");
    if (s.fill) make(svg, "path", { d: `${path}L${px(s.x[s.x.length - 1])} ${bottom}L${px(s.x[0])} ${bottom}Z`, fill: s.color, "fill-opacity": 0.5 });
    else make(svg, "path", { d: path, fill: "none", stroke: s.color, "stroke-width": s.width || 1.8, "stroke-linejoin": "round" });
  }
  const cursor = make(svg, "line", { y1: top, y2: bottom, stroke: "#8793a1", visibility: "hidden" });
  const box = make(svg, "g", { visibility: "hidden", "pointer-events": "none" });
  svg.addEventListener("pointermove", event => {
    const place = (event.clientX - svg.getBoundingClientRect().left) * width / svg.getBoundingClientRect().width;
    const at = x0 + (Math.min(Math.max(place, left), right) - left) / (right - left) * (x1 - x0);
    const shown = finite.filter(s => !s.fill).map(s => {
      let i = s.x.findIndex(v => v >= at);
      if (i < 0) i = s.x.length - 1;
      return [`${s.name} ${format(s.y[i])}`, s.color];
    });
    box.replaceChildren();
    const side = px(at) > (left + right) / 2 ? -1 : 1, wideness = 8 + 7.2 * Math.max(...shown.map(r => r[0].length));
    make(box, "rect", { x: side > 0 ? px(at) + 8 : px(at) - 8 - wideness, y: top, width: wideness, height: 10 + 16 * shown.length + 14, rx: 5, fill: "#fff", "fill-opacity": 0.94, stroke: "#dfe4ea" });
    const tx = side > 0 ? px(at) + 14 : px(at) - 2 - wideness;
    make(box, "text", { x: tx, y: top + 15 }, `${options.x} ${format(at)}`);
    shown.forEach((r, i) => make(box, "text", { x: tx, y: top + 31 + 16 * i, style: `fill:${r[1]};font-weight:600` }, r[0]));
    cursor.setAttribute("x1", px(at)); cursor.setAttribute("x2", px(at));
    for (const node of [cursor, box]) node.setAttribute("visibility", "visible");
  });
  svg.addEventListener("pointerleave", () => { for (const node of [cursor, box]) node.setAttribute("visibility", "hidden"); });
}

const row = name => data.names[name] || { name, short: name, color: "#777" };
const byId = id => document.getElementById(id);
const draws = [];

if (byId("figures")) {
  const pick = byId("figure-choice");
  draws.push(() => {
    const figure = pick.value;
    const rows = data.order.filter(n => data.rows[n] && data.rows[n][figure]).map(n => Object.assign({}, row(n), data.rows[n][figure]));
    intervals(byId("figures"), rows, figure);
    byId("figure-says").textContent = data.definitions[figure];
  });
  pick.addEventListener("change", () => draws.forEach(d => d()));
}
if (byId("losses")) {
  const pick = byId("loss-choice"), parts = data.parts;
  draws.push(() => {
    const figure = pick.value, lost = data.losses[figure];
    const rows = data.part_order.filter(n => lost[n]).map(n => Object.assign({}, parts[n], lost[n]));
    intervals(byId("losses"), rows, `${figure} lost (right: worse)`, 0);
    byId("loss-says").textContent = data.definitions[figure];
  });
  pick.addEventListener("change", () => draws.forEach(d => d()));
}
if (byId("curve-mouth")) {
  const pick = byId("clip-choice"), boxes = [...document.querySelectorAll("#curve-rows input")];
  draws.push(() => {
    const clip = data.curves[pick.value], shown = boxes.filter(b => b.checked && clip[b.value]).map(b => b.value);
    const series = key => shown.map(n => ({ x: clip[n].time, y: clip[n][key], name: row(n).short, color: row(n).color, width: n === "ground_truth" ? 2.4 : 1.6 }));
    const mouth = series("mouth"), most = Math.max(1e-9, ...mouth.flatMap(s => s.y));
    const voice = clip.speech ? [{ x: clip.speech.time, y: clip.speech.loudness.map(v => v * most * 0.6), name: "speech", color: "#d5dce4", fill: true }] : [];
    lines(byId("curve-mouth"), voice.concat(mouth), { x: "s", y: "lips apart, mm (grey: loudness of the speech)" });
    lines(byId("curve-wrist"), series("wrist"), { x: "s", y: "wrists' speed, m/s" });
  });
  for (const control of [pick, ...boxes]) control.addEventListener("change", () => draws.forEach(d => d()));
}
for (const host of document.querySelectorAll("[data-training]")) {
  const found = data.training[host.dataset.training];
  draws.push(() => lines(host, found.series, { x: "step", y: `${host.dataset.training}: total loss`, log: true }));
}
for (const button of document.querySelectorAll("[data-copy]")) {
  button.addEventListener("click", () => {
    const text = byId(button.dataset.copy).textContent, area = document.createElement("textarea");
    area.value = text; document.body.appendChild(area); area.select();
    const done = document.execCommand("copy"); area.remove();
    button.textContent = done ? "copied" : "select the text and copy it";
  });
}
const redraw = () => draws.forEach(d => d());
redraw();
let waiting = 0;
window.addEventListener("resize", () => { cancelAnimationFrame(waiting); waiting = requestAnimationFrame(redraw); });
window.addEventListener("beforeprint", redraw);
window.matchMedia("print").addEventListener("change", redraw);
