// The forest of a task: every episode is a line from the step where it began to the step where it ended.

import { ask } from "./ask.js";
import { h, s, short, count, outcome, link } from "./make.js";

const LINE = 22, STEPS = 26, LEFT = 20, LABEL = 330;

// Parents before children, children by fork step: each gets a line of its own.
function order(nodes) {
  const below = new Map();
  const ids = new Set(nodes.map((node) => node.id));
  for (const node of nodes) {
    const parent = ids.has(node.parent) ? node.parent : null;
    below.set(parent, [...(below.get(parent) ?? []), node]);
  }
  const found = [], stack = [...(below.get(null) ?? [])].reverse();
  while (stack.length) {
    const node = stack.pop();
    found.push(node);
    stack.push(...[...(below.get(node.id) ?? [])].sort((a, b) => b.fork_step - a.fork_step || b.number - a.number));
  }
  return found;
}

export async function showForest({ run, id }) {
  const data = await ask("forest", { run, id });
  const nodes = order(data.nodes);
  const place = new Map(nodes.map((node, number) => [node.id, number]));
  const last = Math.max(1, ...nodes.map((node) => node.end_step));
  const x = (step) => LEFT + step * Math.min(STEPS, 700 / last), y = (number) => number * LINE + 24;
  const wide = x(last) + LABEL;
  let chosen = [];
  const told = h("div", { class: "bar", role: "status" });
  const shapes = new Map();

  function tell() {
    for (const [key, shape] of shapes) shape.setAttribute("class", `node${chosen.includes(key) ? " chosen" : ""}`);
    told.replaceChildren(...[
      chosen.length ? chosen.map((key) => h("a", { href: link("episode", { run, id: key }) }, `open ${key}`)) : "Click a branch, and a second one to compare them.",
      chosen.length === 2 && h("a", { href: link("branches", { run, a: chosen[0], b: chosen[1] }) }, h("b", {}, "compare the two from their fork")),
    ].flat().filter(Boolean));
  }
  function choose(key) {
    chosen = chosen.includes(key) ? chosen.filter((each) => each !== key) : [...chosen.slice(-1), key];
    tell();
  }

  const drawing = s("svg", { width: wide, height: nodes.length * LINE + 40, role: "group", "aria-label": "Forest" },
    Array.from({ length: Math.floor(last / 5) + 1 }, (_, k) => s("text", { x: x(5 * k), y: 11, "text-anchor": "middle" }, 5 * k)),
    nodes.map((node, number) => {
      const up = place.get(node.parent);
      return up === undefined ? null : s("path", { class: "stem", d: `M${x(node.fork_step)},${y(up)}V${y(number)}` });
    }),
    nodes.map((node, number) => {
      const about = `${node.actor} ${node.outcome}, score ${short(node.score)}, ${node.n_turns} ${node.n_turns === 1 ? "turn" : "turns"}` +
        (node.visits > 1 ? `, N ${node.visits}, Q ${short(node.value)}` : "");
      const shape = s("g", { class: "node", tabindex: 0, role: "button", "aria-label": about, "data-stop": true, "data-id": node.id,
        onclick: () => choose(node.id), ondblclick: () => { location.hash = link("episode", { run, id: node.id }); },
        onkeydown: (event) => { if (event.key === "Enter" || event.key === " ") { event.preventDefault(); choose(node.id); } } },
        s("rect", { x: x(node.fork_step) - 8, y: y(number) - LINE / 2, width: wide - x(node.fork_step), height: LINE }),
        s("line", { class: `branch ${node.outcome} ${node.actor}`, x1: x(node.fork_step), x2: Math.max(x(node.end_step), x(node.fork_step) + 1), y1: y(number), y2: y(number) }),
        s("text", { x: x(node.end_step) + 12, y: y(number) + 4 }, about), s("title", {}, `${node.id} · ${node.policy}`));
      shapes.set(node.id, shape);
      return shape;
    }));
  const box = h("div", { class: "tree" }, drawing);
  if (id) chosen = [id];
  tell();
  return { page: [
    h("h1", {}, "Forest of ", nodes[0].name),
    h("p", { class: "soft" }, `${count(data.nodes.length)} of ${count(data.total)} episodes of this task; to the right run the steps. `,
      outcome("success"), " ", outcome("failure"), " ", outcome("truncated"),
      "; thick: expert, dashed: spliced, dotted: imagined. N: ends at or below a branch, Q: their mean score."),
    told, box],
    shown: () => { box.scrollTop = y(place.get(id) ?? 0) - box.clientHeight / 2; } };
}
