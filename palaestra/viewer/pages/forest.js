// The forest of a task: every episode is a line from the step where it began to the step where it ended.

import { ask } from "./ask.js";
import { h, s, choice, count, envName, link, many, outcome, short } from "./make.js";
import { layout } from "./layout.js";

const LINE = 26, LEFT = 22, TOP = 34, LABEL = 300;

export async function showForest({ run, id, colour = "outcome" }) {
  const data = await ask("forest", { run, id });
  const nodes = data.nodes, { lanes, lane, ids, cover, last } = layout(nodes);
  const searched = nodes.some((node) => node.counted === "search");
  const apart = Math.max(searched ? 58 : 12, Math.min(56, 760 / last));
  const x = (step) => LEFT + step * apart, y = (node) => lane.get(node.id) * LINE + TOP;
  const wide = x(last) + LABEL, high = lanes * LINE + TOP;
  const shapes = new Map(), told = h("div", { class: "told", role: "status" });
  let chosen = ids.has(id) ? [id] : [], dimmed = "";
  // the last node of a lane carries the words beside it
  const ends = new Map();
  for (const node of nodes) if (!ends.has(lane.get(node.id)) || ends.get(lane.get(node.id)).end_step <= node.end_step) ends.set(lane.get(node.id), node);

  function tell() {
    for (const [key, shape] of shapes) shape.classList.toggle("chosen", chosen.includes(key));
    for (const { splice, shape } of splices) shape.classList.toggle("lit", [splice.episode, splice.good, splice.bad].some((key) => chosen.includes(key)));
    told.replaceChildren(...(chosen.length ? chosen.map((key) => about(run, ids.get(key), data.splices)) : []),
      chosen.length === 2 ? h("a", { class: "button primary", href: link("branches", { run, a: chosen[0], b: chosen[1] }) }, "compare the two from their fork")
        : h("span", { class: "soft" }, chosen.length ? "Click another branch to compare the two." : "Click a branch, and a second one to compare them."));
  }
  function choose(key) {
    chosen = chosen.includes(key) ? chosen.filter((each) => each !== key) : [...chosen.slice(-1), key];
    tell();
  }
  const open = (key) => { location.hash = link("episode", { run, id: key }); };

  // equal answers of one expansion are one node of a search: the others were not counted
  const again = (node) => searched && node.counted === "store" && nodes.some((other) => other.counted === "search" && other.parent === node.parent && other.fork_step === node.fork_step && other.iteration === node.iteration && node.actor === other.actor);
  const branch = (node) => {
    const begin = x(node.fork_step), end = Math.max(x(node.end_step), begin + 2), level = y(node), says = describe(node);
    const shape = s("g", { class: `node ${node.outcome} ${node.actor}`, tabindex: 0, role: "button", "aria-label": says, "data-stop": true, "data-id": node.id,
      onclick: () => choose(node.id), ondblclick: () => open(node.id),
      onkeydown: (event) => {
        if (event.key === "Enter" || event.key === " ") { event.preventDefault(); choose(node.id); }
        if (event.key === "o") open(node.id);
      } },
    s("rect", { class: "hit", x: begin - 4, y: level - LINE / 2, width: (ends.get(lane.get(node.id)) === node ? wide : end) - begin + 4, height: LINE, rx: 5 }),
    s("line", { class: "branch", x1: begin, x2: end, y1: level, y2: level }),
    mark(node, end, level),
    node.counted === "search" && node.visits > 0 && s("text", { class: "nq", x: (begin + end) / 2, y: level - 6, "text-anchor": "middle" }, `${node.visits} · ${short(node.value, 2)}`),
    ends.get(lane.get(node.id)) === node && s("text", { class: "what", x: end + 14, y: level + 4 }, label(node), again(node) && " · said again"),
    s("title", {}, `${says}\n${node.id}`));
    shape.style.setProperty("--q", `${Math.round(100 * node.value)}%`);
    shapes.set(node.id, shape);
    return shape;
  };
  const stems = nodes.map((node) => {
    const parent = ids.get(node.parent);
    if (!parent || lane.get(parent.id) === lane.get(node.id)) return null;
    // from the branch that has the step: a fork of a fork may leave before its parent began
    const from = cover(parent.id, Math.max(0, node.fork_step - 1)) ?? parent;
    return s("path", { class: "stem", d: `M${x(node.fork_step)},${y(from)}V${y(node) - 7}q0,7 7,7` });
  });
  const splices = data.splices.map((splice) => {
    const spliced = ids.get(splice.episode), good = cover(splice.good, splice.resumes), bad = cover(splice.bad, Math.max(0, splice.kept - 1));
    const to = spliced ?? bad;
    if (!good || !to) return null;
    const [x1, y1, x2, y2] = [x(splice.resumes), y(good), x(splice.kept), y(to)], bend = Math.max(18, Math.abs(y2 - y1) / 3);
    const shape = s("path", { class: `splice${splice.accepted ? "" : " refused"}`, d: `M${x1},${y1}C${x1 + bend},${y1} ${x2 - bend},${y2} ${x2},${y2}` },
      s("title", {}, `spliced: ${many(splice.kept, "turn")} of ${splice.bad}, then ${splice.good} from turn ${splice.resumes}; ${splice.accepted ? "accepted" : "not accepted"}`));
    return { splice, shape };
  }).filter(Boolean);
  const every = Math.max(1, Math.ceil(34 / apart / 5) * 5), step = apart >= 34 ? 1 : every;
  const drawing = s("svg", { width: wide, height: high, role: "group", "aria-label": "Forest", class: `forest by-${colour}` },
    Array.from({ length: Math.floor(last / step) + 1 }, (_, k) => [s("line", { class: "axis", x1: x(step * k), x2: x(step * k), y1: 20, y2: high }),
      s("text", { x: x(step * k), y: 13, "text-anchor": "middle" }, step * k)]), stems, splices.map(({ shape }) => shape), nodes.map(branch));
  const box = h("div", { class: "tree" }, drawing);
  tell();
  const groups = [...new Set(nodes.map((node) => node.actor))], rounds = [...new Set(nodes.map((node) => node.iteration).filter((each) => each !== null))].sort((a, b) => a - b);
  const dim = (value) => {
    dimmed = value;
    for (const node of nodes) shapes.get(node.id).classList.toggle("dim", dimmed !== "" && !(dimmed === node.actor || dimmed === node.outcome || dimmed === `iteration ${node.iteration}`));
  };
  return { page: [
    h("div", { class: "title" }, h("h1", {}, data.name), h("span", { class: "soft" }, `${envName(nodes[0].env)} · ${many(data.total, "episode")}${nodes.length < data.total ? `, the first ${count(nodes.length)} are drawn` : ""}`)),
    h("div", { class: "bar" }, choice("bring out", "dim", [["", "everything"], ...groups, ...rounds.map((each) => `iteration ${each}`), "success", "failure", "truncated"].map((each) => (Array.isArray(each) ? each : [each, each])), "", dim),
      choice("colour", "colour", [["outcome", "outcome"], ["value", "value Q"]], colour, (value) => drawing.setAttribute("class", `forest by-${value}`))),
    legend(groups, data.splices.length, searched), box, told],
    shown: () => { const own = ids.get(id); if (own) { box.scrollTop = y(own) - box.clientHeight / 2; box.scrollLeft = Math.min(x(own.fork_step) - 4 * apart, x(own.end_step) + LABEL - box.clientWidth); } } };
}

// How an episode ended, drawn at its end.
function mark(node, end, level) {
  if (node.outcome === "success") return s("circle", { class: "end", cx: end, cy: level, r: 5.5 });
  if (node.outcome === "failure") return s("path", { class: "end cross", d: `M${end - 4.5},${level - 4.5}l9,9m0,-9l-9,9` });
  return s("circle", { class: "end open", cx: end, cy: level, r: 3 });
}

const label = (node) => [node.actor === "policy" ? null : node.actor, node.outcome, short(node.score, 2), `${node.n_turns} turn${node.n_turns === 1 ? "" : "s"}`,
  node.iteration === null ? null : `it ${node.iteration}`, node.visits > 1 ? `N ${node.visits} Q ${short(node.value, 2)}` : null].filter(Boolean).join(" · ");

const describe = (node) => `${node.actor} ${node.outcome}, score ${short(node.score)}, ${many(node.n_turns, "turn")} from step ${node.fork_step}, N ${node.visits}, Q ${short(node.value)}, ${node.policy}`;

function about(run, node, splices) {
  const splice = splices.find((each) => each.episode === node.id);
  return h("div", { class: "card" }, h("div", { class: "title" }, h("b", {}, h("a", { href: link("episode", { run, id: node.id }) }, node.id)), outcome(node.outcome)),
    h("div", { class: "facts" }, h("span", {}, "score ", h("b", {}, short(node.score))), h("span", {}, `steps ${node.fork_step}–${node.end_step}`),
      h("span", { title: node.counted === "search" ? "as the search counted" : "ended episodes at or below it, and their mean score" }, "N ", h("b", {}, node.visits), " Q ", h("b", {}, short(node.value)), node.counted === "search" ? " by the search" : ""),
      h("span", {}, `${node.actor} · ${node.policy}`), node.recipe && h("span", {}, `${node.recipe}${node.iteration === null ? "" : `, iteration ${node.iteration}`}`)),
    splice && h("p", { class: "small" }, `Spliced: ${many(splice.kept, "turn")} of ${splice.bad}, then ${splice.good} from its turn ${splice.resumes}; ${splice.accepted ? "accepted" : "not accepted"}.`));
}

function legend(groups, splices, searched) {
  const line = (kind, text) => h("span", {}, s("svg", { class: "swatch forest by-outcome", width: 34, height: 14, viewBox: "0 0 34 14" }, s("g", { class: kind }, s("line", { class: "branch", x1: 3, x2: 26, y1: 7, y2: 7 }),
    mark({ outcome: kind.split(" ")[0] }, 26, 7))), text);
  const names = { expert: "expert: thick", spliced: "spliced: dashed", imagined: "imagined: dotted", human: "human" };
  return h("div", { class: "legend" }, line("success policy", "success"), line("failure policy", "failure"), line("truncated policy", "truncated"),
    groups.filter((actor) => names[actor]).map((actor) => line(`success ${actor}`, names[actor])),
    splices > 0 && h("span", {}, s("svg", { class: "swatch forest", width: 34, height: 14, viewBox: "0 0 34 14" }, s("path", { class: "splice", d: "M2,3C14,3 18,11 32,11" })), "a splice goes on from there (not accepted: when chosen)"),
    h("span", { class: "soft" }, searched ? "N visits and Q mean value, as the search counted" : "N: ends at or below a branch, Q: their mean score"));
}
