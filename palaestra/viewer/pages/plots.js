// Curves, and dots with intervals, as SVG.

import { h, s, short, percent } from "./make.js";

const W = 380, H = 150, LEFT = 52, TOP = 10, BOTTOM = 22;

// points: [[x, y], ...]; y of null is left out.
export function curve(title, points, { format = short, top = null } = {}) {
  const seen = points.filter(([, y]) => y !== null && y !== undefined);
  if (!seen.length) return null;
  const ys = seen.map(([, y]) => y), xs = seen.map(([x]) => x);
  const low = Math.min(0, ...ys), high = top ?? (Math.max(...ys) || 1);
  const first = Math.min(...xs), last = Math.max(...xs);
  const x = (value) => LEFT + (W - LEFT - 10) * (last > first ? (value - first) / (last - first) : 0.5);
  const y = (value) => TOP + (H - TOP - BOTTOM) * (1 - (value - low) / (high - low || 1));
  const lines = [low, (low + high) / 2, high].map((value) => [
    s("line", { class: "axis", x1: LEFT, x2: W - 10, y1: y(value), y2: y(value) }),
    s("text", { x: LEFT - 5, y: y(value) + 4, "text-anchor": "end" }, format(value))]);
  const end = seen[seen.length - 1];
  const drawing = s("svg", { viewBox: `0 0 ${W} ${H}`, role: "img", "aria-label": `${title}: ${format(end[1])} at the end` },
    lines,
    seen.length > 1 && s("polyline", { class: "curve", points: seen.map(([a, b]) => `${x(a)},${y(b)}`).join(" ") }),
    s("circle", { class: "dot", r: 3, cx: x(end[0]), cy: y(end[1]) }),
    s("text", { x: LEFT, y: H - 6 }, first.toLocaleString("en")),
    s("text", { x: W - 10, y: H - 6, "text-anchor": "end" }, last.toLocaleString("en")));
  return h("figure", { class: "card" }, h("figcaption", {}, title, " ", h("b", {}, format(end[1]))), drawing);
}

// rows: [{ label, mean, low, high }], all in [0, 1].
export function intervals(title, rows) {
  const side = 120, wide = 460, line = 28, height = rows.length * line + 30;
  const x = (value) => side + (wide - side - 20) * value;
  const drawing = s("svg", { viewBox: `0 0 ${wide} ${height}`, role: "img", "aria-label": title },
    [0, 0.25, 0.5, 0.75, 1].map((value) => [
      s("line", { class: "axis", x1: x(value), x2: x(value), y1: 4, y2: height - 24 }),
      s("text", { x: x(value), y: height - 8, "text-anchor": "middle" }, `${100 * value} %`)]),
    rows.map((row, place) => {
      const y = place * line + 18;
      return [
        s("text", { x: 4, y: y + 4 }, row.label.slice(0, 18)),
        s("line", { class: "span", x1: x(row.low), x2: x(row.high), y1: y, y2: y }),
        s("circle", { class: "dot", r: 5, cx: x(row.mean), cy: y },
          s("title", {}, `${row.label}: ${percent(row.mean)} [${percent(row.low)}, ${percent(row.high)}]`))];
    }));
  return h("figure", { class: "card" }, h("figcaption", {}, title), drawing);
}
