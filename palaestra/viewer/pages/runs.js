// All runs; and one run: figures, live curves, evaluations, comparison, log.

import { ask } from "./ask.js";
import { h, count, percent, short, table, link, outcome, nodes } from "./make.js";
import { curve, intervals } from "./plots.js";

const EVERY = 4000;

// What a person had opened stays open, and the link that had the focus has it again.
function redraw(box, parts) {
  const open = new Set([...box.querySelectorAll("details[open] > summary")].map((summary) => summary.textContent));
  const focused = box.contains(document.activeElement) ? document.activeElement.getAttribute("href") : null;
  box.replaceChildren(...parts);
  for (const summary of box.querySelectorAll("details > summary")) summary.parentElement.open = open.has(summary.textContent);
  if (focused) [...box.querySelectorAll("a")].find((link) => link.getAttribute("href") === focused)?.focus({ preventScroll: true });
}

// Asks again every few seconds while the page is seen.
function live(load) {
  const box = h("div", {});
  let timer = null, gone = false, before = "";
  const again = async () => {
    if (gone) return;
    if (!document.hidden) {
      try {
        const found = await load();
        const text = JSON.stringify(found.data);
        if (text !== before && !gone) { before = text; redraw(box, nodes(found.draw())); }
      } catch (error) {
        if (!before) throw error;
      }
    }
    timer = setTimeout(() => again().catch(() => {}), EVERY);
  };
  return again().then(() => ({ page: box, leave: () => { gone = true; clearTimeout(timer); } }));
}

const ago = (time) => time ? new Date(1000 * time).toLocaleString() : "-";
const state = (run) => run.error ? h("span", { class: "error" }, run.error)
  : run.working ? "working" : run.comparison ? "comparison" : "at rest";

export const showRuns = () => live(async () => {
  const data = await ask("runs");
  return { data, draw: () => [
    h("h1", {}, "Runs"),
    h("p", { class: "soft" }, `${data.runs.length} at ${data.place}`),
    table(["run", "method", "environment", "episodes", "faults", "state", "last written"], data.runs.map((run) => [
      h("a", { href: link("run", { run: run.name }), "data-stop": true }, run.title), run.recipe ?? "-", run.env ?? "-",
      run.episodes === undefined ? "-" : count(run.episodes), run.faults ?? "-", state(run), ago(run.updated)]))] };
});

export const showRun = ({ run: name }) => live(async () => {
  const data = await ask("run", { run: name });
  return { data, draw: () => drawRun(name, data) };
});

function drawRun(name, run) {
  const has = run.episodes !== undefined;
  return [
    h("h1", {}, run.title, " ", h("span", { class: "soft" }, [run.recipe, run.env, run.model].filter(Boolean).join(" · "))),
    run.error && h("p", { class: "error" }, run.error),
    h("div", { class: "bar" },
      has && h("a", { href: link("episodes", { run: name }), "data-stop": true }, `${count(run.episodes)} episodes`),
      run.faults > 0 && h("a", { href: link("faults", { run: name }), "data-stop": true }, `${count(run.faults)} faults`),
      run.sampled.map((number) => h("a", { href: link("samples", { run: name, iteration: number }), "data-stop": true },
        `trained tokens of iteration ${number}`)),
      h("span", { class: "soft" }, state(run))),
    run.summary && figures(run.summary),
    run.curve.length > 0 && h("h2", {}, "Episodes, in the order they were added"),
    h("div", { class: "cards" },
      curve("success", run.curve.map((p) => [p.until, p.success]), { format: percent, top: 1 }),
      curve("score", run.curve.map((p) => [p.until, p.score]), { top: 1 }),
      curve("tokens/s of an episode", run.curve.map((p) => [p.until, p.tokens_per_second]), { format: (v) => short(v, 1) }),
      run.fits.map((fit) => curve(`loss, iteration ${fit.iteration}`, fit.losses))),
    ...evaluations(run.evaluations), ...standings(run.standings),
    run.log.length > 0 && h("details", {}, h("summary", {}, "Log"), h("pre", { class: "seen" },
      run.log.map(({ time, event, ...rest }) => `${ago(time)}  ${event}  ${JSON.stringify(rest)}\n`))),
    run.record && h("details", {}, h("summary", {}, "Configuration"),
      h("pre", { class: "seen" }, JSON.stringify(run.record, null, 1))),
  ];
}

const figures = (all) => h("div", { class: "cards" }, [
  [count(all.episodes), `episodes, ${count(all.forks)} of them forks`],
  [Object.entries(all.outcomes).map(([name, number]) => [outcome(name), ` ${count(number)} `]), "outcomes"],
  [count(all.completion_tokens), "tokens written"], [count(all.tasks), "tasks"], [count(all.faults), "faults, kept apart"],
].map(([value, what]) => h("div", { class: "card" }, h("div", { class: "figure" }, value), h("div", { class: "soft" }, what))));

function evaluations(done) {
  if (!done.length) return [];
  const held = (e) => `${percent(e.success.mean)} [${percent(e.success.low)}, ${percent(e.success.high)}]`;
  return [h("h2", {}, "Held-out tasks"),
    h("p", { class: "soft" }, `${done[0].card.tasks} tasks of split ${done[0].card.split}, `,
      done[0].card.protocol ? `protocol ${done[0].card.protocol}` : "no named protocol",
      "; figures of other protocols are not comparable."),
    intervals("success, 95 % intervals", done.map((e) => ({ label: e.label, ...e.success }))),
    table(["weights", "success (95 %)", "score", "episodes", "invalid actions", "rollouts won", "faults"], done.map((e) => [
      e.label, held(e), short(e.score.mean), e.episodes, percent(e.invalid),
      e.collected ? `${e.collected.successes} of ${e.collected.episodes}` : "-", e.collected ? e.collected.faults : e.missing]))];
}

function standings(all) {
  if (!all.length) return [];
  const points = (value) => (100 * value).toFixed(1);
  return [h("h2", {}, "Comparison"),
    intervals("success of the last iteration, 95 % intervals", all.map((each) => ({ label: each.method, ...each.success }))),
    table(["method", "success", `against ${all[0].method}, points`, "rollouts", "trained tokens", "seeds"], all.map((each) => [
      h("span", { title: each.what }, each.method), `${percent(each.success.mean)} [${percent(each.success.low)}, ${percent(each.success.high)}]`,
      each.against ? `${points(each.against.mean)} [${points(each.against.low)}, ${points(each.against.high)}]` : "-",
      count(Math.round(each.rollouts)), count(Math.round(each.trained_tokens)), each.seeds]))];
}
