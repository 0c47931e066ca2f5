// Curves, and dots with intervals, as SVG.

import { h, s, short, percent } from "./make.js";

const LEFT = 46, RIGHT = 10, TOP = 10, BOTTOM = 22;
// A measured iteration by its number: the start model's is -1, that of what cloned the experts 0.
export const round = (number) => ({ "-1": "start", 0: "cloned" }[number] ?? `iteration ${number}`);
// Drawn about as large as it is shown, so that letters keep their size: `broad` is half a page where there is room.
const size = (broad) => (broad && innerWidth > 900 ? [600, 210] : [380, 170]);
const known = (value) => value !== null && value !== undefined && Number.isFinite(value);

// Round numbers between two values.
function ticks(low, high, most = 4, whole = false) {
  const raw = (high - low) / most || 1, size = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 2.5, 5, 10].map((by) => by * size).find((by) => by >= raw * 0.999 && (!whole || Number.isInteger(by))) ?? 1;
  const found = [];
  for (let value = Math.ceil(low / step - 1e-9) * step; value <= high + step * 1e-6; value += step) found.push(Math.abs(value) < step * 1e-9 ? 0 : value);
  return found;
}

// series: [{ name, points: [[x, y], ...], low, high }]; a y of null breaks the line. bounds: [[x, label]] are drawn upright.
export function curve(title, series, { format = short, axis = format, xformat = (x) => Math.round(x).toLocaleString("en"), top = null, zero = true,
  bounds = [], note = null, broad = false, whole = false } = {}) {
  const [W, H] = size(broad);
  const all = series.map((each) => ({ ...each, points: each.points.filter(([x]) => known(x)) })).filter((each) => each.points.some(([, y]) => known(y)));
  if (!all.length) return null;
  const points = all.flatMap((each) => each.points).filter(([, y]) => known(y)), band = all.flatMap((each) => each.band ?? []);
  const ys = [...points.map(([, y]) => y), ...band.flatMap(([, low, high]) => [low, high])], xs = points.map(([x]) => x);
  const least = ys.reduce((a, b) => Math.min(a, b)), most = ys.reduce((a, b) => Math.max(a, b));
  let low = zero ? Math.min(0, least) : least, high = top ?? most;
  if (high <= low) high = low + (Math.abs(low) || 1);
  if (top === null) high += (high - low) * 0.06;
  if (!zero) low -= (high - low) * 0.06;
  const first = xs.reduce((a, b) => Math.min(a, b)), last = xs.reduce((a, b) => Math.max(a, b));
  const x = (value) => LEFT + (W - LEFT - RIGHT) * (last > first ? (value - first) / (last - first) : 0.5);
  const y = (value) => TOP + (H - TOP - BOTTOM) * (1 - (value - low) / (high - low));
  // one value stands beside the title, several in the legend
  const ended = all.map((each) => each.points.findLast(([, v]) => known(v))), says = h("b"), named = all.map(() => h("b"));
  const tell = (values, where) => {
    values.forEach(([a, b], place) => { dots[place].setAttribute("cx", x(a)); dots[place].setAttribute("cy", y(b)); });
    says.textContent = [all.length === 1 && format(values[0][1]), where].filter(Boolean).join(" at ");
    values.forEach(([, value], place) => { named[place].textContent = format(value); });
  };
  const cursor = s("line", { class: "cursor", x1: -9, x2: -9, y1: TOP, y2: H - BOTTOM });
  const dots = all.map((_, at) => s("circle", { class: `dot s${at}`, r: 3.2 }));
  const drawing = s("svg", { viewBox: `0 0 ${W} ${H}`, role: "img", "aria-label": `${title}: ${all.map((each, at) => `${all.length > 1 ? `${each.name} ` : ""}${format(ended[at][1])}`).join(", ")} at the end` },
    ticks(low, high, 4, whole).map((value) => [s("line", { class: "axis", x1: LEFT, x2: W - RIGHT, y1: y(value), y2: y(value) }),
      s("text", { x: LEFT - 6, y: y(value) + 4, "text-anchor": "end" }, axis(value))]),
    bounds.filter(([at]) => at > first && at < last).map(([at, label]) => s("line", { class: "bound", x1: x(at), x2: x(at), y1: TOP, y2: H - BOTTOM }, s("title", {}, label))),
    all.map((each, at) => each.band && s("path", { class: `band s${at}`, d: `M${each.band.map(([a, , c]) => `${x(a)},${y(c)}`).join("L")}L${[...each.band].reverse().map(([a, b]) => `${x(a)},${y(b)}`).join("L")}Z` })),
    all.map((each, at) => pieces(each.points).map((piece) => piece.length === 1 ? s("circle", { class: `dot s${at}`, r: 1.8, cx: x(piece[0][0]), cy: y(piece[0][1]) }) : s("polyline", { class: `curve s${at}`, points: piece.map(([a, b]) => `${x(a)},${y(b)}`).join(" ") }))),
    cursor, dots,
    s("text", { x: LEFT, y: H - 5 }, xformat(first)), note && s("text", { x: (LEFT + W - RIGHT) / 2, y: H - 5, "text-anchor": "middle" }, note),
    s("text", { x: W - RIGHT, y: H - 5, "text-anchor": "end" }, last > first ? xformat(last) : ""));
  const near = (event) => {
    const box = drawing.getBoundingClientRect(), at = ((event.clientX - box.left) / box.width) * W;
    const values = all.map((each) => each.points.filter(([, v]) => known(v)).reduce((a, b) => (Math.abs(x(b[0]) - at) < Math.abs(x(a[0]) - at) ? b : a)));
    for (const mark of [["x1", x(values[0][0])], ["x2", x(values[0][0])]]) cursor.setAttribute(...mark);
    tell(values, xformat(values[0][0]));
  };
  drawing.addEventListener("pointermove", near);
  tell(ended);
  drawing.addEventListener("pointerleave", () => { tell(ended); for (const name of ["x1", "x2"]) cursor.setAttribute(name, -9); });
  return h("figure", { class: "card plot" }, h("figcaption", {}, h("span", {}, title), says), drawing,
    all.length > 1 && h("div", { class: "legend" }, all.map((each, at) => h("span", {}, h("i", { class: `key s${at}` }), each.name, " ", named[at]))));
}

// A line of points, cut where a value is missing.
function pieces(points) {
  const found = [[]];
  for (const point of points) if (known(point[1])) found.at(-1).push(point); else if (found.at(-1).length) found.push([]);
  return found.filter((piece) => piece.length);
}

// rows: [{ label, mean, low, high, note }]. between: the ends of the axis; where it holds 0 inside, 0 is marked.
export function intervals(title, rows, { format = percent, between = [0, 1], mark = null } = {}) {
  const widest = Math.max(...rows.map((row) => row.label.length));
  const side = Math.min(170, 16 + 6.6 * widest), [wide] = size(true), line = 30, height = rows.length * line + 32;
  const [low, high] = between;
  const x = (value) => side + (wide - side - 22) * ((Math.max(low, Math.min(high, value)) - low) / (high - low));
  const drawing = s("svg", { viewBox: `0 0 ${wide} ${height}`, role: "img", "aria-label": title },
    ticks(low, high, 4).map((value) => [s("line", { class: value === mark ? "axis strong" : "axis", x1: x(value), x2: x(value), y1: 4, y2: height - 24 }),
      s("text", { x: x(value), y: height - 8, "text-anchor": "middle" }, format(value, 0))]),
    rows.map((row, place) => {
      const y = place * line + 20, label = row.label.length > 23 ? `${row.label.slice(0, 22)}…` : row.label;
      return s("g", {}, s("title", {}, `${row.label}: ${format(row.mean)} [${format(row.low)}, ${format(row.high)}]`),
        s("text", { x: side - 10, y: y + 4, "text-anchor": "end", class: "strong" }, label),
        s("line", { class: "interval", x1: x(row.low), x2: x(row.high), y1: y, y2: y }),
        [row.low, row.high].map((end) => s("line", { class: "interval thin", x1: x(end), x2: x(end), y1: y - 5, y2: y + 5 })),
        s("circle", { class: "dot s0", r: 5.5, cx: x(row.mean), cy: y }),
        s("text", { x: Math.min(wide - 2, Math.max(side + 20, x(row.mean))), y: y - 9, "text-anchor": "middle", class: "value" }, format(row.mean)));
    }));
  return h("figure", { class: "card plot" }, h("figcaption", {}, h("span", {}, title)), drawing);
}

// A small curve of values in [0, 1], for a row of a table.
export function spark(values) {
  if (!values?.length) return "";
  const wide = 92, high = 22, x = (at) => (values.length > 1 ? (at / (values.length - 1)) * (wide - 6) + 3 : wide / 2), y = (value) => high - 3 - value * (high - 6);
  const end = values.length - 1;
  return s("svg", { class: "spark", width: wide, height: high, viewBox: `0 0 ${wide} ${high}`, role: "img", "aria-label": `success ${percent(values[end], 0)} at the end` },
    s("line", { class: "axis", x1: 3, x2: wide - 3, y1: y(0), y2: y(0) }),
    s("polyline", { class: "curve s0", points: values.map((value, at) => `${x(at)},${y(value)}`).join(" ") }),
    s("circle", { class: "dot s0", r: 2.4, cx: x(end), cy: y(values[end]) }));
}

// A value in [0, 1] as a bar with its number.
export function meter(value, name = "") {
  const inner = h("span");
  inner.style.width = `${100 * Math.max(0, Math.min(1, value))}%`;
  return h("span", { class: `meter ${name}` }, h("span", { class: "track" }, inner), h("span", {}, short(value, 2)));
}
