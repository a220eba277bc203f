// Plain tables: columns of [title, cell, isNumber], a row per item.

function cell(tag, content, isNumber) {
  const element = document.createElement(tag);
  if (isNumber) element.className = "number";
  element.append(...[content ?? "–"].flat());
  return element;
}

export function fillTable(table, columns, rows, { onRow = null } = {}) {
  const head = document.createElement("tr");
  for (const [title, , isNumber] of columns) {
    const element = cell("th", title, isNumber);
    element.scope = "col";
    head.append(element);
  }
  table.tHead.replaceChildren(head);
  table.tBodies[0].replaceChildren(...rows.map((row, i) => {
    const line = document.createElement("tr");
    columns.forEach(([, read, isNumber], column) => {
      const element = cell(column ? "td" : "th", read(row, i), isNumber);
      if (!column) element.scope = "row";
      line.append(element);
    });
    if (onRow) onRow(line, row);
    return line;
  }));
}

export function chipOf(isPassed, words, title = "") {
  const element = document.createElement("span");
  element.className = `chip ${isPassed === null ? "open" : isPassed ? "yes" : "no"}`;
  element.textContent = words;
  if (title) element.title = title;
  return element;
}
