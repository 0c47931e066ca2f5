// World models: how far they can be trusted, and the pages they imagined beside the real ones.

import { ask } from "./ask.js";
import { h, choice, count, goto, link, many, percent, short, table } from "./make.js";
import { curve, meter } from "./plots.js";
import { marked } from "./text.js";

const PAGE = 100, ORDERS = [["place", "as they came"], ["similarity", "worst first"], ["-similarity", "best first"], ["gain", "least better than copying"], ["steps", "nearest first"]];

const WHY = { malformed: "what was written cannot be read as a page", endless: "it did not stop within its tokens", stuck: "it repeats the page over and over", unanswered: "the prompt did not fit into the model's context" };

export async function showWorlds({ run, world, order = "place", from = "0" }) {
  const data = await ask("worlds", { run });
  const chosen = data.worlds.find((each) => each.name === world) ?? data.worlds.at(-1);
  const pages = chosen?.pages ? await ask("pages", { run, world: chosen.name, order, from, count: PAGE }) : null;
  const go = (changes) => goto("worlds", { run, world: chosen?.name, order, ...changes });
  return { page: [h("h1", {}, "World model"),
    data.worlds.length > 1 && h("div", { class: "bar" }, choice("of", "world", data.worlds.map((each) => [each.name, each.name]), chosen.name, (value) => go({ world: value }))),
    chosen ? fidelity(chosen.fidelity) : h("p", {}, "No world model of this run was measured on held-out tasks."),
    data.synthesis.map(synthesis(run)),
    pages && [h("h2", {}, "Imagined pages beside the real ones"), h("div", { class: "bar" }, choice("order", "order", ORDERS, order, (value) => go({ order: value })), h("span", { class: "soft" }, many(pages.total, "page"))),
      table([["#", "number"], "action", ["steps", "number"], "similarity", ["copying", "less"], ["task", "less"], ["what is wrong", "less"]], pages.rows.map((row) => [
        h("a", { href: link("page", { run, world: chosen.name, number: row.number }), "data-stop": true }, row.number), h("code", { class: "clip" }, row.action), row.steps,
        meter(row.similarity, row.problem ? "bad" : ""), meter(row.copying, "quiet"), h("span", { class: "clip" }, row.task), row.problem ? h("span", { title: WHY[row.problem] }, row.problem) : (row.over !== row.ended ? (row.ended ? "missed the end" : "ended too early") : "")])),
      h("p", { class: "pager" }, Number(from) > 0 && h("a", { rel: "prev", href: link("worlds", { run, world: chosen.name, order, from: Math.max(0, from - PAGE) }) }, "← earlier"),
        Number(from) + PAGE < pages.total && h("a", { rel: "next", href: link("worlds", { run, world: chosen.name, order, from: Number(from) + PAGE }) }, "later →"))],
    chosen && !pages && h("p", { class: "soft" }, "Its pages were not kept: it was measured by an earlier version."),
  ] };
}

function fidelity(found) {
  const line = (name) => ({ name, points: found.horizons.map((each) => [each.steps, each[name]?.mean]) });
  const band = (name) => ({ ...line(name), band: found.horizons.filter((each) => each[name]).map((each) => [each.steps, each[name].low, each[name].high]) });
  const options = { broad: true, format: (value) => short(value, 2), top: 1, xformat: (value) => (Number.isInteger(value) ? `${value} step${value === 1 ? "" : "s"}` : "") };
  const held = (each) => (each ? `${short(each.mean, 2)} [${short(each.low, 2)}, ${short(each.high, 2)}]` : "–");
  return [
    h("p", {}, h("b", {}, found.world), ` imagined ${found.env} along ${many(found.episodes, "held-out episode")} of ${many(found.tasks, "task")}. `,
      found.trusted ? ["It can be trusted for ", h("b", {}, many(found.trusted, "step")), "."] : "It cannot be trusted for a single step.", h("span", { class: "soft" }, ` Trusted: similarity of at least ${found.trust}, and better than copying.`)),
    h("div", { class: "cards two" }, curve("similarity by imagined steps", [band("similarity"), line("copying")], options), curve("exact, and ends that are told right", [band("exact"), line("ending")], options)),
    table([["steps", "number"], ["pages", "number"], ["cut", "number"], "exact", "similarity", "copying", "gain", "actions", "ending", "reward"], found.horizons.map((each) => [each.steps, each.count, each.cut,
      ...["exact", "similarity", "copying", "gain", "actions", "ending", "reward"].map((name) => held(each[name]))])),
    h("p", { class: "soft small" }, found.metric)];
}

const synthesis = (run) => (each) => h("div", {}, h("h2", {}, `Imagined to learn from, iteration ${each.iteration}`),
  h("p", {}, each.steps ? `${many(each.episodes.length, "episode")} of up to ${many(each.steps, "step")} in ${many(each.unsolved, "task")} that nothing had solved; ${count(each.kept.length)} are learnt from. World: ${each.world}, judge: ${each.judge}.`
    : `Nothing: ${many(each.unsolved, "task")} were unsolved${!each.world ? "" : each.steps === 0 ? ", and the world model cannot be trusted for a single step" : ", and nobody measured the world model"}.`,
  Object.entries(each.cut).map(([why, number]) => ` ${count(number)} ${why}.`)),
  h("p", {}, each.episodes.slice(0, 40).map((id) => [h("a", { href: link("episode", { run, id }), class: each.kept.includes(id) ? "strong" : null }, id), " "]), each.episodes.length > 40 && "…"));

export async function showPage({ run, world, number }) {
  const page = await ask("page", { run, world, number });
  const to = (where, rel, title) => where !== null && h("a", { rel, class: "button", href: link("page", { run, world, number: where }) }, title);
  const side = (title, text, which) => h("div", {}, h("h2", {}, title), h("div", { class: "turn end" }, page.parts ? marked(page.parts, which) : h("pre", { class: "seen" }, text)));
  const added = (which) => page.parts?.filter(([code, , ]) => code !== "equal").reduce((sum, part) => sum + part[which].trim().split(/\s+/).filter(Boolean).length, 0);
  return { page: [
    h("div", { class: "title" }, h("h1", {}, "Imagined and real"), h("span", { class: "pager" }, to(page.before, "prev", "←"), to(page.after, "next", "→")), h("a", { class: "button", href: link("worlds", { run, world }) }, "all pages")),
    h("div", { class: "facts" }, h("span", {}, "after ", h("code", {}, page.action)), h("span", {}, `${many(page.steps, "imagined step")} from step ${page.origin} of `, page.store ? h("a", { href: link("episode", { run, id: page.episode }) }, page.episode) : page.episode),
      h("span", {}, "similarity ", h("b", {}, percent(page.similarity, 0))), h("span", {}, "copying ", h("b", {}, percent(page.copying, 0))),
      h("span", {}, page.ended ? "the episode ends here" : "the episode goes on", page.over !== page.ended ? h("b", { class: "failure" }, page.over ? ", imagined as over" : ", imagined as going on") : ""), h("span", { class: "soft" }, page.task)),
    page.problem ? h("p", { class: "alert" }, `There is no imagined page: ${WHY[page.problem] ?? page.problem}.`) : h("p", { class: "soft" }, page.similarity === 1 && page.imagined === page.real ? "Equal, letter for letter." : `${many(added(1), "word")} imagined that did not come, ${many(added(2), "word")} came that were not imagined.`, page.cut && " Only the beginnings are shown."),
    h("div", { class: "sides" }, side("imagined", page.imagined, false), side("real", page.real, true))] };
}
