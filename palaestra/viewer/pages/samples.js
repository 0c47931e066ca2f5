// The token view: which tokens are trained, with which weight, and why.

import { ask } from "./ask.js";
import { h, choice, count, goto, link, many, short, table } from "./make.js";

const PAGE = 100;

export async function showSamples({ run, iteration, from = "0" }) {
  const first = Number(from);
  const [found, about] = await Promise.all([ask("samples", { run, iteration, from, count: PAGE }), ask("tabs", { run })]);
  return { page: [h("h1", {}, "Trained tokens"),
    h("div", { class: "bar" }, about.sampled.length > 1 && choice("iteration", "iteration", about.sampled.map((number) => [number, number]), iteration, (value) => goto("samples", { run, iteration: value })),
      h("span", { class: "soft" }, `${many(found.total, "sample")} that iteration ${iteration} learnt from`)),
    table([["#", "number"], "kind", "task", ["tokens", "number less"], ["trained", "number"], ["share", "number less"], ["from the episodes", "less"]], found.rows.map((row) => [
      h("a", { href: link("sample", { run, iteration, number: row.number }), "data-stop": true }, row.number), row.kind, h("span", { class: "clip" }, row.task),
      count(row.length), count(row.trained), row.length ? `${Math.round((100 * row.trained) / row.length)} %` : "–", row.episodes.slice(0, 4).map((id) => [h("a", { href: link("episode", { run, id }) }, id), " "])])),
    h("p", { class: "pager" }, first > 0 && h("a", { rel: "prev", href: link("samples", { run, iteration, from: Math.max(0, first - PAGE) }) }, "← earlier"),
      first + PAGE < found.total && h("a", { rel: "next", href: link("samples", { run, iteration, from: first + PAGE }) }, "later →"))] };
}

export async function showSample({ run, iteration, number }) {
  const data = await ask("sample", { run, iteration, number });
  const told = h("div", { class: "told card", role: "status" }, h("span", { class: "soft" }, "Click a span of tokens, or walk with j and k: here stands why it is learnt."));
  const tell = (span) => told.replaceChildren(h("b", {}, weightText(span.weight)), h("span", {}, span.why),
    span.step !== undefined && h("a", { href: link("episode", { run, id: span.origin }) }, `turn ${span.step} of ${span.origin}`),
    h("span", { class: "soft" }, `${many(span.tokens.length, "token")} from token ${count(span.first)} on`));
  const at = Number(number), to = (where, rel, title) => h("a", { rel, class: "button", href: link("sample", { run, iteration, number: where }) }, title);
  return { page: [
    h("div", { class: "title" }, h("h1", {}, `Sample ${number} of iteration ${iteration}`), h("span", { class: "pager" }, at > 0 && to(at - 1, "prev", "←"), to(at + 1, "next", "→"))),
    h("p", { class: "soft" }, Object.entries(data.figures).map(([name, value]) => h("span", { class: "fact" }, `${name} `, h("b", {}, typeof value === "number" ? short(value, 4) : value))),
      !data.decoded && "No tokenizer was found beside the run's weights, so ids are shown."),
    h("div", { class: "legend" }, h("span", {}, h("i", { class: "key learnt" }), "learnt"), data.sequences.some(isAgainst) && h("span", {}, h("i", { class: "key against" }), "made less likely"),
      h("span", {}, h("i", { class: "key said" }), "said by the agent, context only"), h("span", {}, h("i", { class: "key" }), "read, context only")),
    h("div", { class: `sequences n${data.sequences.length}` }, data.sequences.map((each) => sequence(run, each, tell))), told] };
}

const isAgainst = (each) => each.against || each.spans.some((span) => span.weight < 0);
const weightText = (weight) => (weight ? `weight ${short(weight, 6)}` : "weight 0");

function sequence(run, each, tell) {
  const most = Math.max(...each.spans.map((span) => Math.abs(span.weight)), 1e-9);
  const flow = each.spans.map((span) => {
    const kind = span.weight === 0 ? (span.said ? "said" : "read") : each.against || span.weight < 0 ? "against" : "learnt";
    const part = h("span", { class: `part ${kind}`, tabindex: 0, role: "button", "data-stop": kind !== "read", title: span.why,
      "aria-label": `${weightText(span.weight)}: ${span.why}`, onclick: () => tell(span), onfocus: () => tell(span) },
    span.step !== undefined && (span.said || span.weight !== 0) && h("sub", {}, `t${span.step}`),
    span.tokens.map(([id, text], at) => h("span", { class: "token", title: `id ${id}, token ${span.first + at}, ${weightText(span.weight)}` }, text ?? `${id} `)));
    if (span.weight) part.style.setProperty("--strength", `${Math.round(25 + (75 * Math.abs(span.weight)) / most)}%`);
    return part;
  });
  const spans = each.spans.filter((span) => span.weight !== 0);
  return h("div", {},
    each.role !== "sample" && h("h2", {}, each.role, " ", h("span", { class: "soft small" }, `${each.kind} · ${each.task}`)),
    h("p", {}, h("b", {}, count(each.trained)), ` of ${many(each.length, "token")} are trained. Made of `, each.episodes.map((id) => [h("a", { href: link("episode", { run, id }) }, id), " "])),
    each.cut && h("p", { class: "soft" }, "Only the beginning is shown."),
    h("div", { class: "card tokens" }, flow),
    h("details", {}, h("summary", {}, `${many(spans.length, "trained span")} in a table`), table([["from token", "number"], ["tokens", "number"], ["weight", "number"], "why", "turn"], spans.map((span) => [span.first, span.tokens.length, short(span.weight, 6), span.why,
      span.step === undefined ? "–" : h("a", { href: link("episode", { run, id: span.origin }) }, `turn ${span.step} of ${span.origin}`)]))));
}
