// One episode turn by turn. Huge texts are folded: they come in pieces, when asked for.

import { ask, picture } from "./ask.js";
import { h, count, short, outcome, link } from "./make.js";

// A text in a box; what the server cut is fetched piece by piece by a button.
export function text(found, at, kind = "seen") {
  const box = h("pre", { class: kind }, found.text);
  let has = found.text.length;
  if (found.length <= has) return [box];
  const more = h("button", { type: "button" });
  const say = () => { more.textContent = `${count(has)} of ${count(found.length)} characters: more`; };
  more.addEventListener("click", async () => {
    const piece = await ask("text", { ...at, from: has });
    box.append(document.createTextNode(piece.text));
    has += piece.text.length;
    if (has >= found.length || !piece.text) more.remove(); else say();
  });
  say();
  return [box, more];
}

export function turn(data, at, { own = true, fork = false, observation = null } = {}) {
  const place = { ...at, step: data.step };
  const part = (name, kind) => data[name] ? [h("div", { class: "label" }, name), text(data[name], { ...place, field: name }, kind)] : [];
  const said = data.completion && data.completion.text !== data.action?.text;
  return h("section", { class: `turn${own ? " own" : ""}${data.valid ? "" : " bad"}`, id: `turn-${data.step}`, tabindex: -1, "data-stop": true },
    h("header", {}, h("b", {}, `turn ${data.step}`), fork && h("span", {}, "⑂ the fork begins here"),
      h("span", {}, `reward ${short(data.reward)}`), h("span", {}, `score ${short(data.score)}`),
      data.valid ? null : h("b", { class: "failure" }, "not understood"),
      data.completion_tokens !== undefined && h("span", {}, `${data.context_tokens} + ${data.completion_tokens} tokens`),
      !own && h("a", { href: link("episode", { run: at.run, id: data.origin }) }, `of ${data.origin}`)),
    observation ? [h("div", { class: "label" }, "observation, words that differ are marked"), observation] : part("observation", "seen"),
    h("div", { class: "pictured", "data-step": data.step }),
    part("note", "seen"), part("thought", "thought"),
    said && h("details", {}, h("summary", { class: "label" }, "written word for word"), part("completion", "seen")),
    part("action", "action"));
}

async function pictures(page, at) {
  for (const place of page.querySelectorAll(".pictured")) {
    const step = place.dataset.step, address = await picture({ ...at, step });
    if (address) place.replaceChildren(h("img", { class: "shot", src: address, alt: `the page before action ${step}` }));
  }
}

export async function showEpisode({ run, id, fault, from = "0" }) {
  const at = fault ? { run, fault } : { run, id };
  const data = await ask("episode", { ...at, from });
  const who = data.provenance, task = data.start.task;
  const turns = h("div", {});
  const add = (part) => turns.append(...part.turns.map((each) =>
    turn(each, at, { own: each.step >= data.own, fork: data.start.parent && each.step === data.own })));
  add(data);
  let has = data.first + data.turns.length;
  const more = h("button", { type: "button" }, "more turns");
  more.hidden = has >= data.length;
  more.addEventListener("click", async () => {
    const part = await ask("episode", { ...at, from: has });
    add(part);
    has += part.turns.length;
    more.hidden = has >= data.length || !part.turns.length;
  });
  const page = [
    h("h1", {}, task.name, " ", outcome(data.outcome)),
    h("div", { class: "bar" }, h("span", {}, `score ${short(data.score)}`), h("span", {}, `${data.length} turns`),
      h("span", {}, `${who.actor} · ${who.policy}`), who.recipe && h("span", {}, `${who.recipe}, iteration ${who.iteration ?? "-"}`),
      h("span", { class: "soft" }, `${task.env} · ${task.split}`),
      data.start.parent && h("a", { href: link("episode", { run, id: data.start.parent }) }, `fork of ${data.start.parent} at ${data.own}`),
      !fault && h("a", { href: link("forest", { run, id }) }, "forest (f)")),
    data.error && [h("h2", {}, "The fault"), ...text(data.error, { ...at, step: -1, field: "error" })],
    turns, more,
    data.final.text && [h("h2", {}, "At the end"), ...text(data.final, { ...at, step: -1, field: "final" })],
    h("details", {}, h("summary", {}, "Provenance"), h("pre", { class: "seen" },
      JSON.stringify({ id: data.id, start: data.start, sample: data.sample, provenance: who, labels: data.labels }, null, 1))),
  ].flat(2).filter(Boolean);
  return { page, shown: () => { if (data.pictures) pictures(turns, at); } };
}
