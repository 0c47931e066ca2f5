// Which view is shown: the address behind the # names it. Also the keys and dark or light.

import { h, link, nodes } from "./make.js";
import { showRuns, showRun } from "./runs.js";
import { showEpisodes, showFaults } from "./episodes.js";
import { showEpisode } from "./episode.js";
import { showForest } from "./forest.js";
import { showBranches } from "./branches.js";
import { showSamples, showSample } from "./samples.js";

const VIEWS = { "": showRuns, run: showRun, episodes: showEpisodes, faults: showFaults, episode: showEpisode,
  forest: showForest, branches: showBranches, samples: showSamples, sample: showSample };
const KEYS = [["j / k", "next or previous turn, row or branch"], ["Enter", "open it"], ["/", "the first filter"],
  ["u", "up: to the run, or to all runs"], ["f", "forest of this episode"], ["d", "dark or light"], ["?", "these keys"]];

const main = document.getElementById("main");
const trail = document.getElementById("trail");
const keys = document.getElementById("keys");
let leave = null, turn = 0;

function place() {
  const [, name, query] = /^#\/([^?]*)\??(.*)$/.exec(location.hash) ?? [null, "", ""];
  return { name, parameters: Object.fromEntries(new URLSearchParams(query)) };
}

async function show() {
  const mine = ++turn;
  const { name, parameters } = place();
  leave?.();
  leave = null;
  const view = VIEWS[name];
  trail.replaceChildren(...(parameters.run ? [h("a", { href: link("run", { run: parameters.run }) },
    parameters.run === "." ? "this run" : parameters.run), ` ${name === "run" ? "" : `/ ${name}`}`] : []));
  document.title = ["Palaestra", parameters.run, name].filter(Boolean).join(" · ");
  main.setAttribute("aria-busy", "true");
  main.replaceChildren(h("p", { class: "soft" }, "…"));
  try {
    if (!view) throw new Error(`There is no view called ${name}.`);
    const found = await view(parameters);
    if (mine !== turn) { found.leave?.(); return; }
    leave = found.leave ?? null;
    main.replaceChildren(...nodes(found.page));
    found.shown?.();
    main.focus({ preventScroll: true });
    window.scrollTo(0, 0);
  } catch (error) {
    if (mine === turn) main.replaceChildren(h("p", { class: "error", role: "alert" }, error.message));
  }
  if (mine === turn) main.setAttribute("aria-busy", "false");
}

function theme() {
  const dark = document.documentElement.dataset.theme
    ? document.documentElement.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  document.documentElement.dataset.theme = dark ? "light" : "dark";
  localStorage.setItem("palaestra-theme", document.documentElement.dataset.theme);
}

function help() {
  keys.replaceChildren(h("h2", {}, "Keys"), h("dl", {}, KEYS.map(([key, what]) => [h("dt", {}, h("kbd", {}, key)), h("dd", {}, what)])),
    h("button", { type: "button", onclick: () => keys.close() }, "Close"));
  if (!keys.open) keys.showModal();
}

function step(by) {
  const stops = [...main.querySelectorAll("[data-stop]")];
  if (!stops.length) return;
  const at = stops.indexOf(document.activeElement);
  const next = stops[Math.max(0, Math.min(stops.length - 1, at < 0 ? 0 : at + by))];
  next.focus();
  next.scrollIntoView({ block: "nearest" });
}

function up() {
  const { name, parameters } = place();
  location.hash = name && name !== "run" && parameters.run ? link("run", { run: parameters.run }) : "#/";
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || keys.open) return;
  if (/^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName)) {
    if (event.key === "Escape") event.target.blur();
    return;
  }
  const { name, parameters } = place();
  const actions = { j: () => step(1), k: () => step(-1), u: up, d: theme, "?": help,
    "/": () => main.querySelector("select, input")?.focus(),
    f: () => { if (name === "episode" && parameters.id) location.hash = link("forest", { run: parameters.run, id: parameters.id }); } };
  if (actions[event.key]) {
    event.preventDefault();
    actions[event.key]();
  }
});

const kept = localStorage.getItem("palaestra-theme");
if (kept === "dark" || kept === "light") document.documentElement.dataset.theme = kept;
document.getElementById("theme").addEventListener("click", theme);
document.getElementById("help").addEventListener("click", help);
addEventListener("hashchange", show);
show();
