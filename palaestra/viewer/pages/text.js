// Texts in boxes. Huge ones are folded: they come in pieces, when asked for, and only pieces in sight are laid out.

import { ask } from "./ask.js";
import { h, count } from "./make.js";

// Characters as the server counts them: one that takes two units of a JavaScript text is one.
const letters = (text) => { let found = 0; for (const _ of text) found++; return found; };

const TAIL = 4000, LAID_OUT = 8000;

// A piece in parts that are laid out one by one when they come in sight; they end with lines where there are any.
function parts(text) {
  const found = [];
  for (let at = 0, to; at < text.length; at = to) {
    to = Math.min(text.length, at + LAID_OUT);
    const line = text.lastIndexOf("\n", to - 1) + 1;
    if (to < text.length && line > at) to = line;
    else if (to < text.length && /[\ud800-\udbff]/.test(text[to - 1])) to--;  // not through a character of two units
    found.push(h("span", { class: "piece" }, text.slice(at, to)));
  }
  return found;
}

// found: { text, length }; `more(from)` gives the next piece as { text }. What the server cut is fetched by a button, and
// how it ends by another one where that is far; it stands in a box of its own, so that the first one can grow.
export function folded(found, fetchMore, kind = "seen") {
  const box = h("pre", { class: kind }, found.text);
  let has = letters(found.text);
  if (found.length <= has) return [box];
  const button = h("button", { type: "button", class: "more" }), last = h("div", {});
  const say = () => { button.textContent = `${count(has)} of ${count(found.length)} characters: more`; };
  button.addEventListener("click", async () => {
    button.disabled = true;
    try {
      const piece = await fetchMore(has);
      box.append(...parts(piece.text));
      has += letters(piece.text);
      if (has >= found.length || !piece.text) { button.remove(); last.remove(); } else say();
    } catch (error) {
      button.textContent = error.message;
    }
    button.disabled = false;
  });
  if (found.length > 20 * TAIL) last.append(h("button", { type: "button", onclick: async () => {
    const piece = await fetchMore(found.length - TAIL).catch((error) => ({ text: error.message }));
    last.replaceChildren(h("div", { class: "label" }, `the last ${count(TAIL)} characters`), h("pre", { class: kind }, piece.text));
  } }, "the end"));
  say();
  return [box, button, last];
}

export const text = (found, at, kind) => folded(found, (from) => ask("text", { ...at, from }), kind);

// One side of a difference: what only the left has is struck out (del), what only the right has is new (ins).
export const marked = (parts, right) => h("pre", { class: "seen" }, parts.map(([code, one, other]) => {
  const words = right ? other : one;
  if (code === "equal" || !words) return words;
  return h(right ? "ins" : "del", {}, words);
}));
