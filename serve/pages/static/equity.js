// Plots of one sleeve: equity over drawdown, Sharpe ratio of each window, the cost ladder.

import { formatPercent, formatTime } from "/static/api.js";
import { node, scale, spread } from "/static/plots.js";

const DAY = 86400e3;
const FLOOR = 0.01; // equity below it is drawn at it: a log scale has no zero
const SMALL = { height: 240, left: 44, right: 16, top: 12, bottom: 30, key: 16 };
const LETTER = 7.7; // width of a bold letter of a name

function paint(container, width, height, label) {
  const svg = node("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": label });
  container.replaceChildren(svg);
  return svg;
}

export function niceTicks(low, high, count = 5) {
  const raw = (high - low || 1) / count;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 2.5, 5, 10].map((one) => one * power).find((one) => one >= raw - 1e-12);
  const first = Math.ceil(low / step - 1e-9);
  const n = Math.floor(high / step + 1e-9) - first;
  return Array.from({ length: n + 1 }, (_, i) => Number(((first + i) * step).toPrecision(12)));
}

function growthTicks(low, high) {
  if (high / low < 4) return niceTicks(low, high, 7);
  const ticks = [];
  for (let power = Math.floor(Math.log10(low)); power <= Math.log10(high); power += 1) for (const one of [1, 2, 5]) ticks.push(one * 10 ** power);
  return ticks.filter((tick) => tick >= low && tick <= high);
}

function timeTicks(from, to, width) {
  const years = (to - from) / (365.25 * DAY);
  const ticks = [];
  if (years >= 2) {
    const step = Math.max(1, Math.ceil(years / Math.max(2, Math.floor(width / 62))));
    for (let year = new Date(from).getUTCFullYear() + 1; Date.UTC(year) <= to; year += step) ticks.push([Date.UTC(year), String(year)]);
    return ticks;
  }
  const start = new Date(from);
  const months = Math.max(1, Math.ceil((years * 12) / Math.max(2, Math.floor(width / 72))));
  for (let month = start.getUTCMonth() + 1; Date.UTC(start.getUTCFullYear(), month) <= to; month += months) {
    const at = Date.UTC(start.getUTCFullYear(), month);
    ticks.push([at, new Date(at).toISOString().slice(0, 7)]);
  }
  return ticks;
}

const line = (xs, ys) => xs.map((x, i) => `${i ? "L" : "M"}${x.toFixed(1)} ${ys[i].toFixed(1)}`).join("");

export function formatRatio(value, digits = 2) {
  return value === null || value === undefined ? "–" : value.toFixed(digits).replace("-", "−");
}

function digitsOf(ticks, least) {
  let digits = least;
  while (digits < 6 && ticks.some((tick) => Math.abs(tick - Number(tick.toFixed(digits))) > 1e-9)) digits += 1;
  return digits;
}

export function formatShare(value, digits = 1) {
  return formatPercent(value, digits).replace("-", "−");
}

function describe({ name, curve }) {
  const last = curve.equity.length - 1;
  const deepest = Math.max(...curve.drawdown);
  return `${name}: from 1 to ${formatRatio(curve.equity[last])} between ${formatTime(curve.ts[0], "1d")} and ${formatTime(curve.ts[last], "1d")}, deepest drawdown ${formatPercent(deepest)}`;
}

// `series`: the chosen sleeve first, then the baseline. Returns a function that marks a week and tells it.
export function plotEquity(container, series) {
  const width = Math.max(300, Math.min(1120, container.clientWidth));
  const isNarrow = width < 560;
  const longest = Math.max(...series.map(({ name }) => name.length));
  const room = { left: 46, right: isNarrow ? 12 : Math.min(240, 18 + LETTER * longest), top: isNarrow ? 10 + SMALL.key * series.length : 10, bottom: 26, gap: 22 };
  const equityHeight = isNarrow ? 210 : 280;
  const depthHeight = isNarrow ? 90 : 110;
  const depthTop = room.top + equityHeight + room.gap;
  const height = depthTop + depthHeight + room.bottom;
  const svg = paint(container, width, height, `Equity and drawdown. ${series.map(describe).join("; ")}`);
  const times = series.map(({ curve }) => curve.ts.map((ts) => Date.parse(ts)));
  const from = Math.min(...times.map((one) => one[0]));
  const to = Math.max(...times.map((one) => one[one.length - 1]));
  const values = series.flatMap(({ curve }) => curve.equity).map((one) => Math.max(FLOOR, one));
  const [low, high] = [Math.min(1, ...values) / 1.02, Math.max(1, ...values) * 1.02];
  const deepest = Math.max(0.02, ...series.flatMap(({ curve }) => curve.drawdown));
  const x = scale([from, to], [room.left, width - room.right]);
  const log = scale([Math.log(low), Math.log(high)], [room.top + equityHeight, room.top]);
  const y = (value) => log(Math.log(Math.max(FLOOR, value)));
  const depth = scale([0, deepest * 1.05], [depthTop, depthTop + depthHeight]);
  const rule = (at, text) => {
    svg.append(node("line", { class: "axis", x1: room.left, x2: width - room.right, y1: at, y2: at }));
    svg.append(node("text", { x: room.left - 6, y: at + 4, "text-anchor": "end" }, text));
  };
  const ticks = growthTicks(low, high);
  for (const tick of ticks) rule(y(tick), formatRatio(tick, digitsOf(ticks, 1)));
  for (const tick of niceTicks(0, deepest * 1.05, 3)) rule(depth(tick), tick ? `−${formatPercent(tick, 0)}` : "0 %");
  for (const [at, text] of timeTicks(from, to, width - room.left - room.right)) svg.append(node("text", { x: x(at), y: height - 8, "text-anchor": "middle" }, text));
  svg.append(node("line", { class: "guide", x1: room.left, x2: width - room.right, y1: y(1), y2: y(1) }));
  const labels = [];
  [...series].reverse().forEach((one) => {
    const index = series.indexOf(one);
    const xs = times[index].map(x);
    const depths = one.curve.drawdown.map(depth);
    if (index === 0) svg.append(node("path", { class: `area m${one.mark}`, d: `${line([xs[0], ...xs, xs[xs.length - 1]], [depth(0), ...depths, depth(0)])}Z` }));
    const style = `trace m${one.mark}${index ? " thin" : ""}`;
    svg.append(node("path", { class: style, d: line(xs, depths) }));
    svg.append(node("path", { class: style, d: line(xs, one.curve.equity.map(y)) }));
    labels.push({ text: one.name, mark: one.mark, y: y(one.curve.equity[one.curve.equity.length - 1]) });
  });
  if (isNarrow) labels.reverse().forEach(({ text, mark }, i) => svg.append(node("text", { class: `name m${mark}`, x: room.left, y: 14 + SMALL.key * i }, `● ${text}`)));
  else for (const { text, mark, y: at } of spread(labels)) svg.append(node("text", { class: `name m${mark}`, x: width - room.right + 8, y: at + 4 }, text));
  const cursor = node("line", { class: "cursor", x1: 0, x2: 0, y1: room.top, y2: depthTop + depthHeight, visibility: "hidden" });
  svg.append(cursor);
  const mark = (week) => {
    const at = x(times[0][week]);
    cursor.setAttribute("x1", at);
    cursor.setAttribute("x2", at);
    cursor.setAttribute("visibility", "visible");
  };
  const weekAt = (clientX) => {
    const box = svg.getBoundingClientRect();
    const wanted = from + ((((clientX - box.left) / box.width) * width - room.left) / (width - room.left - room.right)) * (to - from);
    let best = 0;
    times[0].forEach((time, i) => { if (Math.abs(time - wanted) < Math.abs(times[0][best] - wanted)) best = i; });
    return best;
  };
  return { mark, weekAt };
}

function smallFrame(container, label, [low, high], nKeys = 0) {
  const width = Math.max(270, Math.min(560, container.clientWidth));
  const svg = paint(container, width, SMALL.height, label);
  const right = width - SMALL.right;
  const y = scale([low, high], [SMALL.height - SMALL.bottom, SMALL.top + SMALL.key * nKeys]);
  const ticks = niceTicks(low, high, 4);
  for (const tick of ticks) {
    svg.append(node("line", { class: tick === 0 ? "guide" : "axis", x1: SMALL.left, x2: right, y1: y(tick), y2: y(tick) }));
    svg.append(node("text", { x: SMALL.left - 6, y: y(tick) + 4, "text-anchor": "end" }, formatRatio(tick, digitsOf(ticks, high - low > 6 ? 0 : 1))));
  }
  return { svg, y, right };
}

function sayInside(svg, text, right) {
  svg.append(node("text", { class: "empty", x: (SMALL.left + right) / 2, y: SMALL.height / 2 - 14, "text-anchor": "middle" }, text));
}

export function plotWindows(container, windows) {
  const known = windows.sharpe.filter((value) => value !== null);
  const n = windows.sharpe.length;
  const above = known.filter((value) => value > 0).length;
  const edge = Math.max(1, ...known.map(Math.abs)) * 1.05;
  const label = `Sharpe ratio of ${n} out-of-sample windows: ${above} above zero, lowest ${formatRatio(known.length ? Math.min(...known) : null)}, highest ${formatRatio(known.length ? Math.max(...known) : null)}`;
  const { svg, y, right } = smallFrame(container, label, [-edge, edge]);
  const x = scale([0, n], [SMALL.left, right]);
  if (!known.length) sayInside(svg, "Returns never vary: no Sharpe ratio", right);
  const gap = n > 60 ? 0.6 : 1.5;
  windows.sharpe.forEach((value, i) => {
    if (value === null) return;
    const bar = node("rect", { class: value > 0 ? "bar gain" : "bar loss", x: x(i) + gap / 2, width: Math.max(0.8, x(1) - x(0) - gap), y: Math.min(y(0), y(value)), height: Math.max(0.5, Math.abs(y(0) - y(value))) });
    bar.append(node("title", {}, `${formatTime(windows.start[i], "1d")}: ${formatRatio(value)}`));
    svg.append(bar);
  });
  let last = -Infinity;
  const years = windows.start.map((start) => start.slice(0, 4));
  const isLong = new Set(years).size > 2;
  years.forEach((year, i) => {
    if (i ? years[i - 1] === year : isLong) return;
    if (x(i + 0.5) - last < 46) return;
    last = x(i + 0.5);
    svg.append(node("text", { x: Math.max(SMALL.left + 14, last), y: SMALL.height - 10, "text-anchor": "middle" }, year));
  });
}

// `series`: [{name, mark, rungs}], the chosen sleeve first.
export function plotCosts(container, series) {
  const points = series.map(({ rungs }) => rungs.filter(({ sharpe }) => sharpe !== null));
  const values = points.flat().map(({ sharpe }) => sharpe);
  const words = series.map(({ name }, i) => `${name}: ${points[i].map((rung) => `${formatRatio(rung.sharpe)} at ${rung.slippage_bps} bps`).join(", ") || "constant returns"}`);
  const [low, high] = [Math.min(0, ...values), Math.max(0.1, ...values)];
  const room = (high - low) * 0.08;
  const { svg, y, right } = smallFrame(container, `Sharpe ratio by slippage. ${words.join("; ")}`, [low < 0 ? low - room : 0, high + room], series.length);
  if (!points[0].length) sayInside(svg, "Returns never vary: no Sharpe ratio", right);
  const rungs = series[0].rungs.map(({ slippage_bps: bps }) => bps);
  const x = scale([Math.min(...rungs), Math.max(...rungs)], [SMALL.left + 14, right - 14]);
  for (const bps of rungs) svg.append(node("text", { x: x(bps), y: SMALL.height - 10, "text-anchor": "middle" }, `${bps} bps`));
  [...series].reverse().forEach((one) => {
    const index = series.indexOf(one);
    const shown = points[index].filter(({ slippage_bps: bps }) => bps >= Math.min(...rungs) && bps <= Math.max(...rungs));
    svg.append(node("path", { class: `trace m${one.mark}${index ? " thin" : ""}`, d: line(shown.map((rung) => x(rung.slippage_bps)), shown.map((rung) => y(rung.sharpe))) }));
    for (const rung of shown) {
      const dot = node("circle", { class: `mark m${one.mark}`, cx: x(rung.slippage_bps), cy: y(rung.sharpe), r: index ? 3 : 4.5 });
      dot.append(node("title", {}, `${one.name}: ${formatRatio(rung.sharpe)} at ${rung.slippage_bps} bps`));
      svg.append(dot);
    }
  });
  series.forEach(({ name, mark }, i) => svg.append(node("text", { class: `name m${mark}`, x: SMALL.left, y: SMALL.top + 2 + SMALL.key * i }, `● ${name}`)));
}
