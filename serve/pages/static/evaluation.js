// The evaluation page: how settled forecasts turned out, per model, horizon and symbol.

import { fillPicker, formatPercent, getItems, readState, showBanner, showProblem, writeState } from "/static/api.js";
import { plotCalibration, plotCoverage, plotSkill, showEmpty } from "/static/plots.js";

const at = (id) => document.getElementById(id);
const pickers = { timeframe: at("timeframe"), horizon: at("horizon"), symbol: at("symbol") };
const COLUMNS = [
  ["symbol", "Symbol"], ["model_name", "Model"], ["horizon", "Horizon"], ["n_in_skill", "Judged"],
  ["coverage_80", "In band", formatPercent], ["hit_rate", "Right side", formatPercent],
  ["crps", "CRPS", short], ["mase", "MASE", short], ["skill_mae", "Skill", formatPercent],
  ["skill_crps", "Skill of the band", formatPercent], ["sharpe", "Sharpe", short],
];
let scores = [];
let order = { column: "symbol", sign: 1 };

function short(value) {
  return value === null || value === undefined ? "–" : Number(value).toPrecision(3);
}

function mean(rows, column) {
  const known = rows.filter((row) => row[column] !== null && row.n_in_skill > 0);
  const weight = known.reduce((sum, row) => sum + row.n_in_skill, 0);
  return weight ? known.reduce((sum, row) => sum + row[column] * row.n_in_skill, 0) / weight : null;
}

function chosen({ anyHorizon = false } = {}) {
  const { timeframe, horizon, symbol } = pickers;
  return scores.filter((row) => row.timeframe === timeframe.value
    && (anyHorizon || row.horizon === Number(horizon.value))
    && (symbol.value === "all" || row.symbol === symbol.value));
}

const unique = (rows, column) => [...new Set(rows.map((row) => row[column]))];

function drawCalibration(models) {
  const series = models.map((name) => {
    const rows = chosen().filter((row) => row.model_name === name);
    const points = [[0.1, mean(rows, "share_below_p10")], [0.5, mean(rows, "share_below_p50")], [0.9, mean(rows, "share_below_p90")]];
    return { name, points: points.filter(([, value]) => value !== null) };
  }).filter(({ points }) => points.length);
  if (series.length) plotCalibration(at("calibration"), series); else showEmpty(at("calibration"), "No settled forecasts");
}

function drawCoverage(models) {
  const all = chosen({ anyHorizon: true });
  const horizons = unique(all, "horizon").sort((a, b) => a - b);
  const series = models.map((name) => ({
    name,
    points: horizons.map((horizon, i) => [i, mean(all.filter((row) => row.model_name === name && row.horizon === horizon), "coverage_80")]).filter(([, value]) => value !== null),
  })).filter(({ points }) => points.length);
  if (series.length) plotCoverage(at("coverage"), series, horizons); else showEmpty(at("coverage"), "No settled forecasts");
}

function drawSkill(models) {
  const rows = chosen();
  const series = models.map((name) => ({ name, bySymbol: new Map(rows.filter((row) => row.model_name === name && row.skill_mae !== null).map((row) => [row.symbol, row.skill_mae])) }));
  plotSkill(at("skill"), unique(rows, "symbol").sort(), series);
}

function drawTable() {
  const rows = [...chosen({ anyHorizon: true })].sort((a, b) => {
    const [left, right] = [a[order.column], b[order.column]];
    if (left === right) return a.symbol.localeCompare(b.symbol) || a.horizon - b.horizon;
    if (left === null) return 1;
    if (right === null) return -1;
    return order.sign * (typeof left === "string" ? left.localeCompare(right) : left - right);
  });
  at("scores").tBodies[0].replaceChildren(...rows.map((row) => {
    const line = document.createElement("tr");
    for (const [name, , format] of COLUMNS) {
      const cell = document.createElement("td");
      cell.textContent = format ? format(row[name]) : row[name];
      if (typeof row[name] !== "string") cell.className = "number";
      line.append(cell);
    }
    return line;
  }));
}

function drawHead() {
  const line = document.createElement("tr");
  for (const [name, title] of COLUMNS) {
    const cell = document.createElement("th");
    cell.scope = "col";
    const button = Object.assign(document.createElement("button"), { type: "button", textContent: title });
    button.addEventListener("click", () => {
      order = { column: name, sign: order.column === name ? -order.sign : 1 };
      for (const other of line.cells) other.removeAttribute("aria-sort");
      cell.setAttribute("aria-sort", order.sign > 0 ? "ascending" : "descending");
      drawTable();
    });
    cell.append(button);
    line.append(cell);
  }
  at("scores").tHead.replaceChildren(line);
}

function say(models) {
  const words = models.map((name) => {
    const rows = chosen().filter((row) => row.model_name === name);
    const n = rows.reduce((sum, row) => sum + row.n_in_skill, 0);
    const skill = mean(rows, "skill_mae");
    const verdict = skill === null ? "skill not judged" : skill >= 0.0005 ? `median ${formatPercent(skill)} closer than persistence (not tested)` : "no skill against persistence";
    return `${name}: ${n} judged, ${formatPercent(mean(rows, "coverage_80"))} in the 80 % band, ${verdict}`;
  });
  at("lead").textContent = words.join(". ") || "No settled forecasts yet.";
}

function draw() {
  const models = unique(scores.filter((row) => row.timeframe === pickers.timeframe.value), "model_name").sort();
  drawCalibration(models);
  drawCoverage(models);
  drawSkill(models);
  drawTable();
  say(models);
  at("scores").dataset.drawn = `${pickers.timeframe.value}/${pickers.horizon.value}/${pickers.symbol.value}`;
  writeState({ timeframe: pickers.timeframe.value, horizon: pickers.horizon.value, symbol: pickers.symbol.value });
}

function fill(state) {
  const timeframe = fillPicker(pickers.timeframe, unique(scores, "timeframe").sort(), state.timeframe, (value) => (value === "1d" ? "daily" : "hourly"));
  const rows = scores.filter((row) => row.timeframe === timeframe);
  const horizons = unique(rows, "horizon").sort((a, b) => a - b);
  fillPicker(pickers.horizon, horizons, state.horizon || horizons[Math.min(1, horizons.length - 1)], (value) => `${value} bar${value === 1 ? "" : "s"}`);
  fillPicker(pickers.symbol, ["all", ...unique(rows, "symbol").sort()], state.symbol);
}

async function start() {
  showBanner(at("banner"));
  drawHead();
  try {
    scores = await getItems("/showcase/evaluation");
    if (!scores.length) throw new Error("No forecast has settled yet: run `alphalake score` once their bars are known.");
  } catch (error) {
    at("lead").textContent = "No scores to show";
    showProblem(at("problem"), error);
    return;
  }
  fill(readState(["timeframe", "horizon", "symbol"]));
  draw();
  pickers.timeframe.addEventListener("change", () => { fill({ timeframe: pickers.timeframe.value }); draw(); });
  pickers.horizon.addEventListener("change", draw);
  pickers.symbol.addEventListener("change", draw);
  at("pickers").addEventListener("submit", (event) => event.preventDefault());
}

start();
