// The tasks of a run: each is the root of a forest.

import { ask } from "./ask.js";
import { h, choice, count, envName, link, many, percent, short, table, goto } from "./make.js";
import { meter } from "./plots.js";

const PAGE = 100, ORDERS = [["name", "name"], ["-episodes", "most episodes"], ["-forks", "most forks"], ["success", "hardest first"], ["-success", "easiest first"]];

export async function showTasks({ run, order = "-forks", from = "0" }) {
  const first = Number(from), found = await ask("tasks", { run, order, from, count: PAGE });
  return { page: [h("h1", {}, "Forests"),
    h("p", { class: "soft" }, `${many(found.total, "task")}. All episodes of a task hang together as one forest: forks, expert and policy branches, splices, what was imagined. Success and scores are of real episodes.`),
    h("div", { class: "bar" }, choice("order", "order", ORDERS, order, (value) => goto("tasks", { run, order: value }))),
    table(["task", ["environment", "less"], ["split", "less"], ["episodes", "number"], ["forks", "number"], ["imagined", "number less"], "success", ["mean score", "number less"], ["best", "number less"]],
      found.rows.map((row) => [h("a", { href: link("forest", { run, id: row.last }), "data-stop": true, class: "clip" }, row.name), envName(row.env), row.split, count(row.episodes), count(row.forks), row.imagined ? count(row.imagined) : "",
        h("span", { title: percent(row.success) }, meter(row.success)), short(row.score, 2), short(row.best, 2)])),
    h("p", { class: "pager" }, first > 0 && h("a", { rel: "prev", href: link("tasks", { run, order, from: Math.max(0, first - PAGE) }) }, "← earlier"),
      first + PAGE < found.total && h("a", { rel: "next", href: link("tasks", { run, order, from: first + PAGE }) }, "later →"))] };
}
