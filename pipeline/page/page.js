"use strict";
// The list of shards: searched, sorted, a page of it drawn at a time.
(() => {
  const PAGE = 100;
  const PRINTED = 200;
  const at = (id) => document.getElementById(id);
  const data = JSON.parse(at("data").textContent);
  const numbers = new Intl.NumberFormat("en-US");
  const shards = data.rows.map(([name, state, rows, bad, method, seconds, note]) => ({
    name,
    state: data.states[state],
    rows,
    bad,
    method: data.methods[method],
    seconds,
    rate: seconds ? rows / seconds : null,
    note: note || "",
    text: [name, data.states[state], data.methods[method], note || ""].join("\n").toLowerCase(),
  }));
  const keys = ["name", "state", "rows", "bad", "method", "seconds", "rate"];
  const headings = [...at("table").tHead.rows[0].cells];
  const body = at("table").tBodies[0];
  const order = new Intl.Collator("en", { numeric: true }).compare;
  let key = "name";
  let direction = 1;
  let page = 0;
  let found = shards;

  // What nothing tells is behind all that something tells, whichever way the others are sorted.
  function compared(a, b) {
    const x = a[key];
    const y = b[key];
    if (x === y) return 0;
    if (x === null || x === "") return 1;
    if (y === null || y === "") return -1;
    return direction * (typeof x === "number" ? x - y : order(x, y));
  }

  function cell(row, text, kind) {
    const made = row.insertCell();
    made.textContent = text;
    if (kind) made.className = kind;
    return made;
  }

  function told(number, digits = 0) {
    if (number === null) return "–";
    return digits ? number.toFixed(digits) : numbers.format(Math.round(number));
  }

  function named(row, shard) {
    const made = row.insertCell();
    made.className = "text";
    const name = document.createElement("bdi");
    name.textContent = shard.name;
    made.append(name);
    if (shard.note) {
      const note = document.createElement("small");
      note.textContent = shard.note;
      made.append(note);
    }
  }

  function draw(first, count) {
    const rows = document.createDocumentFragment();
    for (const shard of found.slice(first, first + count)) {
      const row = document.createElement("tr");
      named(row, shard);
      cell(row, (shard.state === "failed" ? "✗ " : "") + shard.state, shard.state === "failed" ? "failed" : "");
      cell(row, told(shard.rows), "n");
      cell(row, told(shard.bad), "n");
      cell(row, shard.method || "–", "less");
      cell(row, told(shard.seconds, 2), "n");
      cell(row, told(shard.rate), "n less");
      rows.append(row);
    }
    body.replaceChildren(rows);
  }

  function show() {
    const pages = Math.max(1, Math.ceil(found.length / PAGE));
    page = Math.min(page, pages - 1);
    const first = page * PAGE;
    draw(first, PAGE);
    const last = Math.min(first + PAGE, found.length);
    const of = found.length === shards.length ? "" : ` found, of ${told(shards.length)}`;
    at("shown").textContent = found.length
      ? `${told(first + 1)}–${told(last)} of ${told(found.length)}${of}`
      : `none of ${told(shards.length)}`;
    at("place").textContent = `page ${told(page + 1)} of ${told(pages)}`;
    at("pages").hidden = pages === 1;
    at("previous").disabled = page === 0;
    at("next").disabled = page === pages - 1;
  }

  function search() {
    const words = at("search").value.toLowerCase().split(/\s+/).filter(Boolean);
    found = shards.filter((shard) => words.every((word) => shard.text.includes(word)));
    found.sort(compared);
    page = 0;
    show();
  }

  function sort(place) {
    // Numbers are looked at for the largest, names from the first.
    const most = typeof (shards[0] || {})[keys[place]] === "number";
    direction = keys[place] === key ? -direction : most ? -1 : 1;
    key = keys[place];
    headings.forEach((heading, other) => {
      if (other === place) heading.setAttribute("aria-sort", direction > 0 ? "ascending" : "descending");
      else heading.removeAttribute("aria-sort");
    });
    found.sort(compared);
    page = 0;
    show();
  }

  function turn(by) {
    page += by;
    show();
  }

  // What is folded away would not be on paper.
  const folded = [...document.querySelectorAll("details:not([open])")];

  function print() {
    for (const part of folded) part.open = true;
    draw(0, PRINTED);
    at("unprinted").hidden = found.length <= PRINTED;
    at("unprinted").textContent = `${told(found.length - PRINTED)} more shards are not printed.`;
  }

  headings.forEach((heading, place) => {
    heading.querySelector("button").addEventListener("click", () => sort(place));
  });
  at("search").addEventListener("input", search);
  at("previous").addEventListener("click", () => turn(-1));
  at("next").addEventListener("click", () => turn(1));
  window.addEventListener("beforeprint", print);
  window.addEventListener("afterprint", () => {
    for (const part of folded) part.open = false;
    at("unprinted").hidden = true;
    show();
  });
  for (const part of document.querySelectorAll("#table, .tools")) part.hidden = false;
  found = [...shards].sort(compared);
  show();
})();
