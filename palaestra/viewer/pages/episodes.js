// The table of episodes. It is as high as all rows are, but holds only those in sight and asks for them by pages.

import { ask } from "./ask.js";
import { h, count, short, outcome, link, table } from "./make.js";

const ROW = 32, PAGE = 100, TALLEST = 8_000_000;  // browsers end at some 16 million pixels
const FILTERS = { env: "environment", outcome: "outcome", actor: "who acted", iteration: "iteration", recipe: "method", split: "split", policy: "policy" };
const COLUMNS = [["#", "added"], ["task", "task"], ["outcome", null], ["score", "score"], ["who · policy", null, "less"],
  ["turns", "turns", "less"], ["fork at", null, "less"], ["tokens", "tokens", "less"], ["iteration", null, "less"]];

export async function showEpisodes({ run, order = "-added", ...where }) {
  const first = await ask("episodes", { run, order, ...where, from: 0, count: PAGE });
  const pages = new Map([[0, Promise.resolve(first.rows)]]);
  const go = (changes) => { location.hash = link("episodes", { run, order, ...where, ...changes }); };
  const fetchPage = (number) => {
    if (!pages.has(number)) {
      const asked = ask("episodes", { run, order, ...where, upto: first.upto, from: number * PAGE, count: PAGE }).then((p) => p.rows);
      asked.catch(() => pages.delete(number));
      pages.set(number, asked);
      if (pages.size > 60) pages.delete(pages.keys().next().value);
    }
    return pages.get(number);
  };
  const rows = h("div", { class: "rows" });
  const height = Math.min(first.total * ROW, TALLEST);
  rows.style.height = `${height}px`;
  const grid = h("div", { class: "grid", tabindex: 0, role: "region", "aria-label": "Episodes" }, heads(order, go), rows);
  const note = h("p", { class: "soft" }, `${count(first.total)} episodes`);
  let drawn = 0, wanted = false;

  async function draw() {
    wanted = false;
    const mine = ++drawn;
    const seen = grid.clientHeight || 600, space = Math.max(1, height - seen + ROW);
    const tall = first.total * ROW > TALLEST;
    const exact = tall ? (Math.min(grid.scrollTop, space) / space) * (first.total - seen / ROW) : grid.scrollTop / ROW;
    const from = Math.max(0, Math.floor(exact) - 8), to = Math.min(first.total, Math.ceil(exact + seen / ROW) + 8);
    const numbers = [];
    for (let page = Math.floor(from / PAGE); page * PAGE < to; page++) numbers.push(page);
    let found;
    try {
      found = await Promise.all(numbers.map(fetchPage));
    } catch (error) {
      note.textContent = error.message;
      return;
    }
    if (mine !== drawn) return;
    const focused = document.activeElement?.dataset?.place;
    const made = [];
    for (let place = from; place < to; place++) {
      const data = found[Math.floor(place / PAGE) - numbers[0]][place % PAGE];
      if (!data) continue;
      const row = drawRow(run, data);
      row.dataset.place = place;
      row.style.top = `${tall ? grid.scrollTop + (place - exact) * ROW : place * ROW}px`;
      made.push(row);
    }
    rows.replaceChildren(...made);
    if (focused !== undefined) made.find((row) => row.dataset.place === focused)?.focus({ preventScroll: true });
  }
  grid.addEventListener("scroll", () => { if (!wanted) { wanted = true; requestAnimationFrame(draw); } });
  const bar = h("div", { class: "bar" }, taskFilter(where.task, go));
  ask("choices", { run }).then((choices) => bar.append(...filters(choices, where, go))).catch(() => {});
  const watch = setInterval(async () => {
    if (document.hidden) return;
    const now = await ask("episodes", { run, order, ...where, from: 0, count: 1 }).catch(() => null);
    if (now && now.total > first.total) {
      note.replaceChildren(`${count(first.total)} episodes · `,
        h("button", { type: "button", onclick: () => dispatchEvent(new HashChangeEvent("hashchange")) }, `${count(now.total - first.total)} new: show`));
    }
  }, 5000);
  return { page: [h("h1", {}, "Episodes"), bar, note, grid], shown: draw, leave: () => clearInterval(watch) };
}

const heads = (order, go) => h("div", { class: "heads" }, COLUMNS.map(([title, by, less]) => {
  if (!by) return h("span", { class: less }, title);
  const mark = order === by ? " ▲" : order === `-${by}` ? " ▼" : "";
  return h("button", { type: "button", class: less, onclick: () => go({ order: order === `-${by}` ? by : `-${by}` }) }, title, mark);
}));

const drawRow = (run, data) => h("a", { class: "row", href: link("episode", { run, id: data.id }), "data-stop": true },
  h("span", {}, data.number), h("span", { title: data.task }, data.name), outcome(data.outcome), h("span", {}, short(data.score)),
  h("span", { class: "less", title: data.policy }, `${data.actor} · ${data.policy}`), h("span", { class: "less" }, data.n_turns),
  h("span", { class: "less" }, data.parent ? data.fork_step : "-"), h("span", { class: "less" }, count(data.completion_tokens)),
  h("span", { class: "less" }, data.iteration ?? "-"));

const taskFilter = (task, go) => h("label", {}, "task begins with",
  h("input", { type: "search", name: "task", value: task, onchange: (event) => go({ task: event.target.value }) }));

function filters(choices, where, go) {
  return Object.entries(FILTERS).filter(([name]) => where[name] || choices[name]?.filter(([value]) => value !== null).length > 1).map(([name, title]) => {
    const box = h("select", { name, onchange: (event) => go({ [name]: event.target.value }) }, h("option", { value: "" }, "all"),
      choices[name].filter(([value]) => value !== null).map(([value, number]) =>
        h("option", { value, selected: String(value) === where[name] }, `${value} (${count(number)})`)));
    return h("label", {}, title, box);
  });
}

export async function showFaults({ run, from = "1" }) {
  const found = await ask("faults", { run, from, count: 100 });
  const last = found.rows[found.rows.length - 1];
  return { page: [h("h1", {}, "Faults"), h("p", { class: "soft" }, `${count(found.total)}, kept apart: no method learns from them.`),
    table(["#", "task", "what", "turns", "error"], found.rows.map((row) => [
      h("a", { href: link("episode", { run, fault: row.number }), "data-stop": true }, row.number),
      row.start.task.name, outcome(row.outcome), row.turns, row.error])),
    found.rows.length === 100 && h("a", { href: link("faults", { run, from: last.number + 1 }) }, "next")].filter(Boolean) };
}
