// Where every episode of a forest is drawn: a lane each, but what goes on where a piece of a search ended stays in its lane.

// nodes: as the server gives them, parents before their children. Gives { lanes, lane: Map id -> number, last, cover }.
export function layout(nodes) {
  const ids = new Map(nodes.map((node) => [node.id, node]));
  const below = new Map();
  for (const node of nodes) {
    const parent = ids.has(node.parent) ? node.parent : null;
    if (!below.has(parent)) below.set(parent, []);
    below.get(parent).push(node);
  }
  const lane = new Map();
  let lanes = 0;
  const onward = (node) => {
    if (node.outcome !== "truncated") return null;
    const all = (below.get(node.id) ?? []).filter((child) => child.fork_step === node.end_step && child.actor !== "spliced");
    const counted = all.filter((child) => child.counted === "search"), next = counted.length ? counted : all;
    return next.reduce((best, child) => (!best || child.visits > best.visits
      || (child.visits === best.visits && child.value > best.value) ? child : best), null);
  };
  const stack = [...(below.get(null) ?? [])].reverse();
  while (stack.length) {
    const chain = [stack.pop()];
    for (let next = onward(chain[0]); next; next = onward(next)) chain.push(next);
    const own = new Set(chain.map((node) => node.id)), side = [];
    for (const node of chain) {
      lane.set(node.id, lanes);
      side.push(...(below.get(node.id) ?? []).filter((child) => !own.has(child.id)));
    }
    lanes++;
    // those that leave last lie nearest, so that no stem crosses a branch; the stack turns them round
    stack.push(...side.sort((a, b) => a.fork_step - b.fork_step || b.number - a.number));
  }
  // the episode of a path that took the action of a step
  const cover = (id, step) => {
    let node = ids.get(id);
    while (node && step < node.fork_step) node = ids.get(node.parent);
    return node ?? null;
  };
  return { lanes, lane, ids, cover, last: Math.max(1, ...nodes.map((node) => node.end_step)) };
}
