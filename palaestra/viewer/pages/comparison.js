// What `palaestra compare` found: every method with its intervals, against the first one, by difficulty, and its runs.

import { h, count, link, many, percent, short, table } from "./make.js";
import { curve, intervals, round } from "./plots.js";
import { state } from "./runs.js";

const points = (value, digits = 1) => `${value > 0 ? "+" : value < 0 ? "−" : ""}${Math.abs(100 * value).toFixed(digits)}`;
const held = (each) => `${percent(each.mean)} [${percent(each.low)}, ${percent(each.high)}]`;

export function comparison(name, run) {
  const all = run.standings, inner = run.runs.filter((each) => each.recipe);
  if (!all.length && !(run.comparison && inner.length) && inner.length < 2) return [];
  const first = all[0]?.method, against = all.filter((each) => each.against);
  const far = Math.max(0.1, ...against.flatMap((each) => [Math.abs(each.against.low), Math.abs(each.against.high)]));
  const edge = Math.min(1, Math.ceil(far * 10) / 10);
  const recovery = all.some((each) => each.recovery), bins = [...new Set(all.flatMap((each) => each.bins.map((bin) => bin.name)))];
  return [
    all.length > 0 && [h("h2", {}, "Comparison"),
      h("p", { class: "soft" }, `The last weights of each method on the same held-out tasks, over ${many(all[0].seeds, "seed")}, each with the same budget of rollouts and of ids in every fit; the table says what it used of it. 95 % intervals draw tasks and seeds.`),
      h("div", { class: "cards two" }, intervals("success", all.map((each) => ({ label: each.method, ...each.success }))),
        against.length > 0 && intervals(`success against ${first}, in points`, against.map((each) => ({ label: each.method, ...each.against })), { format: points, between: [-edge, edge], mark: 0 }),
        recovery && intervals("recovery: success from a failed episode's middle", all.filter((each) => each.recovery).map((each) => ({ label: each.method, ...each.recovery })))),
      table(["method", "success", "score", `against ${first}, points`, ...(recovery ? ["recovery"] : []), ["rollouts", "number"], ["model calls", "number"], ["ids in fits", "number"], ["trained tokens", "number"]],
        all.map((each) => [h("span", { title: each.what, class: "strong" }, each.method), held(each.success), `${short(each.score.mean)} [${short(each.score.low)}, ${short(each.score.high)}]`,
          each.against ? `${points(each.against.mean)} [${points(each.against.low)}, ${points(each.against.high)}]` : "–",
          ...(recovery ? [each.recovery ? held(each.recovery) : "–"] : []),
          count(Math.round(each.rollouts)), count(Math.round(each.model_calls)), count(Math.round(each.seen_tokens)), count(Math.round(each.trained_tokens))])),
      bins.length > 1 && h("details", { open: true }, h("summary", {}, "By how often the start model solves a task"),
        table(["method", ...bins], all.map((each) => [each.method, ...bins.map((bin) => { const found = each.bins.find((one) => one.name === bin); return found ? held(found.success) : "–"; })]))),
      h("dl", { class: "what" }, all.map((each) => [h("dt", {}, each.method), h("dd", { class: "soft" }, each.what)]))],
    inner.length > 0 && [h("h2", {}, "Its runs"), learning(inner, name),
      table(["run", "state", ["episodes", "number"], "success of the last weights", ["faults", "number"]], inner.map((each) => [
        h("a", { href: link("run", { run: each.name }), "data-stop": true }, within(each.name, name)), state(each), count(each.episodes),
        each.points.length ? held(each.points.at(-1).success) : "–", count(each.faults)]))],
  ].flat();
}

const within = (inner, name) => (name !== "." && inner.startsWith(`${name}/`) ? inner.slice(name.length + 1) : inner);

// Success by iteration, a line a method: the mean over its seeds.
function learning(runs, name) {
  const methods = new Map();
  for (const run of runs) {
    const method = within(run.name, name).replace(/-\d+$/, "");
    methods.set(method, [...(methods.get(method) ?? []), ...run.points.map((point) => [point.iteration, point.success.mean])]);
  }
  const series = [...methods].slice(0, 8).map(([method, found]) => {
    const by = new Map();
    for (const [iteration, value] of found) by.set(iteration, [...(by.get(iteration) ?? []), value]);
    return { name: method, points: [...by].sort((a, b) => a[0] - b[0]).map(([iteration, values]) => [iteration, values.reduce((a, b) => a + b) / values.length]) };
  }).filter((each) => each.points.length > 1);
  return series.length > 0 && h("div", { class: "cards two" }, curve("success on held-out tasks, by iteration", series,
    { format: percent, axis: (value) => percent(value, 0), top: 1, broad: true, xformat: round, note: "means over seeds" }));
}
