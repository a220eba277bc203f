// The grid of verdicts: one row a symbol or pool, the baselines first, one column a model.

import { formatPercent } from "/static/api.js";

const BASELINE = "naive";

export function verdictOf(row) {
  if (!row || row.has_skill === null || row.has_skill === undefined) return { name: "open", text: "not judged" };
  return row.has_skill ? { name: "yes", text: "skill" } : { name: "no", text: "no skill" };
}

export function whyOf(row) {
  if (!row) return "no settled forecast";
  if (!row.court) return "not judged yet";
  const { reason, q_skill: q } = row.court;
  return q === null ? reason : `${reason} (adjusted p ${q.toPrecision(2)})`;
}

export function chip(row) {
  const { name, text } = verdictOf(row);
  const element = document.createElement("span");
  element.className = `chip ${name}`;
  element.textContent = text;
  element.title = whyOf(row);
  return element;
}

function cell(tag, content, className = "") {
  const element = document.createElement(tag);
  if (className) element.className = className;
  element.append(...[content].flat());
  return element;
}

function error(value) {
  return formatPercent(value, value !== null && value !== undefined && value < 0.01 ? 3 : 2);
}

function line(name, rows, models) {
  const byModel = new Map(rows.map((row) => [row.model_name, row]));
  const known = rows.find((row) => row.court);
  const element = document.createElement("tr");
  const head = cell("th", name);
  head.scope = "row";
  element.append(head, cell("td", error(known?.court.mae_persistence), "number"));
  for (const model of models) {
    const row = byModel.get(model);
    element.append(row ? cell("td", [chip(row), ` ${error(row.court?.mae)}${ownPersistence(row, known)}`], "verdict") : cell("td", "–", "verdict"));
  }
  return element;
}

// Models forecast at other moments than the row's first: then "the price stays" errs otherwise there.
function ownPersistence(row, known) {
  const [own, shown] = [row.court?.mae_persistence, known?.court.mae_persistence].map((value) => value ?? null);
  return own === null || shown === null || error(own) === error(shown) ? "" : ` (${error(own)})`;
}

const POOLS = { all: "All symbols" };

export function orderModels(models) {
  return [...models].sort((a, b) => (b === BASELINE) - (a === BASELINE) || a.localeCompare(b));
}

export function drawVerdicts(table, pools, scores, models) {
  const ordered = orderModels(models);
  const head = document.createElement("tr");
  for (const title of ["", "persistence", ...ordered]) {
    const element = cell("th", title === BASELINE ? `${title} (baseline)` : title, title === "persistence" ? "number" : "");
    if (title) element.scope = "col";
    head.append(element);
  }
  table.tHead.replaceChildren(head);
  const lines = [];
  for (const [rows, title] of [[pools, (name) => POOLS[name] || `All ${name}`], [scores, (name) => name]]) {
    for (const name of [...new Set(rows.map((row) => row.symbol))]) {
      const element = line(title(name), rows.filter((row) => row.symbol === name), ordered);
      if (rows === pools) element.className = "pool";
      lines.push(element);
    }
  }
  table.tBodies[0].replaceChildren(...lines);
}
