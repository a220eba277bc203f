// The evaluation page: how settled forecasts turned out, per model, horizon and symbol.

import { fillPicker, formatPercent, getItems, readState, showBanner, showProblem, writeState } from "/static/api.js";
import { plotCalibration, plotCoverage, plotPit, plotSkill, showEmpty } from "/static/plots.js";
import { chip, drawVerdicts, orderModels, verdictOf } from "/static/verdicts.js";

const at = (id) => document.getElementById(id);
const pickers = { timeframe: at("timeframe"), horizon: at("horizon"), symbol: at("symbol"), model: at("model") };
const court = (name) => (row) => row.court?.[name] ?? null;
const COLUMNS = [
  ["Symbol", (row) => row.symbol], ["Model", (row) => row.model_name], ["Horizon", (row) => row.horizon],
  ["Verdict", (row) => verdictOf(row).text, chip],
  ["Judged", (row) => row.n_in_skill], ["Blocks", court("n_blocks")],
  ["Error", court("mae"), precise], ["Persistence", court("mae_persistence"), precise], ["Naive", court("mae_naive"), precise],
  ["Against persistence", (row) => row.skill_mae, formatPercent], ["p", court("p_persistence"), short],
  ["Against naive", court("skill_naive"), formatPercent], ["p", court("p_naive"), short], ["Adjusted p", court("q_skill"), short],
  ["In band", (row) => row.coverage_80, formatPercent], ["Right side", (row) => row.hit_rate, formatPercent],
  ["Rank IC", court("rank_ic"), short], ["CRPS", (row) => row.crps, short], ["MASE", (row) => row.mase, short], ["Sharpe", (row) => row.sharpe, short],
];
let pools = [];
let scores = [];
let order = { column: 0, sign: 1 };

function short(value) {
  return value === null || value === undefined ? "–" : Number(value).toPrecision(3);
}

function precise(value) {
  return formatPercent(value, 3);
}

function mean(rows, column) {
  const known = rows.filter((row) => row[column] !== null && row.n_in_skill > 0);
  const weight = known.reduce((sum, row) => sum + row.n_in_skill, 0);
  return weight ? known.reduce((sum, row) => sum + row[column] * row.n_in_skill, 0) / weight : null;
}

function chosen({ anyHorizon = false, from = scores } = {}) {
  const { timeframe, horizon, symbol, model } = pickers;
  return from.filter((row) => row.timeframe === timeframe.value
    && (anyHorizon || row.horizon === Number(horizon.value))
    && (from === pools || symbol.value === "all" || row.symbol === symbol.value)
    && (model.value === "all" || row.model_name === model.value));
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

function drawPit(models) {
  const series = models.map((name) => {
    const rows = chosen().filter((row) => row.model_name === name && row.court?.n_obs);
    return { name, counts: Array.from({ length: 10 }, (_, i) => rows.reduce((sum, row) => sum + row.court.pit_histogram[i], 0)) };
  });
  if (series.some(({ counts }) => counts.some(Boolean))) plotPit(at("pit"), series.filter(({ counts }) => counts.some(Boolean)));
  else showEmpty(at("pit"), "Not judged yet");
}

function drawTable() {
  const value = COLUMNS[order.column][1];
  const rows = [...chosen({ anyHorizon: true })].sort((a, b) => {
    const [left, right] = [value(a), value(b)];
    if (left === right) return a.symbol.localeCompare(b.symbol) || a.horizon - b.horizon;
    if (left === null) return 1;
    if (right === null) return -1;
    return order.sign * (typeof left === "string" ? left.localeCompare(right) : left - right);
  });
  at("scores").tBodies[0].replaceChildren(...rows.map((row) => {
    const line = document.createElement("tr");
    for (const [, read, format] of COLUMNS) {
      const cell = document.createElement("td");
      const value = read(row);
      cell.append(format === chip ? chip(row) : format ? format(value) : value ?? "–");
      if (typeof value !== "string") cell.className = "number";
      line.append(cell);
    }
    return line;
  }));
}

function drawHead() {
  const line = document.createElement("tr");
  COLUMNS.forEach(([title], column) => {
    const cell = document.createElement("th");
    cell.scope = "col";
    const button = Object.assign(document.createElement("button"), { type: "button", textContent: title });
    button.addEventListener("click", () => {
      order = { column, sign: order.column === column ? -order.sign : 1 };
      for (const other of line.cells) other.removeAttribute("aria-sort");
      cell.setAttribute("aria-sort", order.sign > 0 ? "ascending" : "descending");
      drawTable();
    });
    cell.append(button);
    line.append(cell);
  });
  at("scores").tHead.replaceChildren(line);
}

function say(models) {
  const words = models.map((name) => {
    const rows = chosen().filter((row) => row.model_name === name);
    const n = rows.reduce((sum, row) => sum + row.n_in_skill, 0);
    const judged = rows.filter((row) => row.has_skill !== null);
    const skilled = judged.filter((row) => row.has_skill);
    const symbols = judged.length === 1 ? judged[0].symbol : `${judged.length} symbols`;
    const verdict = !judged.length ? "not judged yet" : skilled.length ? `skill on ${skilled.length} of ${symbols}` : `no skill on ${symbols}`;
    return `${name}: ${n} forecasts, ${formatPercent(mean(rows, "coverage_80"))} in the 80 % band, ${verdict}`;
  });
  at("lead").textContent = words.join(". ") || "No settled forecasts yet.";
}

function draw() {
  const models = orderModels(unique(chosen({ anyHorizon: true }), "model_name"));
  drawVerdicts(at("verdicts"), pickers.symbol.value === "all" ? chosen({ from: pools }) : [], chosen(), models);
  drawCalibration(models);
  drawCoverage(models);
  drawPit(models);
  drawSkill(models);
  drawTable();
  say(models);
  const state = Object.fromEntries(Object.entries(pickers).map(([name, picker]) => [name, picker.value]));
  at("scores").dataset.drawn = Object.values(state).join("/");
  writeState(state);
}

function fill(state) {
  const timeframe = fillPicker(pickers.timeframe, unique(scores, "timeframe").sort(), state.timeframe, (value) => (value === "1d" ? "daily" : "hourly"));
  const rows = scores.filter((row) => row.timeframe === timeframe);
  const horizons = unique(rows, "horizon").sort((a, b) => a - b);
  fillPicker(pickers.horizon, horizons, state.horizon || horizons[Math.min(1, horizons.length - 1)], (value) => `${value} bar${value === 1 ? "" : "s"}`);
  fillPicker(pickers.symbol, ["all", ...unique(rows, "symbol").sort()], state.symbol);
  fillPicker(pickers.model, ["all", ...orderModels(unique(rows, "model_name"))], state.model);
}

async function start() {
  showBanner(at("banner"));
  drawHead();
  try {
    [scores, ...pools] = await Promise.all(["symbol", "all", "asset_class"].map((level) => getItems(level === "symbol" ? "/showcase/evaluation" : `/showcase/evaluation?level=${level}`)));
    pools = pools.flat();
    if (!scores.length) throw new Error("No forecast has settled yet: run `alphalake score` once their bars are known.");
  } catch (error) {
    at("lead").textContent = "No scores to show";
    showProblem(at("problem"), error);
    return;
  }
  fill(readState(Object.keys(pickers)));
  draw();
  pickers.timeframe.addEventListener("change", () => { fill({ timeframe: pickers.timeframe.value }); draw(); });
  for (const name of ["horizon", "symbol", "model"]) pickers[name].addEventListener("change", draw);
  at("pickers").addEventListener("submit", (event) => event.preventDefault());
}

start();
