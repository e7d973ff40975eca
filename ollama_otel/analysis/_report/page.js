// Sorts and filters the table of calls; the page can be read without it.
"use strict";
(() => {
  const table = document.getElementById("call-table");
  if (!table) return;
  const body = table.tBodies[0];
  const rows = [...body.rows];
  const original = new Map(rows.map((row, at) => [row, at]));

  const arrange = (key) => body.append(...rows.sort((a, b) => key(a, b) || original.get(a) - original.get(b)));

  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, at) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = head.textContent;
    head.replaceChildren(button);
    button.addEventListener("click", () => {
      const isNumber = head.classList.contains("n");
      const first = isNumber ? "descending" : "ascending";
      const order = head.ariaSort === first ? (isNumber ? "ascending" : "descending") : first;
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", order);
      const sign = order === "ascending" ? 1 : -1;
      const value = (row) => {
        const cell = row.cells[at];
        return isNumber ? Number(cell.dataset.v ?? NaN) : cell.textContent;
      };
      arrange((a, b) => {
        const [one, other] = [value(a), value(b)];
        if (!isNumber) return sign * one.localeCompare(other);
        // What is unknown comes last in either order.
        return Number.isNaN(one) - Number.isNaN(other) || sign * (one - other) || 0;
      });
    });
  });

  const label = document.createElement("label");
  label.className = "filter";
  const input = document.createElement("input");
  input.type = "search";
  label.append("Filter: ", input);
  input.addEventListener("input", () => {
    const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
    rows.forEach((row) => {
      const text = row.textContent.toLowerCase();
      row.hidden = !words.every((word) => text.includes(word));
    });
  });
  document.querySelector("#calls .scroll").before(label);

  const rank = (row, view) => {
    const found = ` ${row.dataset.ranks}`.split(` ${view}:`)[1];
    return found === undefined ? rows.length : parseInt(found, 10);
  };
  const follow = () => {
    const view = location.hash.startsWith("#view-") ? location.hash.slice(6) : null;
    heads.forEach((head) => head.removeAttribute("aria-sort"));
    arrange((a, b) => (view === null ? 0 : rank(a, view) - rank(b, view)));
  };
  addEventListener("hashchange", follow);
  follow();
})();
