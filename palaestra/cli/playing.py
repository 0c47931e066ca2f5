"""`palaestra play`: an environment in the terminal, with undo, hints, completion, and what was played as an episode."""

from __future__ import annotations

import contextlib
import difflib
import re
import shlex
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from palaestra.agents.conversation import Conversation
from palaestra.agents.plain import plain
from palaestra.agents.played import Moment, Played
from palaestra.agents.store import EpisodeStore
from palaestra.cli.environments import Env
from palaestra.cli.options import Load, Settings, load_environments, parse_settings
from palaestra.cli.printed import folded, print_text, screen
from palaestra.envs import EnvFault, EnvSpec, PalaestraError, Task, TextEnv, find, make
from palaestra.envs.errors import BadInput

HELP = """\
  an action          is taken; several lines of one stand between two lines of \"\"\"
  :actions [WORDS]   what can be done here, or of that what holds these words; :3 takes the third one
  :hint              what the oracle would do; :hint! does it
  :undo [N]          takes back the last action, or N of them
  :back K            goes back to step K
  :path              what was done so far
  :look              the newest observation, unfolded; :rules the instructions
  :save [FOLDER]     stores what was played as an episode; after going back, as a fork of it
  :quit              leaves; so does the end of the input
On a terminal, TAB completes actions and commands."""

_FEW, _LISTED, _MATCHED = 12, 60, 20_000
_FOLD = 60


def add_to(app: typer.Typer) -> None:
    """Register this file's command."""
    app.command()(play)


def play(
    env: Env,
    task: Annotated[str | None, typer.Option(help="Name of a task; without one the seed picks it.")] = None,
    split: Annotated[str | None, typer.Option(help="Split to pick the task from.")] = None,
    seed: Annotated[int, typer.Option(help="Picks the task.")] = 0,
    settings: Settings = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Store what was played here when leaving, and on :save.")
    ] = None,
    load: Load = None,
) -> None:
    """Play an environment in the terminal: undo, back to any step, hints, completion, save as an episode.

    Works in a pipe as well, one action or command a line. Example:
    `palaestra play scienceworld --task find-living-thing/12 --out runs/mine`.
    """
    load_environments(load)
    spec = find(env)
    made = make(env, **parse_settings(settings))
    try:
        wanted = _wanted(made, task, split, seed)
        table = Table(Played(made, wanted, Conversation(style=spec.style)), spec, screen(), out)
        table.play()
    finally:
        made.close()


def _wanted(env: TextEnv[Any], task: str | None, split: str | None, seed: int) -> Task:
    for name in [split] if split else env.splits():
        tasks = env.tasks(name)
        if task is None:
            return tasks[seed % len(tasks)]
        for candidate in tasks:
            if candidate.name == task:
                return candidate
    raise BadInput(f"no task {task!r} in {split or 'any split'}; `palaestra envs ENV --split NAME` lists them")


class Table:
    """What a person sits at: reads lines, takes actions and commands, shows what came of them.

    Args:
        played: the episode.
        spec: its environment's registration.
        console: where it is shown.
        out: the folder that it is stored in; None: the one that `:save` names.
    """

    def __init__(self, played: Played, spec: EnvSpec, console: Console, out: Path | None) -> None:
        self.played, self.spec, self.console, self.out = played, spec, console, out
        self._terminal = sys.stdin.isatty()
        self._listed: tuple[Moment | None, list[str] | None] = (None, None)
        self._commands: dict[str, Callable[[str], object]] = {
            ":help": lambda _: self._say(HELP),
            ":actions": self._list,
            ":hint": self._hint,
            ":undo": self._undo,
            ":back": self._back,
            ":path": lambda _: self._path(),
            ":look": lambda _: self._look(whole=True),
            ":rules": lambda _: self._rules(whole=True),
            ":save": self._save,
        }

    def play(self) -> None:
        """Until the person leaves. What was played is stored then where `--out` says so."""
        self._begin()
        with completing(self._completions) if self._terminal else contextlib.nullcontext():
            while (line := self._read()) is not None and line != ":quit":
                if line:
                    self._answer(line)
        if self.out is not None:
            self._save("", leaving=True)

    def _begin(self) -> None:
        task = self.played.task
        self.console.print(Text.assemble((task.env, "bold"), "  ", (plain(task.name), "bold cyan"), f"  {task.split}"))
        self._rules()
        self._say(":help tells what else you can type" + (", TAB completes" if self._terminal else ""))
        self.console.print()
        self._look()

    # -- lines -------------------------------------------------------------------------------------------------------

    def _read(self) -> str | None:
        """The next line, or the lines of an action between two of \"\"\"; None at the end of the input."""
        prompt = self._prompt()
        try:
            line = self._line(prompt)
            if line.strip() != '"""':
                return line.strip()
            rows: list[str] = []
            while (row := self._line("... ")).strip() != '"""':
                rows.append(row)
            return "\n".join(rows)
        except (EOFError, KeyboardInterrupt):
            if self._terminal:
                self.console.print()
            return None

    def _line(self, prompt: str) -> str:
        if self._terminal:
            coloured = not self.console.no_color and self.console.is_terminal
            # between 001 and 002 stands what takes no room, or readline would count it
            return input(f"\001\033[1;36m\002{prompt}\001\033[0m\002" if coloured else prompt)
        line = sys.stdin.readline()
        if not line:
            raise EOFError
        self.console.print(Text.assemble((prompt, "dim"), plain(line.rstrip("\n"))))  # what a terminal would echo
        return line.rstrip("\n")

    def _prompt(self) -> str:
        cap = self.played.env.step_cap(self.played.task)
        return f"{self.played.step}{f'/{cap}' if cap is not None else ''} > "

    def _answer(self, line: str) -> None:
        word, _, rest = line.partition(" ")
        try:
            if line == ":hint!":
                self._hint("", take=True)
            elif re.fullmatch(":[0-9]{1,9}", line):
                self._take_listed(int(line[1:]))
            elif word in self._commands:
                self._commands[word](rest.strip())
            elif re.fullmatch(":[a-z]+!?", word):
                near = difflib.get_close_matches(word, self._commands, n=1)
                self._say(f"there is no {word}{f'; {near[0]}?' if near else ''} :help lists what there is")
            else:
                self._act(line)
        except EnvFault as fault:
            self._say(f"the environment broke: {fault}", "red")
            self._say(f"you stand at step {self.played.step}; :back 0 begins anew")
        except PalaestraError as error:
            self._say(str(error), "red")
        except Exception:  # of an environment that somebody is at work on: shown, and one plays on
            self._say(f"the environment broke:\n{traceback.format_exc().rstrip()}", "red")
            self._say(f"you stand at step {self.played.step}; :back 0 begins anew")

    # -- what can be typed -------------------------------------------------------------------------------------------

    def _act(self, action: str) -> None:
        if self.played.over:
            self._say("the episode is over; :undo goes back, :quit leaves", "yellow")
            return
        before = self._admissible()
        moment = self.played.act(action)
        wrong = ""
        if not moment.valid:
            near = difflib.get_close_matches(action, before[:_MATCHED], n=3, cutoff=0.5) if before else []
            wrong = f"not understood{'; did you mean ' + ' | '.join(near) if near else ''}"
        self._look(wrong=wrong)

    def _take_listed(self, number: int) -> None:
        listed = self._admissible()
        if not listed or not 1 <= number <= len(listed):
            self._say(f"there is no action {number} here; :actions lists {len(listed or ())}")
        else:
            self._say(f"> {listed[number - 1]}", "bold cyan")
            self._act(listed[number - 1])

    def _list(self, words: str) -> None:
        listed = self._admissible()
        if listed is None:
            self._say("this environment cannot list its actions")
            return
        found = [(place, each) for place, each in enumerate(listed, 1) if all(w in each for w in words.split())]
        for place, each in found[:_LISTED]:
            self.console.print(Text.assemble((f"{place:>5} ", "dim"), plain(each)))
        if not found:
            self._say(f"none of {len(listed)} actions holds {words!r}" if words else "there is nothing to do here")
        elif len(found) > _LISTED:
            self._say(f"{len(found) - _LISTED} more; :actions WORDS lists those that hold the words")

    def _hint(self, _: str, take: bool = False) -> None:
        if not self.spec.oracles:
            self._say("this environment has no oracle")
        elif self.played.over:
            self._say("the episode is over")
        else:
            action = self.spec.oracle()(self.played.env)
            self.console.print(Text.assemble(("the oracle would ", "dim"), (plain(action), "bold cyan")))
            if take:
                self._act(action)

    def _undo(self, count: str) -> None:
        if count and not re.fullmatch("[0-9]{1,6}", count):
            self._say(":undo takes a number of actions")
            return
        self._go(max(0, self.played.step - int(count or 1)))

    def _back(self, step: str) -> None:
        if not re.fullmatch("[0-9]{1,6}", step):
            self._say(f":back takes a step, 0 to {self.played.step}; :path lists them")
            return
        self._go(int(step))

    def _go(self, step: int) -> None:
        self.played.back(step)
        self._say(f"back at step {step}")
        self._look()

    def _path(self) -> None:
        for step, moment in enumerate(self.played.moments):
            action = "the start" if step == 0 else self.played.actions[step - 1]
            shown = plain(action).replace("\n", " ⏎ ")
            row = Text.assemble((f"{step:>5} ", "dim"), shown, (f"  {moment.score:.2f}", "dim"))
            self.console.print(row, overflow="ellipsis", no_wrap=True)

    def _save(self, where: str, leaving: bool = False) -> None:
        folder = Path(where).expanduser() if where else self.out
        if folder is None:
            self._say("where? :save FOLDER, or begin with --out FOLDER")
            return
        with EpisodeStore(folder / "episodes.sqlite") as store:
            episode = self.played.save(store)
        if episode is not None:
            fork = f", a fork after {episode.start.fork_step} actions of {episode.start.parent}"
            self._say(f"stored as {episode.id}{fork if episode.start.parent else ''}")
            self._say(f"look at it: palaestra show {shlex.quote(str(folder))} {episode.id}")
        elif not leaving:
            self._say("there is nothing new to store")
        self.out = folder

    # -- what is shown -----------------------------------------------------------------------------------------------

    def _rules(self, whole: bool = False) -> None:
        told = self.played.env.instructions(self.played.task)
        shown, more = (told, "") if whole else folded(told, lines=24, characters=2400)
        print_text(self.console, shown, "dim", margin=2)
        if more:
            self._say(f"… {more}; :rules shows all")

    def _look(self, whole: bool = False, wrong: str = "") -> None:
        now, played = self.played.now, self.played
        text, more = (now.observation, "") if whole else folded(now.observation, lines=_FOLD, characters=8000)
        print_text(self.console, text, margin=2)
        if more:
            self._say(f"… {more}; :look shows all")
        if played.step:
            self.console.print(_worth(now, wrong))
        if now.success and played.over:
            self._say(f"solved in {played.step} actions. :undo goes back, :save keeps it, :quit leaves", "bold green")
        elif played.over:
            why = "no actions are left" if now.truncated else "the episode is over"
            self._say(f"{why}. :undo goes back, :save keeps it, :quit leaves", "bold yellow")
        else:
            self._offer()

    def _offer(self) -> None:
        """Few actions are shown, of many only their number."""
        listed = self._admissible()
        if listed and len(listed) <= _FEW:
            self._say("you can: " + " | ".join(plain(each) for each in listed))
        elif listed:
            self._say(f"{len(listed):,} actions are possible: :actions lists them")

    def _admissible(self) -> list[str] | None:
        """Those of this step, listed once."""
        if self._listed[0] is not self.played.now:
            self._listed = self.played.now, self.played.admissible()
        return self._listed[1]

    def _completions(self, begun: str) -> list[str]:
        pool = [*self._commands, ":quit", ":hint!"] if begun.startswith(":") else self._admissible() or []
        return [each for each in pool if each.startswith(begun)]

    def _say(self, text: str, style: str = "dim") -> None:
        self.console.print(Text(plain(text), style=style))


def _worth(moment: Moment, wrong: str) -> Text:
    colour = "green" if moment.reward > 0 else "red" if moment.reward < 0 else "dim"
    worth = Text.assemble((f"  {moment.reward:+.2f}", colour), (f"  score {moment.score:.2f}", "dim"))
    return Text.assemble(worth, "  ", (plain(wrong), "red")) if wrong else worth


@contextlib.contextmanager
def completing(complete: Callable[[str], list[str]]) -> Any:
    """While this lasts, TAB completes whole lines. Without `readline` (Windows) it does nothing."""
    try:
        import readline
    except ImportError:
        yield
        return
    found: list[str] = []

    def completer(begun: str, number: int) -> str | None:
        if number == 0:
            found[:] = complete(begun)
        return found[number] if number < len(found) else None

    before, signs = readline.get_completer(), readline.get_completer_delims()
    readline.set_completer(completer)
    readline.set_completer_delims("")
    readline.parse_and_bind("bind ^I rl_complete" if "libedit" in (readline.__doc__ or "") else "tab: complete")
    try:
        yield
    finally:
        readline.set_completer(before)
        readline.set_completer_delims(signs)
