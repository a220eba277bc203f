// What both pages share: fetching problem-aware JSON, formatting, pickers, the banner.

export async function getJson(path) {
  const answer = await fetch(path, { headers: { accept: "application/json" } });
  const body = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Error(body.detail || body.title || `${path}: HTTP ${answer.status}`);
  return body;
}

export async function getItems(path) {
  const joint = path.includes("?") ? "&" : "?";
  const items = [];
  for (;;) {
    const page = await getJson(`${path}${joint}limit=500&offset=${items.length}`);
    items.push(...page.items);
    if (!page.items.length || items.length >= page.total) return items;
  }
}

export function formatPrice(value) {
  if (value === null || value === undefined) return "–";
  const size = Math.abs(value);
  const digits = size >= 1000 ? 2 : size >= 10 ? 3 : 5;
  return value.toLocaleString("en", { minimumFractionDigits: 2, maximumFractionDigits: digits });
}

export function formatPercent(value, digits = 1) {
  return value === null || value === undefined ? "–" : `${(100 * value).toFixed(digits)} %`;
}

export function formatTime(text, timeframe) {
  const iso = new Date(text).toISOString();
  return timeframe === "1d" ? iso.slice(0, 10) : iso.slice(0, 16).replace("T", " ");
}

export function fillPicker(select, values, wanted, label = (value) => value) {
  select.replaceChildren(...values.map((value) => new Option(label(value), value)));
  const found = values.map(String).includes(String(wanted)) ? wanted : values[0];
  if (found !== undefined) select.value = String(found);
  select.disabled = values.length < 1;
  return select.value;
}

export function readState(names) {
  const query = new URLSearchParams(location.search);
  return Object.fromEntries(names.map((name) => [name, query.get(name)]));
}

export function writeState(state) {
  const query = new URLSearchParams(Object.entries(state).filter(([, value]) => value));
  history.replaceState(null, "", `?${query}`);
}

export async function showBanner(element) {
  const status = await getJson("/showcase/status").catch(() => null);
  if (!status) return null;
  const lines = [];
  if (status.demo) lines.push(`Demo: time stands at ${formatTime(status.now, "1h")} UTC; ages are measured against that date.`);
  if (status.stale) lines.push("Some of what the lab publishes is stale; shown is what was last verified.");
  element.textContent = lines.join(" ");
  element.hidden = lines.length === 0;
  return status;
}

export function showProblem(element, error) {
  element.textContent = error ? error.message : "";
  element.hidden = !error;
}
