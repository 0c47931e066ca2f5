// Texts in boxes. Huge ones are folded: they come in pieces, when asked for, and only pieces in sight are laid out.

import { ask } from "./ask.js";
import { h, count } from "./make.js";

// Characters as the server counts them: one that takes two units of a JavaScript text is one.
const letters = (text) => { let found = 0; for (const _ of text) found++; return found; };

// found: { text, length }; `more(from)` gives the next piece as { text }. What the server cut is fetched by a button.
export function folded(found, fetchMore, kind = "seen") {
  const box = h("pre", { class: kind }, found.text);
  let has = letters(found.text);
  if (found.length <= has) return [box];
  const button = h("button", { type: "button", class: "more" });
  const say = () => { button.textContent = `${count(has)} of ${count(found.length)} characters: more`; };
  button.addEventListener("click", async () => {
    button.disabled = true;
    try {
      const piece = await fetchMore(has);
      box.append(h("span", { class: "piece" }, piece.text));
      has += letters(piece.text);
      if (has >= found.length || !piece.text) button.remove(); else say();
    } catch (error) {
      button.textContent = error.message;
    }
    button.disabled = false;
  });
  say();
  return [box, button];
}

export const text = (found, at, kind) => folded(found, (from) => ask("text", { ...at, from }), kind);

// One side of a difference: what only the left has is struck out (del), what only the right has is new (ins).
export const marked = (parts, right) => h("pre", { class: "seen" }, parts.map(([code, one, other]) => {
  const words = right ? other : one;
  if (code === "equal" || !words) return words;
  return h(right ? "ins" : "del", {}, words);
}));
