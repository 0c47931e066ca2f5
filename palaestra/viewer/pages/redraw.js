// A view that is asked for again while it is seen, and drawn anew only where something changed.

import { nodes, h } from "./make.js";

const EVERY = 3000;

// What a person had opened stays open, and the link that had the focus has it again.
function redraw(box, parts) {
  const open = new Set([...box.querySelectorAll("details[open] > summary")].map((summary) => summary.textContent));
  const focused = box.contains(document.activeElement) ? document.activeElement.getAttribute("href") : null;
  box.replaceChildren(...parts);
  for (const summary of box.querySelectorAll("details > summary")) if (open.has(summary.textContent)) summary.parentElement.open = true;
  if (focused) [...box.querySelectorAll("a")].find((link) => link.getAttribute("href") === focused)?.focus({ preventScroll: true });
}

// load: gives { data, draw }. Asks again every few seconds while the page is seen.
export function live(load) {
  const box = h("div", {}), lost = h("p", { class: "alert", role: "status", hidden: true });
  let timer = null, gone = false, before = "";
  const again = async () => {
    if (gone) return;
    if (!document.hidden) {
      try {
        const found = await load();
        const text = JSON.stringify(found.data);
        lost.hidden = true;
        if (text !== before && !gone) { before = text; redraw(box, nodes(found.draw())); }
      } catch (error) {
        if (!before) throw error;
        lost.hidden = false;
        lost.textContent = `${error.message} What is shown is from before.`;
      }
    }
    if (!gone) timer = setTimeout(() => again().catch(() => {}), EVERY);
  };
  return again().then(() => ({ page: [lost, box], leave: () => { gone = true; clearTimeout(timer); } }));
}
