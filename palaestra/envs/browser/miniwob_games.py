"""Ways through MiniWoB's pages with numbers and cards, and through its game of noughts and crosses.

A draw of tic-tac-toe is worth -0.5 and a loss -0.75. What the computer will do follows from the task's seed: the oracle
plays the page's own code ahead, with a generator of random numbers that began as the page's did. tic-tac-toe/35 (of the
training tasks) cannot be won: of all 181 games that can be played there, 40 end in a draw and 141 are lost. The oracle
plays for the draw.
"""

from __future__ import annotations

import json

from palaestra.envs.browser.actions import click
from palaestra.envs.browser.miniwob_scene import Scene, Unsolved, solves


@solves("find-greatest")
def _greatest(page: Scene) -> str:
    cards = page.js("[...document.querySelectorAll('.card')].map(e => [+e.textContent, !e.matches('.hidden')])")
    value, shown = max(cards)
    if shown:
        return page.submit()
    place = [card[0] for card in cards].index(value)
    return page.point(f'.card[data-index="{place}"]')


@solves("generate-number")
def _generate(page: Scene) -> str:
    shown = page.text("#display-number")
    if not shown.isdigit() or not _fits(page, int(shown)):
        return click(page.get("Generate", "button").number)
    return page.submit()


def _fits(page: Scene, value: int) -> bool:
    if "even" in page.query or "odd" in page.query:
        return (value % 2 == 0) == ("even" in page.query)
    kind, limit = page.ask(r"(less|greater) than (\d+)")
    return value < int(limit) if kind == "less" else value > int(limit)


@solves("number-checkboxes")
def _drawn_number(page: Scene) -> str:
    pattern = page.js(f"PATTERNS[{int(page.quoted)}].flat()")
    for box, wanted in zip(page.all("checkbox"), pattern, strict=True):
        if ("checked: true" in box.states) != bool(wanted):
            return click(box.number)
    return page.submit()


_AHEAD = """((seed) => {
  const kept = [Math.random, gameState, freeSpaces, core.endEpisode];
  const now = gameState.slice(), taken = now.filter(value => value === 1).length;
  let worth = null, best = [-1, null];
  core.endEpisode = reward => { worth = reward; };
  // The game after these fields were taken, from its beginning: random numbers and all.
  const play = fields => {
    Math.random = new Math.seedrandom(seed);
    gameState = INITIAL_GAME_STATE.slice(); freeSpaces = EMPTY_SPACES.slice(); worth = null;
    if (core.randi(0, 100) > 50) computerMove('', 1, '', -1);
    for (const field of fields) {
      gameState[field] = 1; freeSpaces.splice(freeSpaces.indexOf(field), 1);
      if (checkWinner(1)) callWin(); else if (!freeSpaces.length) callDraw(); else computerMove('', 1, '', -1);
    }
  };
  const seek = fields => {
    play(fields);
    if (fields.length === taken && gameState.some((value, place) => value !== now[place])) return;  // not this game
    if (worth !== null) {
      if (fields.length > taken && worth > best[0]) best = [worth, fields[taken]];
      return;
    }
    for (const field of freeSpaces.slice())
      if (best[0] < 1 && (fields.length >= taken || now[field] === 1)) seek([...fields, field]);
  };
  try { seek([]); } finally { [Math.random, gameState, freeSpaces, core.endEpisode] = kept; }
  return best[1];
})(%s)"""


@solves("tic-tac-toe")
def _noughts_and_crosses(page: Scene) -> str:
    field = page.js(_AHEAD % json.dumps(page.seed))
    if field is None:
        raise Unsolved("the game went otherwise than its seed says")
    return page.point(f"#ttt-{field}")
