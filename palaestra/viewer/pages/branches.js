// Two branches side by side from where they part; words of observations that differ are marked.

import { ask } from "./ask.js";
import { h, outcome, link, short } from "./make.js";
import { turn } from "./episode.js";

// One side of a difference: what only the left has is struck (del), what only the right has is new (ins).
function marked(parts, right) {
  return h("pre", { class: "seen" }, parts.map(([code, one, other]) => {
    const words = right ? other : one;
    if (code === "equal" || !words) return words;
    return h(right ? "ins" : "del", {}, words);
  }));
}

export async function showBranches({ run, a, b }) {
  const data = await ask("branches", { run, a, b });
  const differences = new Map(data.differences.map((each) => [each.step, each]));
  const sides = data.sides.map((side, right) => h("div", {},
    h("h2", {}, h("a", { href: link("episode", { run, id: side.id }) }, side.id), " ", outcome(side.outcome), ` ${short(side.score)}`),
    h("p", { class: "soft" }, `${side.provenance.actor} · ${side.provenance.policy}`),
    side.turns.map((each) => {
      const parts = differences.get(each.step)?.parts;
      return turn(each, { run, id: side.id }, { own: each.origin === side.id, observation: parts ? marked(parts, right) : null });
    }),
    side.final.text && [h("div", { class: "label" }, "at the end"), differences.get(side.length)?.parts
      ? marked(differences.get(side.length).parts, right) : h("pre", { class: "seen" }, side.final.text)]));
  return { page: [h("h1", {}, "Two branches"),
    h("p", { class: "soft" }, data.parting ? `They share ${data.parting} ${data.parting === 1 ? "turn" : "turns"} and part at turn ${data.parting}.` : "They part at the first turn."),
    h("div", { class: "sides" }, sides)] };
}
