// The faults of a run.

import { ask } from "./ask.js";
import { h, many, outcome, link, table } from "./make.js";

const PAGE = 100;

export async function showFaults({ run, from = "1" }) {
  const found = await ask("faults", { run, from, count: PAGE });
  const last = found.rows.at(-1), first = Number(from);
  return { page: [h("h1", {}, "Faults"), h("p", { class: "soft" }, `${many(found.total, "attempt")} that broke. Faults are kept apart: never a score, and no method learns from them.`),
    found.rows.length ? table([["#", "number"], "what", "task", ["turns", "number less"], "error"], found.rows.map((row) => [
      h("a", { href: link("episode", { run, fault: row.number }), "data-stop": true }, row.number),
      outcome(row.outcome), row.start.task.name, row.turns, h("code", { class: "clip long", title: row.error }, row.error)])) : h("p", {}, "There are none."),
    h("p", { class: "pager" }, first > 1 && h("a", { rel: "prev", href: link("faults", { run, from: Math.max(1, first - PAGE) }) }, "← earlier"),
      found.rows.length === PAGE && last.number < found.total && h("a", { rel: "next", href: link("faults", { run, from: last.number + 1 }) }, "later →"))] };
}
