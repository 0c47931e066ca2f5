// One run: what it is doing, its figures, live curves, evaluations, comparison, log.

import { ask } from "./ask.js";
import { h, ago, brief, card, count, envName, link, many, outcome, percent, short, span, stacked, table } from "./make.js";
import { curve, intervals, round } from "./plots.js";
import { comparison } from "./comparison.js";
import { live } from "./redraw.js";
import { state } from "./runs.js";

const ORDER = ["rollouts", "held-out", "recovery", "expert", "human", "spliced", "imagined"];

export const showRun = ({ run: name }) => live(async () => {
  const data = await ask("run", { run: name });
  return { data, draw: () => draw(name, data) };
});

function draw(name, run) {
  const about = [run.recipe ?? run.made, envName(run.env), run.model?.split("/").at(-1)].filter(Boolean).join(" · ");
  return [
    h("div", { class: "title" }, h("h1", {}, run.title), state(run), h("span", { class: "soft" }, about)),
    run.problems.map((problem) => h("p", { class: "alert", role: "alert" }, problem)),
    now(run.live, run.working), ...comparison(name, run),
    run.summary && figures(run.summary, run.evaluations),
    curves(run), ...evaluations(run.evaluations),
    run.log.length > 0 && h("details", {}, h("summary", {}, "Log"), table(["when", "event", "about"], [...run.log].reverse().map(({ time, event, ...rest }) => [
      h("span", { title: new Date(1000 * time).toLocaleString() }, ago(time)), event, h("code", {}, Object.entries(rest).map(([key, value]) => `${key} ${value}`).join("  "))]))),
    run.record && h("details", {}, h("summary", {}, "Configuration"), h("pre", { class: "seen" }, JSON.stringify(run.record, null, 1))),
  ];
}

// The stage that is at work, or was when the run stopped.
function now(progress, working) {
  const stage = progress?.stages.at(-1);
  if (!stage || (stage.ended && !working)) return null;
  const share = stage.total ? stage.done / stage.total : null;
  const bar = h("span");
  bar.style.width = `${100 * Math.min(1, share ?? 0)}%`;
  const passed = stage.time - stage.began, left = share && stage.done > 0 && working && !stage.ended ? (passed / stage.done) * (stage.total - stage.done) : null;
  return h("div", { class: "card now" },
    h("div", { class: "title" }, working ? h("i", { class: "pulse" }) : null, h("b", {}, stage.stage || "collect"),
      h("span", { class: "soft" }, working ? (stage.ended ? "done" : "now") : "stopped here")),
    h("div", { class: "track big", role: "progressbar", "aria-valuenow": share === null ? null : Math.round(100 * share), "aria-valuemin": 0, "aria-valuemax": 100, "aria-label": stage.stage }, bar),
    h("div", { class: "facts" }, h("span", {}, `${count(stage.done)}${stage.total ? ` of ${count(stage.total)}` : ""} ${stage.unit}`),
      stage.success !== undefined && h("span", {}, `success ${percent(stage.success)}`), stage.judged_success !== undefined && h("span", {}, `judged success ${percent(stage.judged_success)}`),
      stage.faults !== undefined && h("span", {}, many(stage.faults, "fault")),
      stage.tokens_per_second !== undefined && h("span", {}, `${Math.round(stage.tokens_per_second)} tokens/s`),
      stage.loss !== undefined && h("span", {}, `loss ${short(stage.loss)}`), left !== null && h("span", {}, `${span(left)} left`)));
}

const real = (all) => Object.values(all.outcomes).reduce((sum, number) => sum + number, 0);
const figures = (all, done) => h("div", { class: "cards kpis" },
  done.length > 1 && card(percent(done.at(-1).success.mean), `held-out success, ${done.at(-1).label}`, `${done[0].label}: ${percent(done[0].success.mean)}`),
  card(count(all.episodes), "episodes", `${count(all.forks)} of them forks${all.episodes > real(all) ? `, ${count(all.episodes - real(all))} imagined` : ""}`),
  h("div", { class: "card kpi" }, h("div", { class: "label" }, "success of all real episodes"), h("div", { class: "figure" }, percent(real(all) ? (all.outcomes.success ?? 0) / real(all) : null)),
    stacked(Object.entries(all.outcomes)), h("div", { class: "pills" }, Object.entries(all.outcomes).map(([name, number]) => outcome(name, number)))),
  card(count(all.tasks), "tasks", `${brief(all.turns)} turns`),
  card(brief(all.completion_tokens), "tokens written", `${brief(all.prompt_tokens)} read`),
  card(count(all.faults), "faults", "kept apart, never learnt from"));

function curves(run) {
  const points = run.curve, kinds = [...new Set(points.map((p) => p.kind))].sort((a, b) => ORDER.indexOf(a) - ORDER.indexOf(b)), wall = run.live?.curves ?? {}, begin = run.live?.stages[0]?.began;
  const byKind = (name) => kinds.map((kind) => ({ name: kind, points: points.filter((p) => p.kind === kind).map((p) => [p.until, p[name]]) }));
  const timed = (name) => split((wall[name] ?? []).map(([time, value, stage]) => [time - begin, value, stage]));
  const losses = [], bounds = [];
  let steps = 0;
  for (const fit of run.fits) {
    if (steps) { bounds.push([steps, fit.label]); losses.push([steps, null]); }
    losses.push(...fit.losses.map(([step, loss]) => [steps + step + 1, loss]));
    steps += fit.steps;
  }
  const at = { xformat: span }, fitting = run.working && run.live?.stages.at(-1)?.unit === "steps" && !run.live.stages.at(-1).ended;
  const found = [
    curve("success", byKind("success"), { format: percent, axis: (v) => percent(v, 0), top: 1, note: "by episode" }),
    curve("score", byKind("score"), { top: 1, note: "by episode" }),
    wall.tokens_per_second ? curve("tokens/s", [{ name: "tokens/s", points: timed("tokens_per_second") }], { ...at, format: (v) => short(v, 0), note: "all episodes together, by time" })
      : curve("tokens/s of an episode", byKind("tokens_per_second"), { format: (v) => short(v, 1), note: "by episode" }),
    curve("faults", [{ name: "faults", points: (wall.faults ?? []).map(([time, value]) => [time - begin, value]) }], { ...at, whole: true, format: (v) => short(v, 0), top: Math.max(1, ...(wall.faults ?? []).map(([, value]) => value)), note: "so far, by time" }),
    (fitting || !run.fits.length) && wall.loss ? curve("loss", [{ name: "loss", points: timed("loss") }], { ...at, zero: false, note: "fits, by time" })
      : curve("loss", [{ name: "loss", points: losses }], { bounds, zero: false, note: run.fits.length > 1 ? `by step; ${run.fits.length} fits` : "by step" }),
  ].filter(Boolean);
  return found.length > 0 && h("div", { class: "cards" }, found);
}

// A point that belongs to another stage begins another line.
const split = (points) => points.flatMap(([x, y, stage], at) => (at && points[at - 1][2] !== stage ? [[x, null], [x, y]] : [[x, y]]));

function evaluations(done) {
  if (!done.length) return [];
  const held = (e) => `${percent(e.success.mean)} [${percent(e.success.low)}, ${percent(e.success.high)}]`;
  return [h("h2", {}, "Held-out tasks"),
    h("p", { class: "soft" }, `${done[0].card.tasks} tasks of split ${done[0].card.split}, `,
      done[0].card.protocol ? `protocol ${done[0].card.protocol}` : "no named protocol",
      "; figures of other protocols are not comparable."),
    h("div", { class: "cards two" }, intervals("success, 95 % intervals", done.map((e) => ({ label: e.label, ...e.success }))),
      done.length > 4 && curve("success by iteration", [{ name: "success", points: done.map((e) => [e.iteration, e.success.mean]),
        band: done.map((e) => [e.iteration, e.success.low, e.success.high]) }], { format: percent, axis: (v) => percent(v, 0), top: 1, broad: true, xformat: round })),
    table(["weights", "success (95 %)", "score", ["episodes", "number"], ["invalid actions", "number"], ["rollouts won", "number"], ["faults", "number"]], done.map((e) => [
      e.label, held(e), short(e.score.mean), e.episodes, percent(e.invalid),
      e.collected ? `${e.collected.successes} of ${e.collected.episodes}${e.collected.judged ? " (judged)" : ""}` : "–", e.collected ? e.collected.faults : e.missing]))];
}
