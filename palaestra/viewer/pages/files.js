// The work directory of a code task after a turn: what the turn changed, line by line, and every file.

import { ask } from "./ask.js";
import { h, count, many } from "./make.js";
import { folded } from "./text.js";

const NAMES = { "+": "new", "~": "changed", "-": "gone" }, CLASSES = { "+": "added", "~": "changed", "-": "gone" };

// The files that a turn touched, as a line that opens; at: how the episode is asked for.
export function filesOf(turn, at) {
  if (!turn.files) return null;
  const { touched, count: all } = turn.files;
  const inner = h("div", {});
  const box = h("details", { class: "files" },
    h("summary", {}, h("span", { class: "label" }, "files"), " ", all ? touched.map(([mark, path]) => h("span", { class: `file ${CLASSES[mark]}` }, h("b", {}, mark), ` ${path}`)) : h("span", { class: "soft small" }, "nothing changed"),
      all > touched.length && h("span", { class: "soft" }, ` and ${count(all - touched.length)} more`)), inner);
  box.addEventListener("toggle", async () => {
    if (!box.open || inner.childElementCount) return;
    try {
      inner.replaceChildren(...directory(await ask("files", { ...at, step: turn.step }), { ...at, step: turn.step }));
    } catch (error) {
      inner.replaceChildren(h("p", { class: "error" }, error.message));
    }
  });
  return box;
}

export function directory(found, at) {
  if (!found.entries) return [h("p", { class: "soft" }, "What was there was not kept.")];
  if (!found.entries.length) return [h("p", { class: "soft" }, "The work directory was empty.")];
  const changed = found.entries.filter((entry) => entry.mark && entry.kind !== "folder");
  const there = found.entries.filter((entry) => entry.mark !== "-");
  return [
    changed.map((entry) => h("div", { class: "change" }, h("div", { class: `file ${CLASSES[entry.mark]}` }, h("b", {}, entry.mark), ` ${entry.path} `, h("span", { class: "soft" }, NAMES[entry.mark])),
      entry.lines?.length ? lines(entry.lines) : h("p", { class: "soft small" }, entry.kind === "link" ? `a link to ${entry.to}` : entry.text ? "no line of it changed, or too much did" : "not a text"))),
    h("p", { class: "label" }, found.step < 0 ? "at the start" : `the work directory after turn ${found.step}: ${many(there.length, "entry", "entries")}`),
    h("ul", { class: "tree-list" }, there.map((entry) => h("li", {}, entry.kind === "file" && entry.text ? opened(entry, at)
      : h("span", {}, entry.path, h("span", { class: "soft" }, { folder: "/", link: ` → ${entry.to}`, file: ` ${count(entry.size)} bytes, not a text`, other: " (neither file nor folder)" }[entry.kind]))))),
  ].flat();
}

function opened(entry, at) {
  const inner = h("div", {});
  const box = h("details", {}, h("summary", {}, h("code", {}, entry.path), h("span", { class: "soft" }, ` ${many(entry.size, "byte")}`)), inner);
  box.addEventListener("toggle", async () => {
    if (!box.open || inner.childElementCount) return;
    const part = (from) => ask("file", { ...at, path: entry.path, from });
    try {
      inner.replaceChildren(...folded(await part(0), part, "seen code"));
    } catch (error) {
      inner.replaceChildren(h("p", { class: "error" }, error.message));
    }
  });
  return box;
}

// The lines of a difference: [mark, line], "@" where equal lines are left out.
const lines = (found) => h("pre", { class: "seen code diff" }, found.map(([mark, line]) => (mark === "@"
  ? h("span", { class: "left-out" }, `⋯ ${many(Number(line), "line")}\n`)
  : h("span", { class: { "+": "added", "-": "gone" }[mark] ?? "" }, `${mark} ${line}\n`))));
