// Makes elements. Text only ever enters through text nodes, so nothing that an environment said is read as markup.

const SVG = "http://www.w3.org/2000/svg";
const UNSEEN = /[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f\u202a-\u202e\u2066-\u2069]/g;

// Signs that steer a terminal or turn the order of letters round are written out, so that what is there is what is seen.
const written = (text) => text.replace(UNSEEN, (sign) => {
  const code = sign.charCodeAt(0);
  return code < 256 ? `\\x${code.toString(16).padStart(2, "0")}` : `\\u${code.toString(16)}`;
});

function build(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  for (const child of children.flat(Infinity))
    if (child !== null && child !== undefined && child !== false)
      element.append(child instanceof Node ? child : document.createTextNode(written(String(child))));
  return element;
}

export const h = (name, attributes = {}, ...children) => build(document.createElement(name), attributes, children);
export const s = (name, attributes = {}, ...children) => build(document.createElementNS(SVG, name), attributes, children);

// What a view gives, as nodes: lists in lists are joined, what is not there is left out.
export const nodes = (parts) => [parts].flat(Infinity).filter((part) => part || part === 0);

export const percent = (value, digits = 1) => (value === null || value === undefined ? "–" : `${(100 * value).toFixed(digits)} %`);
export const count = (value) => (value === null || value === undefined ? "–" : Number(value).toLocaleString("en"));
export const short = (value, digits = 3) => (value === null || value === undefined ? "–" : Number(value.toFixed(digits)).toString());
export const many = (number, one, more = `${one}s`) => `${count(number)} ${number === 1 ? one : more}`;
export const brief = (value) => (value >= 1e6 ? `${(value / 1e6).toFixed(1)}M` : value >= 1e4 ? `${Math.round(value / 1e3)}k` : count(value));

const MARKS = { success: "✓", failure: "✗", truncated: "…" };
export const outcome = (name, number) => h("span", { class: `pill ${name}` }, h("span", { "aria-hidden": "true" }, MARKS[name] ?? "!"), ` ${name.replace("_", " ")}`,
  number !== undefined && h("b", {}, ` ${count(number)}`));

// The environment's own name, without the package's and the version.
export const envName = (id) => (id ?? "").replace(/^.*\//, "").replace(/-v\d+$/, "");

export function ago(time) {
  if (!time) return "–";
  const seconds = Math.max(0, Date.now() / 1000 - time);
  for (const [size, name] of [[86400, "day"], [3600, "hour"], [60, "minute"]])
    if (seconds >= size) return `${many(Math.floor(seconds / size), name)} ago`;
  return "just now";
}

export function span(seconds) {
  if (seconds < 10) return `${short(seconds, 1)} s`;
  if (seconds < 100) return `${Math.round(seconds)} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)}:${String(Math.floor(seconds % 60)).padStart(2, "0")} min`;
  return `${Math.floor(seconds / 3600)}:${String(Math.floor((seconds % 3600) / 60)).padStart(2, "0")} h`;
}

// heads: titles, or [title, class] where a class "less" is left out on a phone and "number" stands to the right.
export function table(heads, rows) {
  const classes = heads.map((head) => (Array.isArray(head) ? head[1] : null));
  return h("div", { class: "wide" }, h("table", {},
    h("thead", {}, h("tr", {}, heads.map((head, at) => h("th", { scope: "col", class: classes[at] }, Array.isArray(head) ? head[0] : head)))),
    h("tbody", {}, rows.map((row) => h("tr", {}, row.map((cell, at) => h("td", { class: classes[at] }, cell)))))));
}

export const card = (value, what, note) => h("div", { class: "card kpi" }, h("div", { class: "label" }, what),
  h("div", { class: "figure" }, value), note && h("div", { class: "soft small" }, note));

// A share of a whole as a bar; parts: [[class, number, title], ...].
export function stacked(parts) {
  const all = parts.reduce((sum, [, number]) => sum + number, 0) || 1;
  return h("div", { class: "stacked", role: "img", "aria-label": parts.map(([name, number]) => `${name} ${number}`).join(", ") },
    parts.filter(([, number]) => number).map(([name, number]) => {
      const part = h("span", { class: name, title: `${name} ${count(number)}` });
      part.style.width = `${(100 * number) / all}%`;
      return part;
    }));
}

export const choice = (title, name, options, chosen, change) => h("label", {}, title,
  h("select", { name, onchange: (event) => change(event.target.value) },
    options.map(([value, text]) => h("option", { value, selected: String(value) === String(chosen ?? "") }, text))));

// The address of a view: its name and parameters behind the #.
export const link = (view, parameters = {}) => `#/${view}?${new URLSearchParams(
  Object.entries(parameters).filter(([, value]) => value !== undefined && value !== null && value !== ""))}`;

export const goto = (view, parameters) => { location.hash = link(view, parameters); };
