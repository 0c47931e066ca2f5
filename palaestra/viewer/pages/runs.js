// All runs.

import { ask } from "./ask.js";
import { h, ago, count, envName, link, many, table } from "./make.js";
import { live } from "./redraw.js";
import { spark } from "./plots.js";

const FEW = 8;

export function state(run) {
  if (run.error || run.problems?.length) return h("span", { class: "pill failure", title: run.error ?? run.problems[0] }, "! cannot be read whole");
  if (run.working) return h("span", { class: "pill working" }, h("i", { class: "pulse" }), " working");
  if (run.comparison) return h("span", { class: "pill" }, "comparison");
  return h("span", { class: "pill quiet" }, "at rest");
}

let wanted = "";

export const showRuns = () => live(async () => {
  const data = await ask("runs");
  return { data: [data, wanted], draw: () => draw(data) };
});

function draw({ runs, place }) {
  const rows = h("div", {});
  const fill = () => {
    const seen = runs.filter((run) => [run.title, run.recipe, run.made, run.env, run.model].join(" ").toLowerCase().includes(wanted.toLowerCase()));
    rows.replaceChildren(seen.length ? table(["run", "state", ["method", "less"], ["environment", "less"], ["episodes", "number"], ["success", "less"],
      ["faults", "number less"], ["last written", "less"]], seen.map((run) => [
      [h("a", { href: link("run", { run: run.name }), "data-stop": true, class: "strong name" }, run.title),
        run.error && h("div", { class: "error small" }, run.error)],
      state(run), run.recipe ?? run.made ?? "–", h("span", { title: run.env }, envName(run.env) || "–"),
      count(run.episodes), spark(run.spark), count(run.faults), h("span", { title: run.updated ? new Date(1000 * run.updated).toLocaleString() : "" }, ago(run.updated))]))
      : h("p", { class: "soft" }, "None of the runs is called so."));
  };
  fill();
  return [h("h1", {}, "Runs"), h("div", { class: "bar" }, h("span", { class: "soft" }, `${many(runs.length, "run")} in `, h("code", {}, place)),
    runs.length > FEW && h("label", {}, "find a run", h("input", { type: "search", name: "wanted", value: wanted,
      oninput: (event) => { wanted = event.target.value; fill(); } }))), rows];
}
