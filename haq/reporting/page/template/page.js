"use strict";
// Without this script the page has the same content: figures, and a table of all layers.
for (const policy of document.querySelectorAll(".policy")) {
  const picker = policy.querySelector(".picker"), slider = picker.querySelector("input");
  const picked = picker.querySelector(".picked"), drawing = policy.querySelector("figure");
  const body = policy.querySelector("tbody"), rows = new Map(), bars = new Map();
  const headings = [...policy.querySelectorAll("thead th")];
  for (const row of body.rows) rows.set(Number(row.dataset.layer), row);
  for (const bar of drawing.querySelectorAll(".bar")) {
    const layer = Number(bar.dataset.layer);
    bars.set(layer, [...(bars.get(layer) ?? []), bar]);
  }

  const line = (tag, text) => Object.assign(document.createElement(tag), { textContent: text });
  const pick = (layer) => {
    for (const marked of policy.querySelectorAll(".on")) marked.classList.remove("on");
    const row = rows.get(layer), [, name, ...cells] = row.cells;
    row.classList.add("on");
    for (const bar of bars.get(layer) ?? []) bar.classList.add("on");
    const facts = cells.filter((cell) => cell.dataset.label && cell.textContent);
    const reason = row.querySelector(".why")?.lastChild;
    const title = name.firstChild.textContent;
    picked.replaceChildren(
      line("strong", title),
      line("span", name.querySelector("small").textContent),
      line("span", facts.map((cell) => `${cell.dataset.label} ${cell.textContent}`).join(" \u00b7 ")),
      ...(reason ? [line("span", reason.textContent)] : []),
    );
    slider.value = layer;
    slider.setAttribute("aria-valuetext", title);
  };
  const nearest = (event) => {
    let found = 0, least = Infinity;
    for (const [layer, [bar]] of bars) {
      const box = bar.getBoundingClientRect(), distance = Math.abs(event.clientX - (box.left + box.right) / 2);
      if (distance < least) [found, least] = [layer, distance];
    }
    return found;
  };

  picker.hidden = false;
  const mark = (layer) => {
    drawing.classList.add("picking");
    pick(layer);
  };
  slider.addEventListener("input", () => mark(Number(slider.value)));
  drawing.querySelector("svg").addEventListener("pointermove", (event) => mark(nearest(event)));
  drawing.querySelector("svg").addEventListener("click", (event) => mark(nearest(event)));
  body.addEventListener("pointerover", (event) => {
    const row = event.target.closest("tr");
    if (row) mark(Number(row.dataset.layer));
  });
  pick(0);

  const value = (row, place) => {
    const text = row.cells[place].firstChild?.textContent ?? "", number = parseFloat(text);
    return Number.isNaN(number) ? text : number;
  };
  headings.forEach((heading, place) => {
    if (!("sort" in heading.dataset)) return;
    const button = line("button", heading.textContent);
    heading.replaceChildren(button);
    button.addEventListener("click", () => {
      const falls = heading.getAttribute("aria-sort") === "ascending";
      for (const other of headings) other.removeAttribute("aria-sort");
      heading.setAttribute("aria-sort", falls ? "descending" : "ascending");
      const compare = (a, b) => (a < b ? -1 : Number(a > b));
      const sorted = [...body.rows].sort((a, b) => compare(value(a, place), value(b, place)) * (falls ? -1 : 1));
      body.append(...sorted);
    });
  });
}
