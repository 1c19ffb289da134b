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

// A marker or bar under the pointer, or under a finger, shows its numbers at once.
const tip = document.createElement("div");
tip.className = "tip";
tip.hidden = true;
document.body.append(tip);
for (const title of document.querySelectorAll("figure svg g > title")) {
  title.parentNode.dataset.tip = title.textContent;
  title.parentNode.setAttribute("aria-label", title.textContent);
  title.remove(); // else the browser shows it too, a second later
}
function showTip(event) {
  const mark = event.target.closest("[data-tip]");
  tip.hidden = !mark;
  if (!mark) return;
  tip.textContent = mark.dataset.tip;
  const box = mark.getBoundingClientRect();
  const right = document.documentElement.clientWidth - tip.offsetWidth - 8;
  tip.style.left = `${Math.max(8, Math.min(box.left, right))}px`;
  tip.style.top = `${Math.max(8, box.top - tip.offsetHeight - 6)}px`;
}
document.addEventListener("pointerover", showTip);
document.addEventListener("scroll", () => (tip.hidden = true), { passive: true });
