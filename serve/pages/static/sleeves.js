// The sleeves page: one sleeve out of sample beside the locked baseline, and all of them.

import { fillPicker, formatPercent, formatTime, getItems, readState, showBanner, showProblem, writeState } from "/static/api.js";
import { formatRatio, formatShare, plotCosts, plotEquity, plotWindows } from "/static/equity.js";
import { chipOf, fillTable } from "/static/tables.js";

const at = (id) => document.getElementById(id);
const pickers = { timeframe: at("timeframe"), sleeve: at("sleeve") };
const STAGES = ["genesis", "backtest", "walk_forward", "walk_forward_multi_fold", "paper", "canary", "live", "retired"];
const GATES = { dsr: "Deflated Sharpe ratio", reality_check: "Reality Check", pbo: "Overfitting (PBO)" };
const SHORT = { dsr: "DSR", reality_check: "RC", pbo: "PBO" };
let items = [];
let chart = null;
let week = 0;

const spoken = (stage) => (stage || "not registered").replaceAll("_", " ");
const day = (text) => formatTime(text, "1d");
const figure = (value) => (value === null || value === undefined ? "–" : Math.abs(value) < 0.0005 && value !== 0 ? "< 0.001" : formatRatio(value, 3));
const onBars = () => items.filter((one) => one.timeframe === pickers.timeframe.value);
const current = () => onBars().find((one) => one.sleeve_id === pickers.sleeve.value) || onBars()[0];
const baseline = () => onBars().find((one) => one.is_baseline);
const judgedRung = (one) => one.rungs.find((rung) => rung.slippage_bps === one.slippage_bps) || one.rungs[one.rungs.length - 1];

function beside(one) {
  const locked = baseline();
  const chosen = { name: one.sleeve_id, mark: one.is_baseline ? 1 : 0, ...one };
  return !locked || locked === one ? [chosen] : [chosen, { name: locked.sleeve_id, mark: 1, ...locked }];
}

function change(rung) {
  if (rung.sharpe === null || rung.sharpe_before === null) return "–";
  const by = rung.sharpe - rung.sharpe_before;
  return `${by < 0 ? "−" : "+"}${Math.abs(by).toFixed(2)}`;
}

function passedWords(one) {
  if (!one.gates.length) return "not judged by the gates yet";
  const n = one.gates.filter((gate) => gate.is_passed).length;
  return `${n} of ${one.gates.length} gates passed`;
}

function drawLadder(one) {
  const spot = STAGES.indexOf(one.stage);
  at("ladder").replaceChildren(...STAGES.map((stage, i) => {
    const step = document.createElement("li");
    step.textContent = spoken(stage);
    if (i === spot) step.setAttribute("aria-current", "step");
    else if (i < spot && one.stage !== "retired" && !one.is_baseline) step.className = "past";
    return step;
  }));
}

function drawBadges(one) {
  const rung = judgedRung(one);
  const words = [
    one.stage ? null : "not registered yet",
    one.is_baseline ? "live from the start, moved by no rule" : null,
    one.runtime_weight ? `weight ${formatRatio(one.runtime_weight)}` : "weight 0: watched, not traded",
    `Sharpe ${formatRatio(rung.sharpe)} at ${one.slippage_bps} bps`,
    `${formatShare(rung.annual_return)} a year`,
    `deepest drawdown ${formatPercent(rung.max_drawdown)}`,
    passedWords(one),
    one.run_id_before && change(rung) !== "–" ? `Sharpe ${change(rung)} since the run before` : null,
  ].filter(Boolean);
  at("badges").replaceChildren(...words.map((text) => Object.assign(document.createElement("li"), { textContent: text })));
}

function tellWeek() {
  const parts = beside(current()).map(({ name, curve }) => {
    const i = Math.min(week, curve.ts.length - 1);
    return `${name} ${formatRatio(curve.equity[i], 3)}, ${formatPercent(curve.drawdown[i])} below its high`;
  });
  at("readout").textContent = `Week to ${day(current().curve.ts[week])}: ${parts.join("; ")}`;
  chart.mark(week);
}

function drawPlots(one) {
  plotWindows(at("windows"), one.windows);
  plotCosts(at("costs"), beside(one));

  at("equity-note").textContent = `Net of ${one.slippage_bps} bps a unit of turnover, log scale, ${day(one.first_ts)} to ${day(one.last_ts)}. One point a week: equity on its last day, drawdown at its deepest.`;
  if (!one.curve.ts.length) { at("equity").replaceChildren(); return; }
  chart = plotEquity(at("equity"), beside(one));
}

function drawGates(one) {
  const order = Object.keys(GATES);
  const gates = [...one.gates].sort((a, b) => order.indexOf(a.gate) - order.indexOf(b.gate));
  fillTable(at("gates"), [
    ["Gate", (row) => GATES[row.gate] || row.gate],
    ["Verdict", (row) => chipOf(row.is_passed, row.is_passed ? "passed" : "failed")],
    ["How far, and what would change it", (row) => row.words],
    ["Value", (row) => figure(row.value), true],
    ["Needed", (row) => `${row.gate === "dsr" ? "≥" : "≤"} ${row.threshold}`, true],
    ["Tries counted", (row) => row.n_trials.toLocaleString("en"), true],
    ["Judged", (row) => day(row.decided_at)],
  ], gates);
  if (!gates.length) {
    const line = at("gates").tBodies[0].insertRow();
    const cell = line.insertCell();
    cell.colSpan = 7;
    cell.textContent = "Not judged yet: `alphalake walkforward` ends with the gates; `alphalake gates --sleeve ID` judges again.";
  }
}

function drawTables(one) {
  const [, locked] = beside(one);
  fillTable(at("rungs"), [
    ["Slippage", (row) => `${row.slippage_bps} bps`],
    ["Sharpe", (row) => formatRatio(row.sharpe), true], ["Return a year", (row) => formatShare(row.annual_return), true],
    ["Volatility", (row) => formatPercent(row.volatility), true], ["Max drawdown", (row) => formatPercent(row.max_drawdown), true],
    ["Turnover a day", (row) => formatRatio(row.turnover_day, 3), true], ["Trades", (row) => row.trades.toLocaleString("en"), true],
    ["Windows above 0", (row) => formatPercent(row.positive_windows, 0), true], ["Sharpe before", (row) => formatRatio(row.sharpe_before), true],
  ], one.rungs);
  const weekly = [["Week to", (ts) => day(ts)], ["Equity", (_, i) => formatRatio(one.curve.equity[i], 4), true], ["Drawdown", (_, i) => formatPercent(one.curve.drawdown[i]), true]];
  if (locked) {
    const places = new Map(locked.curve.ts.map((ts, i) => [ts, i]));
    weekly.push([`Equity of ${locked.name}`, (ts) => formatRatio(locked.curve.equity[places.get(ts)], 4), true], [`Drawdown of ${locked.name}`, (ts) => formatPercent(locked.curve.drawdown[places.get(ts)]), true]);
  }
  fillTable(at("series"), weekly, one.curve.ts);
  fillTable(at("sharpes"), [["Window from", (ts) => day(ts)], ["Sharpe", (_, i) => formatRatio(one.windows.sharpe[i]), true]], one.windows.start);
  const weights = Object.entries(one.weights || {}).filter(([, weight]) => weight !== 0).sort((a, b) => Math.abs(b[1]) - Math.abs(a[1]) || a[0].localeCompare(b[0]));
  at("weights-box").hidden = !one.weights;
  at("weights-note").textContent = weights.length ? `Shares of the sleeve’s own book, negative for short; together ${formatPercent(weights.reduce((sum, [, weight]) => sum + Math.abs(weight), 0), 0)} of it.` : "Flat: no instrument is held.";
  fillTable(at("weights"), [["Instrument", ([symbol]) => symbol], ["Weight", ([, weight]) => formatShare(weight), true]], weights);
}

function gateChips(one) {
  if (!one.gates.length) return chipOf(null, "not judged");
  return [...one.gates].sort((a, b) => Object.keys(SHORT).indexOf(a.gate) - Object.keys(SHORT).indexOf(b.gate))
    .flatMap((gate) => [chipOf(gate.is_passed, `${SHORT[gate.gate] || gate.gate} ${gate.is_passed ? "✓" : "✗"}`, gate.words), " "]);
}

function drawAll() {
  const rung = (read) => (row) => read(judgedRung(row));
  const highest = Math.max(...current().rungs.map((one) => one.slippage_bps));
  fillTable(at("all"), [
    ["Sleeve", (row) => {
      const button = Object.assign(document.createElement("button"), { type: "button", textContent: row.sleeve_id });
      button.addEventListener("click", () => { pickers.sleeve.value = row.sleeve_id; draw(); at("sleeve-title").scrollIntoView({ block: "start" }); });
      return row.is_baseline ? [button, " (baseline)"] : button;
    }],
    ["Stage", (row) => spoken(row.stage)], ["Weight", (row) => formatRatio(row.runtime_weight), true], ["Gates", gateChips],
    ["Sharpe", rung((one) => formatRatio(one.sharpe)), true], ["Before", rung((one) => formatRatio(one.sharpe_before)), true],
    [`At ${highest} bps`, (row) => formatRatio(row.rungs[row.rungs.length - 1].sharpe), true],
    ["Return a year", rung((one) => formatShare(one.annual_return)), true], ["Volatility", rung((one) => formatPercent(one.volatility)), true],
    ["Max drawdown", rung((one) => formatPercent(one.max_drawdown)), true], ["Turnover a day", rung((one) => formatRatio(one.turnover_day, 3)), true],
    ["Windows above 0", rung((one) => formatPercent(one.positive_windows, 0)), true],
  ], onBars(), { onRow: (line, row) => { if (row.is_baseline) line.className = "pool"; if (row === current()) line.setAttribute("aria-current", "true"); } });
}

function say(one) {
  const rows = onBars();
  const passed = rows.filter((row) => row.gates.length && row.gates.every((gate) => gate.is_passed));
  const judged = rows.filter((row) => row.gates.length).length;
  const verdict = !judged ? "none judged yet" : passed.length ? `${passed.map((row) => row.sleeve_id).join(", ")} passed all gates` : `none of ${judged} judged passed all gates`;
  at("lead").textContent = `${rows.length} ${rows.length === 1 ? "sleeve" : "sleeves"} on ${pickers.timeframe.value === "1d" ? "daily" : "hourly"} bars, walked forward over ${one.n_obs.toLocaleString("en")} days that no parameter was chosen on; ${verdict}. Run ${one.run_id}, ended ${formatTime(one.ran_at, "1h")} UTC.`;
}

function draw() {
  const one = current();
  week = one.curve.ts.length - 1;
  at("sleeve-title").textContent = one.is_baseline ? `${one.sleeve_id}, the locked baseline` : one.sleeve_id;
  drawLadder(one);
  drawBadges(one);
  drawPlots(one);
  at("readout").textContent = "";
  const above = judgedRung(one).positive_windows;
  at("windows-note").textContent = `Annualised, net of ${one.slippage_bps} bps, ${one.windows.sharpe.length} windows${above === null ? "" : `; ${formatPercent(above, 0)} made money`}. One window is short: a single bar is mostly noise.`;
  drawGates(one);
  drawTables(one);
  drawAll();
  say(one);
  at("equity").dataset.drawn = `${one.timeframe}/${one.sleeve_id}`;
  writeState({ timeframe: one.timeframe, sleeve: one.sleeve_id });
}

function fill(state) {
  const frames = [...new Set(items.map((one) => one.timeframe))];
  fillPicker(pickers.timeframe, frames, state.timeframe, (value) => (value === "1d" ? "daily" : "hourly"));
  fillPicker(pickers.sleeve, onBars().map((one) => one.sleeve_id), state.sleeve, (id) => (id === baseline()?.sleeve_id ? `${id} (baseline)` : id));
}

function listen() {
  pickers.timeframe.addEventListener("change", () => { fill({ timeframe: pickers.timeframe.value, sleeve: pickers.sleeve.value }); draw(); });
  pickers.sleeve.addEventListener("change", draw);
  at("pickers").addEventListener("submit", (event) => event.preventDefault());
  at("equity").addEventListener("pointermove", (event) => { if (chart) { week = chart.weekAt(event.clientX); tellWeek(); } });
  at("equity").addEventListener("keydown", (event) => {
    const by = { ArrowLeft: -1, ArrowRight: 1, PageUp: -13, PageDown: 13 }[event.key];
    if (!by || !chart) return;
    event.preventDefault();
    week = Math.max(0, Math.min(current().curve.ts.length - 1, week + by));
    tellWeek();
  });
  let width = at("equity").clientWidth;
  new ResizeObserver(() => { if (at("equity").clientWidth !== width) { width = at("equity").clientWidth; drawPlots(current()); } }).observe(at("equity"));
}

async function start() {
  showBanner(at("banner"));
  try {
    items = await getItems("/showcase/sleeves");
    if (!items.length) throw new Error("No sleeve has been walked forward yet: run `alphalake walkforward` and `alphalake publish`.");
  } catch (error) {
    at("lead").textContent = "No sleeve to show";
    at("pickers").hidden = true;
    showProblem(at("problem"), error);
    return;
  }
  at("book").hidden = false;
  fill(readState(Object.keys(pickers)));
  draw();
  listen();
}

start();
