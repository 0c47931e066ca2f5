// Which view is shown: the address behind the # names it. Also the tabs of a run, the keys, and dark or light.

import { ask } from "./ask.js";
import { h, count, link, nodes } from "./make.js";
import { showRuns } from "./runs.js";
import { showRun } from "./run.js";
import { showEpisodes } from "./episodes.js";
import { showFaults } from "./faults.js";
import { showTasks } from "./tasks.js";
import { showEpisode } from "./episode.js";
import { showForest } from "./forest.js";
import { showBranches } from "./branches.js";
import { showSamples, showSample } from "./samples.js";
import { showWorlds, showPage } from "./worlds.js";

const VIEWS = { "": showRuns, run: showRun, episodes: showEpisodes, tasks: showTasks, faults: showFaults, episode: showEpisode,
  forest: showForest, branches: showBranches, samples: showSamples, sample: showSample, worlds: showWorlds, page: showPage };
const TAB_OF = { run: "run", episodes: "episodes", episode: "episodes", tasks: "tasks", forest: "tasks", branches: "tasks",
  samples: "samples", sample: "samples", worlds: "worlds", page: "worlds", faults: "faults" };
const KEYS = [["j / k", "next or previous turn, row, branch or page"], ["Enter", "open it"], ["[ / ]", "previous or next of its list"],
  ["1 … 6", "the tabs of a run"], ["/", "the first filter"], ["f", "forest of this episode"], ["u", "up: to the run, or to all runs"],
  ["d", "dark or light"], ["?", "these keys"]];

const main = document.getElementById("main");
const trail = document.getElementById("trail");
const tabs = document.getElementById("tabs");
const keys = document.getElementById("keys");
let leave = null, turn = 0;

function place() {
  const [, name, query] = /^#\/([^?]*)\??(.*)$/.exec(location.hash) ?? [null, "", ""];
  return { name, parameters: Object.fromEntries(new URLSearchParams(query)) };
}

async function drawTabs(run, active, mine) {
  if (!run) { tabs.replaceChildren(); tabs.hidden = true; return; }
  const about = await ask("tabs", { run }).catch(() => null);
  if (mine !== turn) return;
  const last = about?.sampled?.at(-1);
  const found = about ? [
    ["run", link("run", { run }), about.comparison ? "Comparison" : "Overview"],
    about.episodes !== null && ["episodes", link("episodes", { run }), "Episodes", about.episodes],
    about.episodes > 0 && ["tasks", link("tasks", { run }), "Forests"],
    last !== undefined && ["samples", link("samples", { run, iteration: last }), "Trained tokens"],
    about.worlds && ["worlds", link("worlds", { run }), "World model"],
    about.faults > 0 && ["faults", link("faults", { run }), "Faults", about.faults],
  ].filter(Boolean) : [["run", link("run", { run }), "Overview"]];
  tabs.hidden = false;
  tabs.replaceChildren(...found.map(([name, href, title, number]) => h("a", { href, "aria-current": name === active && "page" },
    title, number !== undefined && h("span", { class: "badge" }, count(number)))));
  tabs.querySelector("[aria-current]")?.scrollIntoView({ block: "nearest", inline: "nearest" });
}

async function show() {
  const mine = ++turn;
  const { name, parameters } = place();
  const view = Object.hasOwn(VIEWS, name) ? VIEWS[name] : null;
  leave?.();
  leave = null;
  const run = parameters.run;
  trail.replaceChildren(...(run ? [h("span", { class: "soft" }, "/ "), h("a", { href: link("run", { run }) }, run === "." ? "this run" : run)] : []));
  document.title = [run === "." ? null : run, name || "runs", "Palaestra"].filter(Boolean).join(" · ");
  main.setAttribute("aria-busy", "true");
  drawTabs(run, TAB_OF[name], mine);
  const slow = setTimeout(() => { if (mine === turn) main.replaceChildren(h("p", { class: "soft loading" }, "Reading…")); }, 150);
  try {
    if (!view) throw new Error(`There is no view called ${name}.`);
    const found = await view(parameters);
    if (mine !== turn) { found.leave?.(); return; }
    leave = found.leave ?? null;
    main.replaceChildren(...nodes(found.page));
    window.scrollTo(0, 0);
    found.shown?.();
    if (!main.contains(document.activeElement)) main.focus({ preventScroll: true });
  } catch (error) {
    if (mine === turn) main.replaceChildren(h("p", { class: "alert", role: "alert" }, error.message), h("p", {}, h("a", { href: "#/" }, "All runs")));
  } finally {
    clearTimeout(slow);
  }
  if (mine === turn) main.setAttribute("aria-busy", "false");
}

function theme() {
  const root = document.documentElement;
  const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
  localStorage.setItem("palaestra-theme", root.dataset.theme);
}

function help() {
  keys.replaceChildren(h("h2", {}, "Keys"), h("dl", {}, KEYS.map(([key, what]) => [h("dt", {}, h("kbd", {}, key)), h("dd", {}, what)])),
    h("button", { type: "button", onclick: () => keys.close() }, "Close"));
  if (!keys.open) keys.showModal();
}

function step(by) {
  const stops = [...main.querySelectorAll("[data-stop]")];
  if (!stops.length) return;
  const at = stops.indexOf(document.activeElement?.closest?.("[data-stop]"));
  const next = stops[Math.max(0, Math.min(stops.length - 1, at < 0 ? 0 : at + by))];
  next.focus({ preventScroll: true });
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
    "[": () => main.querySelector("a[rel=prev]")?.click(), "]": () => main.querySelector("a[rel=next]")?.click(),
    f: () => { if (name === "episode" && parameters.id) location.hash = link("forest", { run: parameters.run, id: parameters.id }); } };
  for (let number = 1; number <= 6; number++) actions[number] = () => tabs.querySelectorAll("a")[number - 1]?.click();
  if (Object.hasOwn(actions, event.key)) {
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
