// Two branches side by side from where they part; words of observations that differ are marked.

import { ask } from "./ask.js";
import { h, link, many, outcome, short } from "./make.js";
import { turn } from "./episode.js";
import { marked, text } from "./text.js";

export async function showBranches({ run, a, b }) {
  const data = await ask("branches", { run, a, b });
  const differences = new Map(data.differences.map((each) => [each.step, each]));
  const [left, right] = data.sides, shared = data.parting > 0 ? left.turns[0] : null;
  const imagined = [left, right].map((side) => side.provenance.actor === "imagined");
  const turns = data.sides.map((side) => new Map(side.turns.map((each) => [each.step, each])));
  const seen = (step, which) => {
    const parts = differences.get(step)?.parts;
    return parts ? marked(parts, which === 1) : null;
  };
  const rows = [];
  const last = Math.max(...turns.map((of) => Math.max(-1, ...of.keys())));
  for (let step = data.parting; step <= last; step++)
    rows.push(data.sides.map((side, which) => {
      const each = turns[which].get(step);
      if (each) return h("div", {}, turn(each, { run, id: side.id }, { side: "AB"[which], own: each.origin === side.id, fork: side.start.parent && step === side.own ? "fork" : null, observation: seen(step, which) }));
      return h("div", {}, step === side.length && end(run, side, which, seen));
    }));
  const tail = data.sides.map((side, which) => (side.length > last ? h("div", {}, end(run, side, which, seen)) : h("div", {})));
  const cut = data.differences.some((each) => each.cut), same = data.differences.filter((each) => each.same).length;
  return { page: [
    h("div", { class: "title" }, h("h1", {}, imagined[0] !== imagined[1] ? "Real and imagined" : "Two branches"), h("a", { class: "button", href: link("forest", { run, id: b }) }, "forest")),
    h("p", { class: "soft" }, parted(data), pages(same, data.differences.length), cut ? " Of long texts the beginnings are compared." : ""),
    shared && h("details", { class: "shared" }, h("summary", {}, `the last turn they share (${shared.step})`), turn(shared, { run, id: left.id })),
    h("div", { class: "sides" }, data.sides.map((side, which) => h("div", { class: "side-head" }, h("h2", {}, h("span", { class: "pill" }, "AB"[which]), " ", imagined[which] ? "imagined: " : "", h("a", { href: link("episode", { run, id: side.id }) }, side.id), " ", outcome(side.outcome), ` ${short(side.score)}`),
      h("p", { class: "soft small" }, `${side.provenance.actor} · ${side.provenance.policy} · ${many(side.length, "turn")}`))), rows.flat(), tail)] };
}

function parted({ parting, sides }) {
  if (sides.every((side) => side.length === parting)) return `All ${many(parting, "turn")} are the same. `;
  return parting ? `They share ${many(parting, "turn")} and part after turn ${parting - 1}. ` : "They part at the first turn. ";
}

const pages = (same, all) => (all ? `${same} of ${many(all, "page")} after equally many actions ${same === 1 ? "is" : "are"} equal.` : "");

const end = (run, side, which, seen) => side.final.text ? h("div", { class: "turn end" }, h("div", { class: "label" }, `${"AB"[which]}, at the end`),
  seen(side.length, which) ?? text(side.final, { run, id: side.id, step: -1, field: "final" })) : null;
