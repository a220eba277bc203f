// Small SVG plots with a text alternative: reliability, coverage by horizon, skill by symbol.

const SVG = "http://www.w3.org/2000/svg";
const WIDTH = 420;
const HEIGHT = 280;
const MARGIN = { left: 52, right: 84, top: 12, bottom: 34 };

export function node(name, attributes = {}, text = null) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  if (text !== null) element.textContent = text;
  return element;
}

function frame(container, label, height = HEIGHT) {
  const svg = node("svg", { viewBox: `0 0 ${WIDTH} ${height}`, role: "img", "aria-label": label });
  container.replaceChildren(svg);
  return svg;
}

export function scale([low, high], [from, to]) {
  const span = high - low || 1;
  return (value) => from + ((value - low) / span) * (to - from);
}

function axes(svg, x, y, xTicks, yTicks, format, height = HEIGHT) {
  const bottom = height - MARGIN.bottom;
  for (const tick of yTicks) {
    svg.append(node("line", { class: "axis", x1: MARGIN.left, x2: WIDTH - MARGIN.right, y1: y(tick), y2: y(tick) }));
    svg.append(node("text", { x: MARGIN.left - 6, y: y(tick) + 4, "text-anchor": "end" }, format.y(tick)));
  }
  for (const tick of xTicks) svg.append(node("text", { x: x(tick), y: bottom + 18, "text-anchor": "middle" }, format.x(tick)));
}

export function spread(labels, gap = 14) {
  const sorted = [...labels].sort((a, b) => a.y - b.y);
  sorted.forEach((label, i) => { if (i) label.y = Math.max(label.y, sorted[i - 1].y + gap); });
  return sorted;
}

function nameTraces(svg, labels) {
  for (const { text, index, y } of spread(labels)) svg.append(node("text", { class: `name m${index % 5}`, x: WIDTH - MARGIN.right + 8, y: y + 4 }, text));
}

function traces(svg, series, x, y, shape) {
  const labels = [];
  series.forEach(({ name, points }, index) => {
    const path = points.map(([px, py], i) => `${i ? "L" : "M"}${x(px).toFixed(1)} ${y(py).toFixed(1)}`).join("");
    svg.append(node("path", { class: `trace m${index % 5}`, d: path }));
    for (const [px, py] of points) {
      const mark = node("circle", { class: `mark m${index % 5}`, cx: x(px), cy: y(py), r: 4.5 });
      mark.append(node("title", {}, shape(name, px, py)));
      svg.append(mark);
    }
    if (points.length) labels.push({ text: name, index, y: y(points[points.length - 1][1]) });
  });
  nameTraces(svg, labels);
}

const tenth = (value) => `${(100 * value).toFixed(1)} %`;
const percent = (value) => `${Math.round(100 * value)} %`;

export function showEmpty(container, text) {
  const svg = frame(container, text);
  svg.append(node("text", { class: "empty", x: WIDTH / 2, y: HEIGHT / 2, "text-anchor": "middle" }, text));
}

export function plotCalibration(container, series) {
  const words = series.map(({ name, points }) => `${name}: ${points.map(([q, share]) => `${percent(share)} below p${100 * q}`).join(", ")}`);
  const svg = frame(container, `Calibration. ${words.join("; ")}`);
  const x = scale([0, 1], [MARGIN.left, WIDTH - MARGIN.right]);
  const y = scale([0, 1], [HEIGHT - MARGIN.bottom, MARGIN.top]);
  axes(svg, x, y, [0.1, 0.5, 0.9], [0, 0.25, 0.5, 0.75, 1], { x: (v) => `p${100 * v}`, y: percent });
  svg.append(node("line", { class: "guide", x1: x(0), y1: y(0), x2: x(1), y2: y(1) }));
  traces(svg, series, x, y, (name, q, share) => `${name}: ${percent(share)} of outcomes at or below p${100 * q}`);
}

export function plotCoverage(container, series, horizons) {
  const words = series.map(({ name, points }) => `${name}: ${points.map(([i, value]) => `${percent(value)} at ${horizons[i]} bars`).join(", ")}`);
  const svg = frame(container, `Coverage of the 80 % band. ${words.join("; ")}`);
  const values = series.flatMap(({ points }) => points.map(([, value]) => value));
  const low = Math.min(0.6, Math.floor(10 * Math.min(...values)) / 10);
  const x = scale([0, Math.max(1, horizons.length - 1)], [MARGIN.left + 14, WIDTH - MARGIN.right - 14]);
  const y = scale([low, 1], [HEIGHT - MARGIN.bottom, MARGIN.top]);
  svg.append(node("rect", { class: "strip", x: MARGIN.left, width: WIDTH - MARGIN.left - MARGIN.right, y: y(0.83), height: y(0.77) - y(0.83) }));
  const ticks = Array.from({ length: Math.round((1 - low) * 10) + 1 }, (_, i) => low + i / 10);
  axes(svg, x, y, horizons.map((_, i) => i), ticks.length > 6 ? ticks.filter((_, i) => i % 2 === 0) : ticks, { x: (i) => horizons[i], y: percent });
  traces(svg, series, x, y, (name, i, value) => `${name}: ${percent(value)} covered at ${horizons[i]} bars`);
}

export function plotSkill(container, symbols, series) {
  const keys = { across: 4, width: 88 };
  const top = MARGIN.top + 22 + 16 * Math.floor((series.length - 1) / keys.across);
  const step = Math.max(26, Math.min(60, (HEIGHT - top - MARGIN.bottom) / symbols.length));
  const height = Math.max(HEIGHT, top + MARGIN.bottom + symbols.length * step);
  const values = series.flatMap(({ bySymbol }) => symbols.map((symbol) => bySymbol.get(symbol)).filter((value) => value !== undefined && value !== null));
  if (!values.length) { showEmpty(container, "Not enough settled forecasts"); return; }
  const low = Math.min(-0.02, ...values);
  const high = Math.max(0.02, ...values);
  const words = series.map(({ name, bySymbol }) => `${name}: ${symbols.filter((symbol) => bySymbol.get(symbol) > 0).length} of ${symbols.length} symbols above zero`);
  const svg = frame(container, `Skill against persistence. ${words.join("; ")}`, height);
  const x = scale([low, high], [MARGIN.left + 44, WIDTH - 24]);
  svg.append(node("line", { class: "guide", x1: x(0), x2: x(0), y1: top, y2: height - MARGIN.bottom }));
  svg.append(node("text", { x: x(0), y: height - 14, "text-anchor": "middle" }, "0: no skill"));
  for (const end of [low, high]) if (Math.abs(x(end) - x(0)) > 70) svg.append(node("text", { x: x(end), y: height - 14, "text-anchor": "middle" }, tenth(end)));
  symbols.forEach((symbol, row) => {
    const cy = top + (row + 0.5) * step;
    svg.append(node("line", { class: "axis", x1: MARGIN.left + 44, x2: WIDTH - 24, y1: cy, y2: cy }));
    svg.append(node("text", { x: MARGIN.left + 32, y: cy + 4, "text-anchor": "end" }, symbol));
    series.forEach(({ name, bySymbol }, index) => {
      const value = bySymbol.get(symbol);
      if (value === undefined || value === null) return;
      const mark = node("circle", { class: `mark m${index % 5}`, cx: x(value), cy, r: 5 });
      mark.append(node("title", {}, `${symbol}, ${name}: ${tenth(value)}`));
      svg.append(mark);
    });
  });
  series.forEach(({ name }, index) => svg.append(node("text", { class: `name m${index % 5}`, x: MARGIN.left + (index % keys.across) * keys.width, y: MARGIN.top + 4 + 16 * Math.floor(index / keys.across) }, `● ${name}`)));
}

const SMALL = { width: 200, height: 130, left: 8, right: 8, top: 22, bottom: 20 };

export function plotPit(container, series) {
  const plots = series.map(({ name, counts }, index) => {
    const total = counts.reduce((sum, count) => sum + count, 0);
    const shares = counts.map((count) => count / total);
    const label = `PIT of ${name}: ${shares.map((share, i) => `${percent(share)} in tenth ${i + 1}`).join(", ")}`;
    const svg = node("svg", { viewBox: `0 0 ${SMALL.width} ${SMALL.height}`, role: "img", "aria-label": label });
    const x = scale([0, 10], [SMALL.left, SMALL.width - SMALL.right]);
    const y = scale([0, Math.max(0.25, ...shares)], [SMALL.height - SMALL.bottom, SMALL.top]);
    shares.forEach((share, i) => {
      const bar = node("rect", { class: `bar m${index % 5}`, x: x(i) + 1, width: x(1) - x(0) - 2, y: y(share), height: y(0) - y(share) });
      bar.append(node("title", {}, `${tenth(share)} of outcomes in tenth ${i + 1}`));
      svg.append(bar);
    });
    svg.append(node("line", { class: "guide", x1: x(0), x2: x(10), y1: y(0.1), y2: y(0.1) }));
    svg.append(node("text", { class: `name m${index % 5}`, x: x(0), y: 14 }, name));
    for (const [place, text, anchor] of [[0, "low", "start"], [5, "p50", "middle"], [10, "high", "end"]]) svg.append(node("text", { x: x(place), y: SMALL.height - 5, "text-anchor": anchor }, text));
    return svg;
  });
  container.replaceChildren(...plots);
}
