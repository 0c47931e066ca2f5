// Makes elements. Text only ever enters through text nodes, so nothing that an environment said is read as markup.

const SVG = "http://www.w3.org/2000/svg";

function build(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  for (const child of children.flat(Infinity))
    if (child !== null && child !== undefined && child !== false)
      element.append(child instanceof Node ? child : document.createTextNode(String(child)));
  return element;
}

export const h = (name, attributes = {}, ...children) => build(document.createElement(name), attributes, children);
export const s = (name, attributes = {}, ...children) => build(document.createElementNS(SVG, name), attributes, children);

// What a view gives, as nodes: lists in lists are joined, what is not there is left out.
export const nodes = (parts) => [parts].flat(Infinity).filter((part) => part || part === 0);

export const percent = (value) => `${(100 * value).toFixed(1)} %`;
export const count = (value) => Number(value).toLocaleString("en");
export const short = (value, digits = 3) => (value === null || value === undefined ? "-" : Number(value.toFixed(digits)).toString());
export const outcome = (name) => h("span", { class: name }, { success: "✓ ", failure: "✗ ", truncated: "… " }[name] ?? "! ", name);

export function table(heads, rows) {
  return h("div", { class: "wide" }, h("table", {},
    h("thead", {}, h("tr", {}, heads.map((head) => h("th", { scope: "col" }, head)))),
    h("tbody", {}, rows.map((row) => h("tr", {}, row.map((cell) => h("td", {}, cell)))))));
}

// The address of a view: its name and parameters behind the #.
export const link = (view, parameters = {}) => `#/${view}?${new URLSearchParams(
  Object.entries(parameters).filter(([, value]) => value !== undefined && value !== null && value !== ""))}`;
