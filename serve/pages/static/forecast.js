// The front page: pick a symbol, model and horizon; see bars and the fan.

import { fillPicker, formatPercent, formatPrice, formatTime, getItems, getJson, readState, showBanner, showProblem, writeState } from "/static/api.js";
import { createFanChart } from "/static/fan.js";

const at = (id) => document.getElementById(id);
const pickers = { symbol: at("symbol"), timeframe: at("timeframe"), model: at("model"), horizon: at("horizon") };
const STEPS = { "1h": [4, 24, 120], "1d": [5, 20, 60, 120] };
const LATEST = new Map();
let chart = null;
let drawn = 0;

function newest(instrument) {
  return LATEST.get(instrument) || [];
}

function choose(state) {
  const known = newest(pickers.symbol.value);
  const timeframes = [...new Set(known.map((one) => one.timeframe))].sort();
  const timeframe = fillPicker(pickers.timeframe, timeframes, state.timeframe, (value) => (value === "1d" ? "daily" : "hourly"));
  const models = known.filter((one) => one.timeframe === timeframe).map((one) => one.model_name);
  fillPicker(pickers.model, models, state.model);
}

function chooseHorizon(forecast, wanted) {
  const length = forecast.p50.length;
  const steps = [...new Set([...(STEPS[forecast.timeframe] || []).filter((step) => step < length), length])];
  fillPicker(pickers.horizon, steps, wanted || steps[Math.min(1, steps.length - 1)], (value) => `${value} bars`);
}

function badge(text, warn = false) {
  const item = document.createElement("li");
  item.textContent = text;
  item.className = warn ? "warn" : "";
  return item;
}

function describe(forecast, bars, horizon) {
  const last = bars.length ? bars[bars.length - 1].close : null;
  const i = horizon - 1;
  const change = last === null ? null : forecast.p50[i] / last - 1;
  return { last, i, change };
}

function calibration(band, horizon) {
  // Horizons between two calibrated ones lean on the nearer of them.
  const gaps = band.horizons.map((step) => Math.abs(step - horizon));
  const settled = band.n_labels[gaps.indexOf(Math.min(...gaps))] || 0;
  return `${settled || "no"} settled ${settled === 1 ? "forecast" : "forecasts"} of this symbol`;
}

// Until something has settled, the calibrated band is the forecast's own: none to show.
function calibratedBand({ band, p10, p90 }) {
  const moved = (a, b) => Math.abs(a - b) > 1e-9 * Math.abs(b);
  const isMoved = band && band.p10.some((value, i) => moved(value, p10[i]) || moved(band.p90[i], p90[i]));
  return isMoved ? band : null;
}

function showFacts(forecast, bars, horizon) {
  const { last, i, change } = describe(forecast, bars, horizon);
  const { band } = forecast;
  const facts = [
    ["Last close", formatPrice(last)],
    [`Median in ${horizon} bars`, `${formatPrice(forecast.p50[i])} (${formatPercent(change, 2)})`],
    ["The model’s 80 % band", `${formatPrice(forecast.p10[i])} to ${formatPrice(forecast.p90[i])}`],
    ["Calibrated 80 % band", band ? `${formatPrice(band.p10[i])} to ${formatPrice(band.p90[i])} (${calibration(band, horizon)})` : "not yet: too little has settled"],
    ["Known as of", `${formatTime(forecast.as_of, "1h")} UTC`],
    ["Generated", `${formatTime(forecast.generated_at, "1h")} UTC`],
    ["Model", `${forecast.model_name} ${forecast.model_version}`],
    ["Signed artefact", `version ${forecast.artefact.version}, sha256 ${forecast.artefact.sha256.slice(0, 16)}…`],
  ];
  at("facts").replaceChildren(...facts.map(([name, value]) => {
    const box = document.createElement("div");
    const term = Object.assign(document.createElement("dt"), { textContent: name });
    const text = Object.assign(document.createElement("dd"), { textContent: value });
    box.append(term, text);
    return box;
  }));
}

function showWords(forecast, bars, horizon) {
  const { i, change } = describe(forecast, bars, horizon);
  const { symbol, timeframe } = forecast;
  at("headline").textContent = `${symbol}: ${formatPrice(forecast.p50[i])} by ${formatTime(forecast.target_ts[i], timeframe)}, 80 % between ${formatPrice(forecast.p10[i])} and ${formatPrice(forecast.p90[i])}`;
  at("chart").setAttribute("aria-label", `${bars.length} ${timeframe === "1d" ? "daily" : "hourly"} candles of ${symbol} and the ${forecast.model_name} forecast for ${horizon} bars: median change ${formatPercent(change, 2)}. Arrow keys pan, plus and minus zoom; the table below holds the numbers.`);
  const skill = { true: ["beats persistence", false], false: ["no skill shown against persistence", true] }[String(forecast.has_skill)] || ["skill not judged yet", false];
  at("badges").replaceChildren(
    badge("signature verified"),
    badge(forecast.stale ? "stale" : "fresh", forecast.stale),
    badge(...skill),
    ...(forecast.is_contaminated ? [badge("its model may have seen these bars in training", true)] : []),
  );
}

function showTable(forecast, horizon) {
  const { p10, p50, p90, band } = forecast;
  const numbers = [["p10", p10], ["p50", p50], ["p90", p90], ...(band ? [["calibrated p10", band.p10], ["calibrated p90", band.p90]] : [])];
  at("head").replaceChildren(...["Step", "Bar (UTC)", ...numbers.map(([name]) => name)].map((name, column) => {
    const cell = Object.assign(document.createElement("th"), { scope: "col", textContent: name });
    if (column > 1) cell.className = "number";
    return cell;
  }));
  const rows = p50.slice(0, horizon).map((_, i) => {
    const row = document.createElement("tr");
    const cells = [i + 1, formatTime(forecast.target_ts[i], forecast.timeframe), ...numbers.map(([, values]) => formatPrice(values[i]))];
    cells.forEach((value, column) => {
      const cell = document.createElement("td");
      cell.textContent = value;
      if (column > 1) cell.className = "number";
      row.append(cell);
    });
    return row;
  });
  at("rows").replaceChildren(...rows);
  at("table-caption").textContent = `${forecast.symbol}, ${forecast.model_name}: forecast quantiles per bar`;
}

function showBands() {
  if (chart) chart.show({ isBand: at("show-band").checked, isCalibrated: at("show-calibrated").checked });
}

async function draw(wantedHorizon) {
  const turn = (drawn += 1);
  const symbol = encodeURIComponent(pickers.symbol.value);
  const timeframe = pickers.timeframe.value;
  try {
    const [forecast, bars] = await Promise.all([
      getJson(`/showcase/ml-prediction/${symbol}?model_name=${encodeURIComponent(pickers.model.value)}&timeframe=${timeframe}`),
      getItems(`/showcase/ohlcv/${symbol}?timeframe=${timeframe}`),
    ]);
    if (turn !== drawn) return;
    forecast.band = calibratedBand(forecast);
    chooseHorizon(forecast, wantedHorizon);
    const horizon = Number(pickers.horizon.value);
    const seen = bars.filter((bar) => bar.ts < forecast.target_ts[0]);
    chart = chart || createFanChart(at("chart"));
    at("calibrated-box").hidden = !forecast.band;
    showBands();
    chart.draw(seen, forecast, horizon);
    showWords(forecast, seen, horizon);
    showFacts(forecast, seen, horizon);
    showTable(forecast, horizon);
    showProblem(at("problem"), null);
    at("chart").dataset.drawn = `${forecast.symbol}/${forecast.model_name}/${horizon}`;
    writeState({ symbol: pickers.symbol.value, timeframe, model: pickers.model.value, horizon: pickers.horizon.value });
  } catch (error) {
    if (turn !== drawn) return;
    at("headline").textContent = "No forecast to show";
    showProblem(at("problem"), error);
  }
}

async function start() {
  const state = readState(["symbol", "timeframe", "model", "horizon"]);
  showBanner(at("banner"));
  try {
    const instruments = await getItems("/showcase/instruments");
    for (const one of instruments) if (one.forecasts.length) LATEST.set(one.symbol, one.forecasts);
    if (!LATEST.size) throw new Error("No instrument has a verified forecast yet: run `alphalake forecast` and `alphalake publish`.");
    fillPicker(pickers.symbol, [...LATEST.keys()].sort(), state.symbol);
  } catch (error) {
    at("headline").textContent = "No forecast to show";
    showProblem(at("problem"), error);
    return;
  }
  choose(state);
  await draw(state.horizon);
  pickers.symbol.addEventListener("change", () => { choose({ timeframe: pickers.timeframe.value, model: pickers.model.value }); draw(pickers.horizon.value); });
  pickers.timeframe.addEventListener("change", () => { choose({ timeframe: pickers.timeframe.value, model: pickers.model.value }); draw(null); });
  pickers.model.addEventListener("change", () => draw(pickers.horizon.value));
  pickers.horizon.addEventListener("change", () => draw(pickers.horizon.value));
  for (const box of [at("show-band"), at("show-calibrated")]) box.addEventListener("change", showBands);
  at("pickers").addEventListener("submit", (event) => event.preventDefault());
  at("chart").addEventListener("keydown", (event) => {
    if (["ArrowLeft", "ArrowRight", "+", "-"].includes(event.key)) { event.preventDefault(); chart.move(event.key); }
  });
}

start();
