"""A person at the terminal: `palaestra play`, and hand-made demonstrations."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from palaestra.agents.episode import Actor
from palaestra.agents.policy import Completion, PolicyBase, Request

HELP = "An empty line or `?` lists the admissible actions, `quit` ends the session."


class HumanPolicy(PolicyBase):
    """Asks a person. The instructions are shown at the first turn, afterwards only the newest observation.

    The end of the input, or the word `quit`, raises KeyboardInterrupt, which ends a collection as Ctrl-C does.

    Args:
        read: asks for a line, as `input` does.
        show: prints a text, as `print` does.
        name: of the person, for the provenance.
    """

    def __init__(
        self, read: Callable[[str], str] = input, show: Callable[[str], object] = print, *, name: str = "human"
    ) -> None:
        super().__init__(name=name, actor=Actor.HUMAN, batch_size=1, wants_actions=True, looks_inside=True)
        self._read = read
        self._show = show

    def act(self, requests: Sequence[Request]) -> list[Completion]:
        """Ask for one action after the other. Raises KeyboardInterrupt when the person leaves."""
        return [Completion(action, action=action) for action in map(self._ask, requests)]

    def _ask(self, request: Request) -> str:
        if request.env is not None and not request.env.history:
            self._show("\n".join([str(request.messages[0]["content"]), HELP, ""]))
        self._show(request.messages[-1]["content"])
        while True:
            try:
                action = self._read("> ").strip()
            except EOFError:
                raise KeyboardInterrupt from None
            if action == "quit":
                raise KeyboardInterrupt
            if action not in ("", "?"):
                return action
            self._show(self._listing(request.actions))

    @staticmethod
    def _listing(actions: Sequence[str] | None) -> str:
        if actions is None:
            return "This environment does not list its actions."
        return "\n".join(f"  {action}" for action in actions) or "There is nothing to do here."
