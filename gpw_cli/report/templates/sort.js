"use strict";
// A click on a column's name sorts its table; empty cells stay last.
function sortKey(row, column, text) {
  const cell = row.cells[column].textContent.trim();
  if (text || cell === "") return cell;
  const value = parseFloat(cell.replaceAll(",", ""));
  return Number.isNaN(value) ? cell : value;
}
function compare(a, b) {
  if (typeof a === "number" && typeof b === "number") return a - b;
  return String(a).localeCompare(String(b), "en", { numeric: true });
}
function sortBy(head) {
  const up = head.getAttribute("aria-sort") !== "ascending";
  const body = head.closest("table").tBodies[0];
  const text = head.classList.contains("l");
  const keyed = [...body.rows].map((row) => [sortKey(row, head.cellIndex, text), row]);
  const full = keyed.filter(([key]) => key !== "");
  const empty = keyed.filter(([key]) => key === "");
  full.sort(([a], [b]) => (up ? compare(a, b) : compare(b, a)));
  for (const other of head.parentNode.cells) other.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", up ? "ascending" : "descending");
  body.append(...[...full, ...empty].map(([, row]) => row));
}
for (const head of document.querySelectorAll("thead th")) {
  const button = document.createElement("button");
  button.type = "button";
  button.append(...head.childNodes);
  button.addEventListener("click", () => sortBy(head));
  head.append(button);
}
