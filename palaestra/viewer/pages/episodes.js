// The table of episodes. It is as high as all rows are, but holds only those in sight and asks for them by pages.

import { ask, every } from "./ask.js";
import { h, brief, choice, count, envName, goto, link, many, outcome, short } from "./make.js";

const ROW = 34, PAGE = 100, TALLEST = 8_000_000;  // browsers end at some 16 million pixels
const FILTERS = { env: "environment", outcome: "outcome", actor: "who acted", iteration: "iteration", recipe: "method", split: "split", policy: "policy" };
// title, order, class, what a row shows
const COLUMNS = [
  ["#", "added", "number", (row) => row.number],
  ["task", "task", "", (row) => h("span", { title: row.task }, row.name)],
  ["environment", "env", "less env", (row) => h("span", { title: row.env }, envName(row.env))],
  ["outcome", "outcome", "", (row) => outcome(row.outcome)],
  ["score", "score", "number", (row) => short(row.score, 2)],
  ["who", "actor", "less", (row) => row.actor],
  ["policy", "policy", "less", (row) => h("span", { title: row.policy }, row.policy)],
  ["turns", "turns", "number less", (row) => row.n_turns],
  ["fork at", "fork_step", "number less", (row) => (row.parent ? `↳ ${row.fork_step}` : "")],
  ["tokens", "tokens", "number less", (row) => brief(row.completion_tokens)],
  ["iteration", "iteration", "number less", (row) => row.iteration ?? "–"],
];

export async function showEpisodes({ run, order = "-added", ...where }) {
  const [first, choices] = await Promise.all([ask("episodes", { run, order, ...where, from: 0, count: PAGE }), ask("choices", { run })]);
  const pages = new Map([[0, Promise.resolve(first.rows)]]);
  const go = (changes) => goto("episodes", { run, order, ...where, ...changes });
  const fetchPage = (number) => {
    if (!pages.has(number)) {
      const asked = ask("episodes", { run, order, ...where, upto: first.upto, from: number * PAGE, count: PAGE }).then((p) => p.rows);
      asked.catch(() => pages.delete(number));
      pages.set(number, asked);
      if (pages.size > 60) pages.delete(pages.keys().next().value);
    }
    return pages.get(number);
  };
  const columns = COLUMNS.filter(([, by]) => by !== "env" || choices.env.length > 1);
  const rows = h("div", { class: "rows" });
  const height = Math.min(first.total * ROW, TALLEST);
  rows.style.height = `${height}px`;
  const grid = h("div", { class: `grid${columns.length < COLUMNS.length ? "" : " envs"}`, tabindex: 0, role: "region", "aria-label": "Episodes" }, heads(columns, order, go), rows);
  if (first.total < 15) grid.classList.add("few");
  const note = h("span", { class: "soft" }, many(first.total, "episode"));
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
      const row = h("a", { class: "row", href: link("episode", { run, id: data.id, order, ...where, place }), "data-stop": true },
        columns.map(([, , kind, shows]) => h("span", { class: kind }, shows(data))));
      row.dataset.place = place;
      row.style.top = `${tall ? grid.scrollTop + (place - exact) * ROW : place * ROW}px`;
      made.push(row);
    }
    rows.replaceChildren(...made);
    if (focused !== undefined) made.find((row) => row.dataset.place === focused)?.focus({ preventScroll: true });
  }
  grid.addEventListener("scroll", () => { if (!wanted) { wanted = true; requestAnimationFrame(draw); } });
  const filtered = Object.values(where).some(Boolean);
  const bar = h("details", { class: "filters", open: innerWidth > 700 || filtered }, h("summary", {}, "filters"), h("div", { class: "bar" }, h("label", {}, "task begins with",
    h("input", { type: "search", name: "task", value: where.task, onchange: (event) => go({ task: event.target.value }) })), filters(choices, where, go),
  filtered && h("a", { class: "button", href: link("episodes", { run, order }) }, "show all")));
  const watch = every(5000, async () => {
    const now = await ask("episodes", { run, order, ...where, from: 0, count: 1 }).catch(() => null);
    if (now && now.total > first.total) {
      note.replaceChildren(`${many(first.total, "episode")} · `,
        h("button", { type: "button", onclick: () => dispatchEvent(new HashChangeEvent("hashchange")) }, `${count(now.total - first.total)} new: show`));
    }
  });
  return { page: [h("div", { class: "title" }, h("h1", {}, "Episodes"), note), bar, first.total ? grid : h("p", {}, filtered ? "No episode passes these filters." : "There are no episodes yet.")],
    shown: draw, leave: watch };
}

const heads = (columns, order, go) => h("div", { class: "heads" }, columns.map(([title, by, kind]) => {
  const mark = order === by ? " ▲" : order === `-${by}` ? " ▼" : "";
  return h("button", { type: "button", class: kind, "aria-pressed": mark !== "", onclick: () => go({ order: order === `-${by}` ? by : `-${by}` }) }, title, mark);
}));

function filters(choices, where, go) {
  return Object.entries(FILTERS).filter(([name]) => where[name] || choices[name]?.filter(([value]) => value !== null).length > 1).map(([name, title]) =>
    choice(title, name, [["", "all"], ...choices[name].filter(([value]) => value !== null).map(([value, number]) => [value, `${value} (${count(number)})`])], where[name], (value) => go({ [name]: value })));
}
