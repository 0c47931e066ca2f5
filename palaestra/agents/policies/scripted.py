"""Plays given actions: recorded episodes, tests, hand-made demonstrations."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from palaestra.agents.episode import Actor
from palaestra.agents.policy import Completion, PolicyBase, Request
from palaestra.envs import BadInput

Script = Sequence[str] | Mapping[str, Sequence[str]] | Callable[[Request], str]


class ScriptedPolicy(PolicyBase):
    """Acts by a script.

    Args:
        script: the actions of an episode counted from the root's reset (a fork goes on where it stands); or such
            actions by task id or task name; or a function from the request to the action.
        name, version, actor: for the episode key and the provenance. Another script needs another name or version.
    """

    def __init__(
        self, script: Script, *, name: str = "scripted", version: str = "0", actor: Actor = Actor.POLICY
    ) -> None:
        super().__init__(name=name, version=version, actor=actor, looks_inside=True)
        if isinstance(script, str):
            raise BadInput("a script is a list of actions, a mapping from tasks to such lists, or a function")
        self.script = script

    def act(self, requests: Sequence[Request]) -> list[Completion]:
        """Answer with the script's next actions.

        Raises:
            BadInput: there is no script for the task, or the script is at its end and the episode is not.
        """
        return [Completion(action, action=action) for action in map(self._next, requests)]

    def _next(self, request: Request) -> str:
        if callable(self.script):
            return self.script(request)
        if request.env is None:
            raise BadInput(f"{self.name} needs to know the step, but was not given the environment")
        task, step = request.env.task, len(request.env.history)
        actions = self.script
        if isinstance(actions, Mapping):
            found = actions.get(task.id, actions.get(task.name))
            if found is None:
                raise BadInput(f"{self.name} has no script for task {task.id}")
            actions = found
        if step >= len(actions):
            raise BadInput(f"the script of {self.name} for {task.id} ends after {len(actions)} actions, before the end")
        return actions[step]
