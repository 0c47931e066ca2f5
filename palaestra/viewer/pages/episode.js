// One episode turn by turn, with a list of its turns beside it.

import { ask, picture } from "./ask.js";
import { h, ago, count, envName, link, many, outcome, short, span } from "./make.js";
import { directory, filesOf } from "./files.js";
import { text } from "./text.js";

// at: how the episode is asked for; observation: what to show in place of it.
export function turn(data, at, { own = true, fork = null, observation = null, recited = null, side = null } = {}) {
  const place = { ...at, step: data.step };
  const part = (name, kind, title = name) => data[name] ? [h("div", { class: "label" }, title), text(data[name], { ...place, field: name }, kind)] : [];
  const said = data.completion && data.completion.text !== data.action?.text;
  return h("section", { class: `turn${own ? " own" : ""}${data.valid ? "" : " bad"}`, id: `turn-${data.step}`, tabindex: -1, "data-stop": true, "aria-label": `turn ${data.step}` },
    h("header", {}, side && h("span", { class: "pill" }, side), h("b", {}, `turn ${data.step}`), fork && h("span", { class: "pill fork" }, fork),
      h("span", {}, "reward ", h("b", {}, short(data.reward))), h("span", {}, "score ", h("b", {}, short(data.score))),
      !data.valid && h("span", { class: "pill failure" }, "not understood"),
      data.completion_tokens !== undefined && h("span", { title: "tokens that were read before, and written" }, `${count(data.context_tokens)} + ${count(data.completion_tokens)} tokens`),
      recited && h("span", {}, "says what ", recited, " said"),
      !own && h("a", { href: link("episode", { run: at.run, id: data.origin }), class: "soft" }, `of ${data.origin}`)),
    observation ? [h("div", { class: "label" }, "observation, words that differ are marked"), observation] : part("observation", "seen"),
    h("div", { class: "pictured", "data-step": data.step }),
    part("note", "seen note", "what the method says to the agent"), part("thought", "thought"),
    part("action", "action"),
    said && h("details", {}, h("summary", { class: "label" }, "written word for word"), part("completion", "seen", "")),
    filesOf(data, at));
}

async function pictures(page, at) {
  for (const place of page.querySelectorAll(".pictured")) {
    const step = place.dataset.step, address = await picture({ ...at, step });
    if (!place.isConnected) return;
    if (address) place.replaceChildren(h("img", { class: "shot", src: address, alt: step === place.dataset.last ? "the page at the end" : `the page before action ${step}` }));
  }
}

// The list of turns: what was done at each, to jump there.
const rung = (each, own) => h("li", { class: `${each.valid ? "" : "bad"}${own ? "" : " before"}` }, h("a", { href: "#", onclick: (event) => {
  event.preventDefault();
  const target = document.getElementById(`turn-${each.step}`);
  target?.focus({ preventScroll: true });
  target?.scrollIntoView({ block: "start" });
} }, h("span", { class: "number" }, each.step), h("span", { class: "what" }, (each.action?.text || each.completion?.text || "(nothing)").slice(0, 80)),
each.score > 0 && h("span", { class: "number soft" }, short(each.score, 2))));

export async function showEpisode({ run, id, fault, from = "0", place, order, ...where }) {
  const at = fault ? { run, fault } : { run, id };
  const data = await ask("episode", { ...at, from });
  const who = data.provenance, task = data.start.task, splice = data.splice;
  const turns = h("div", { class: "turns" }), rungs = h("ol", { class: "rungs", start: data.first });
  const add = (part) => {
    for (const each of part.turns) {
      const own = each.step >= data.own;
      const good = splice && each.step >= splice.from ? splice.resumes + each.step - splice.from : null;
      turns.append(turn(each, at, { own, fork: data.start.parent && each.step === data.own ? (splice ? "spliced from here on" : "the fork begins here") : null,
        recited: good === null ? splice && each.step === splice.aside ? "nobody: it is the word of reflection" : null : h("a", { href: link("episode", { run, id: splice.good }) }, `turn ${good} of ${splice.good}`) }));
      rungs.append(rung(each, own));
    }
  };
  add(data);
  let has = data.first + data.turns.length;
  const more = h("button", { type: "button", class: "more" }, "more turns");
  more.hidden = has >= data.length;
  more.addEventListener("click", async () => {
    const part = await ask("episode", { ...at, from: has });
    add(part);
    has += part.turns.length;
    more.hidden = has >= data.length || !part.turns.length;
    if (data.pictures) pictures(turns, at);
  });
  const beside = h("span", {});
  const last = h("div", { class: "turn end" }, text(data.final, { ...at, step: -1, field: "final" }), h("div", { class: "pictured", "data-step": data.length, "data-last": data.length }));
  const page = [
    h("div", { class: "title" }, h("h1", {}, task.name), outcome(data.outcome), !fault && h("a", { class: "button", href: link("forest", { run, id }) }, "forest"), beside, pager(run, place, order, where)),
    splice && spliced(run, splice),
    data.error && [h("h2", {}, "The fault"), text(data.error, { ...at, step: -1, field: "error" }, "seen code")],
    h("div", { class: "columns" },
      h("aside", {}, facts(run, data, who, task, fault), data.turns.length > 1 && h("nav", { "aria-label": "Turns" }, h("div", { class: "label" }, "turns"), rungs)),
      h("div", {}, data.first === 0 && start(data, at), turns, more,
        (data.final.text || data.pictures) && [h("h2", {}, "At the end"), last],
        h("details", {}, h("summary", {}, "Provenance"), h("pre", { class: "seen" },
          JSON.stringify({ id: data.id, start: data.start, sample: data.sample, provenance: who, labels: data.labels }, null, 1)))))];
  return { page, shown: () => {
    if (data.pictures) pictures(turns, at).then(() => pictures(last, at));
    if (data.imagines && !fault) near(run, id, beside);
  } };
}

// What was in the work directory before the first turn, where that is known.
function start(data, at) {
  if (!data.turns[0]?.files) return null;
  const inner = h("div", {});
  const box = h("details", { class: "files start" }, h("summary", {}, h("span", { class: "label" }, "files at the start")), inner);
  box.addEventListener("toggle", async () => {
    if (!box.open || inner.childElementCount) return;
    inner.replaceChildren(...directory(await ask("files", { ...at, step: -1 }), { ...at, step: -1 }));
  });
  return box;
}

function facts(run, data, who, task, fault) {
  const cost = who.cost ?? {};
  const rows = [["score", short(data.score)], ["turns", `${data.length}${data.own ? `, ${data.length - data.own} its own` : ""}`], ["who", who.actor], ["policy", who.policy],
    who.recipe && ["method", `${who.recipe}${who.iteration === null ? "" : `, iteration ${who.iteration}`}`], ["environment", h("span", { title: task.env }, envName(task.env))], ["split", task.split],
    data.start.parent && ["fork of", h("a", { href: link("episode", { run, id: data.start.parent }) }, `${data.start.parent} at ${data.own}`)],
    cost.completion_tokens ? ["tokens", `${count(cost.completion_tokens)} written, ${count(cost.prompt_tokens)} read`] : null,
    cost.seconds ? ["took", span(cost.seconds)] : null, !fault && ["id", h("code", {}, data.id)]];
  return h("dl", { class: "facts-list" }, rows.filter(Boolean).map(([name, value]) => [h("dt", {}, name), h("dd", {}, value)]));
}

const spliced = (run, splice) => h("div", { class: "card now" }, h("p", {}, h("b", {}, "A splice: "), `${splice.kept === 1 ? "the first turn" : `the first ${splice.kept} turns`} of `,
  h("a", { href: link("episode", { run, id: splice.bad }) }, splice.bad), splice.thought && [", then the reflection ", h("q", {}, splice.thought)], ", then ",
  h("a", { href: link("episode", { run, id: splice.good }) }, splice.good), ` from its turn ${splice.resumes} on.`,
  ` The good path was worth ${short(splice.wanted)}, this one ${splice.score === null ? "was never executed" : `is worth ${short(splice.score)}`}: ${splice.accepted ? "accepted, it is learnt from" : "not accepted"}.`),
h("p", {}, h("a", { href: link("branches", { run, a: splice.bad, b: splice.episode }) }, "beside the bad branch"), " · ", h("a", { href: link("branches", { run, a: splice.good, b: splice.episode }) }, "beside the good one")));

// The real episode beside an imagined one, or the other way round.
async function near(run, id, box) {
  const found = await ask("beside", { run, id }).catch(() => null);
  if (found?.id) box.replaceChildren(h("a", { class: "button", href: link("branches", found.imagined ? { run, a: found.id, b: id } : { run, a: id, b: found.id }) },
    `${found.imagined ? "beside the real one" : "beside an imagined one"} (${many(found.shared, "equal action")})`));
}

// Previous and next of the table that one came from.
function pager(run, place, order, where) {
  if (place === undefined) return null;
  const at = Number(place), box = h("span", { class: "pager" });
  const from = Math.max(0, at - 1);
  ask("episodes", { run, order, ...where, from, count: 3 }).then(({ rows, total }) => {
    const to = (number, rel, title) => rows[number - from] && h("a", { rel, class: "button", title: rel === "prev" ? "previous ([)" : "next (])", href: link("episode", { run, id: rows[number - from].id, order, ...where, place: number }) }, title);
    box.replaceChildren(...[at > 0 && to(at - 1, "prev", "←"), h("span", { class: "soft" }, `${count(at + 1)} of ${count(total)}`), to(at + 1, "next", "→")].filter(Boolean));
  }).catch(() => {});
  return box;
}
