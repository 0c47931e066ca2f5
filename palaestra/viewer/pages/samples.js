// The token view: which tokens are trained, with which weight, and why.

import { ask } from "./ask.js";
import { h, count, short, table, link } from "./make.js";

const PAGE = 100;

export async function showSamples({ run, iteration, from = "0" }) {
  const first = Number(from);
  const found = await ask("samples", { run, iteration, from, count: PAGE });
  const go = (place, title) => h("a", { href: link("samples", { run, iteration, from: place }) }, title);
  return { page: [h("h1", {}, `What iteration ${iteration} learnt from`),
    h("p", { class: "soft" }, `${count(found.total)} samples`),
    table(["sample", "kind", "task", "tokens", "trained", "episodes"], found.rows.map((row) => [
      h("a", { href: link("sample", { run, iteration, number: row.number }), "data-stop": true }, row.number), row.kind, row.task,
      count(row.length), count(row.trained), row.episodes.map((id) => [h("a", { href: link("episode", { run, id }) }, id), " "])])),
    h("p", {}, first > 0 && go(Math.max(0, first - PAGE), "earlier"), " ", first + PAGE < found.total && go(first + PAGE, "later"))] };
}

export async function showSample({ run, iteration, number }) {
  const data = await ask("sample", { run, iteration, number });
  return { page: [h("h1", {}, `Sample ${number} of iteration ${iteration}`),
    h("p", { class: "soft" }, Object.entries(data.figures).map(([name, value]) => `${name} ${value} `),
      data.decoded ? "" : "No tokenizer was found beside the run's weights, so ids are shown."),
    data.sequences.map((each) => drawSequence(run, each))].flat() };
}

function drawSequence(run, each) {
  const spans = each.spans.filter((span) => span.weight !== 0);
  return [
    h("h2", {}, each.role, " ", h("span", { class: "soft" }, `${each.kind} · ${each.task}`)),
    h("p", {}, `${count(each.trained)} of ${count(each.length)} tokens are trained. From `,
      each.episodes.map((id) => [h("a", { href: link("episode", { run, id }) }, id), " "])),
    each.cut && h("p", { class: "soft" }, "Only the beginning is shown."),
    h("div", { class: "card tokens" }, each.spans.map((span) => span.tokens.map(([id, text], place) =>
      h("span", { class: `token${span.weight > 0 ? " learnt" : span.weight < 0 ? " against" : ""}`,
        title: `id ${id} at ${span.first + place}: ${span.why}${span.step === undefined ? "" : `, turn ${span.step} of ${span.origin}`}` },
        text ?? `${id} `)))),
    table(["from token", "tokens", "weight", "why", "turn"], spans.map((span) => [span.first, span.tokens.length, short(span.weight, 6), span.why,
      span.step === undefined ? "-" : h("a", { href: link("episode", { run, id: span.origin }) }, `turn ${span.step} of ${span.origin}`)]))];
}
