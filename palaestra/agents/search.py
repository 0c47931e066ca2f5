"""Search over forks: trees whose every node is the end of a stored piece of an episode.

A node is expanded by forking there: `width` pieces of one turn each, sampled by the policy. A tree is nothing but these
pieces in the store, joined by `parent` and `fork_step`; all expansions of a wave, over all trees, go to the policy
together. Searching again reads the pieces that are there and goes on, since every piece has its key.

- `mcts`: Monte-Carlo tree search as in Agent-R (Yuan et al., arXiv 2501.11425, section 3): unvisited children first,
  then UCT = Q + c sqrt(ln N_parent / N); each iteration goes down until one of the answers ends the episode; only ends
  are counted.
- `best`: the open node with the best score of the environment is expanded next.
- `beam`: level by level, the `beam` best open nodes of a level are expanded.
"""

from __future__ import annotations

import hashlib
import math
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from palaestra.agents.collect import collect, planned_keys
from palaestra.agents.conversation import Conversation
from palaestra.agents.episode import Outcome, Path, Start, episode_id
from palaestra.agents.policy import Policy
from palaestra.agents.progress import Progress
from palaestra.agents.ray_cluster import RayCluster
from palaestra.agents.selection import Head
from palaestra.agents.store import EpisodeStore
from palaestra.envs import Task, TextEnv


class Search(BaseModel):
    """How trees grow. The defaults are Agent-R's.

    Attributes:
        strategy: `mcts`, `best` or `beam`.
        iterations: descents to an end (`mcts`), or expansions (`best`); `beam` goes on to the depth.
        width: answers sampled at a node; equal ones are one child.
        depth: turns after which a node counts as an end, with the score it has.
        exploration: c of UCT.
        beam: nodes of a level that are expanded.
        max_calls: model calls that all trees together may take; None for no limit. The first expansion that would go
            beyond ends the search. Pieces that were stored before count as well, so that a search which is continued
            ends as an undisturbed one; tries that faults repeat do not.
        max_steps: environment steps likewise, counted as if every fork replayed its path from the reset.

    Raises:
        ValueError: a budget is too small for a single expansion.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    strategy: Literal["mcts", "best", "beam"] = "mcts"
    iterations: int = Field(default=8, ge=1)
    width: int = Field(default=4, ge=1)
    depth: int = Field(default=20, ge=1)
    exploration: float = Field(default=0.25, ge=0.0)
    beam: int = Field(default=3, ge=1)
    max_calls: int | None = Field(default=None, ge=1)
    max_steps: int | None = Field(default=None, ge=1)

    @model_validator(mode="after")
    def _enough(self) -> Search:
        for name, most in (("max_calls", self.max_calls), ("max_steps", self.max_steps)):
            if most is not None and most < self.width:
                raise ValueError(f"{name}: {most} is less than one expansion takes, which is the width, {self.width}")
        return self


@dataclass(eq=False)
class Node:
    """A step of a tree.

    Attributes:
        start: what a fork there begins with; for the root the task.
        head: the piece that ends here; None at the root.
        parent, children: as they hang together; `children` is None until the node is expanded.
        depth: turns from the root.
        visits, total: ends that were seen below (or here), and the sum of their values.
        ended: did the episode end here (or has it the full depth), or have all episodes below.
        own: is it this node's episode that ended.
    """

    start: Start
    head: Head | None = None
    parent: Node | None = None
    depth: int = 0
    children: list[Node] | None = None
    visits: int = 0
    total: float = 0.0
    ended: bool = False
    own: bool = False

    @property
    def score(self) -> float:
        """The environment's score here, in [0, 1]; 0 at the root."""
        return self.head.score if self.head is not None else 0.0

    @property
    def mean(self) -> float:
        """Q: the mean value of the ends below, 0 without any."""
        return self.total / self.visits if self.visits else 0.0

    @property
    def disaster(self) -> bool:
        """Did the environment end the episode here with nothing won."""
        return self.own and self.head is not None and self.head.outcome is Outcome.FAILURE and self.head.score == 0

    def below(self) -> Iterator[Node]:
        """This node and all under it, parents first."""
        yield self
        for child in self.children or ():
            yield from child.below()


@dataclass(eq=False)
class Tree:
    """One task's tree.

    Attributes:
        task: what is searched.
        root: its first node.
        done: is there nothing more to expand.
    """

    task: Task
    root: Node
    rng: random.Random = field(repr=False)
    descents: int = 0
    expansions: int = 0
    at: Node | None = None
    done: bool = False

    def ends(self) -> list[Node]:
        """The nodes where an episode ended, in the order they were made."""
        return [node for node in self.root.below() if node.own]

    def best(self) -> Node | None:
        """The end with the highest score, the shortest of equal ones; None while nothing has ended."""
        return min(self.ends(), key=lambda node: (-node.score, node.depth), default=None)


@dataclass(frozen=True)
class SearchReport:
    """What a search grew and what it cost in this run: pieces that were stored before cost nothing again.

    Attributes:
        trees: one a task, in order.
        model_calls, prompt_tokens, completion_tokens, env_steps, replayed_steps, exact_restores, replay_restores: see
            `CollectReport`.
        waves: how often all open expansions went to the policy together.
        stopped: the budget that ended it ("max_calls", "max_steps"), or None.
    """

    trees: tuple[Tree, ...]
    model_calls: int
    prompt_tokens: int
    completion_tokens: int
    env_steps: int
    replayed_steps: int
    exact_restores: int
    replay_restores: int
    waves: int
    stopped: str | None

    @property
    def costs(self) -> dict[str, int]:
        """All counts by name."""
        return {name: getattr(self, name) for name in (*_SPENT, "waves")}


_SPENT = (
    *("model_calls", "prompt_tokens", "completion_tokens", "env_steps", "replayed_steps"),
    *("exact_restores", "replay_restores"),
)


def search(
    tasks: Sequence[Task],
    policy: Policy,
    store: EpisodeStore,
    plan: Search | None = None,
    *,
    env_settings: Mapping[str, Any] | None = None,
    conversation: Conversation | None = None,
    concurrency: int = 8,
    recipe: str = "search",
    iteration: int | None = None,
    progress: Progress | Literal["auto", "bar", "lines", "quiet"] = "quiet",
    seed: int = 0,
    env_factory: Callable[[str], TextEnv[Any]] | None = None,
    cluster: RayCluster | None = None,
) -> SearchReport:
    """Grow a tree for every task.

    Args:
        tasks: where trees are rooted; each once.
        policy: who answers; its temperature makes the children differ.
        store: where the pieces go.
        plan: see `Search`.
        env_settings, conversation, concurrency, recipe, iteration, progress, seed, env_factory, cluster: see `collect`.
            Another seed needs another `recipe`, `iteration` or store.

    Raises:
        BadInput, TooManyFaults, Interrupted: as `collect`. Searching again goes on.
    """
    plan = plan or Search()
    trees = tuple(Tree(task, Node(Start(task=task)), _rng(seed, task)) for task in tasks)
    spent = dict.fromkeys(_SPENT, 0)
    waves, calls, steps, stopped = 0, 0, 0, None
    while stopped is None:
        wanted = [(tree, node) for tree in trees for node in _next(tree, plan)]
        open_nodes, stopped = _affordable(wanted, plan, calls, steps)
        if not open_nodes:
            break
        report = collect(
            [node.start for _, node in open_nodes],
            policy,
            store,
            samples=plan.width,
            env_settings=env_settings,
            conversation=conversation,
            concurrency=concurrency,
            recipe=recipe,
            iteration=iteration,
            max_turns=1,
            progress=progress,
            seed=seed,
            env_factory=env_factory,
            cluster=cluster,
        )
        waves += 1
        for name in spent:
            spent[name] += getattr(report, name)
        for tree, node in open_nodes:
            keys = planned_keys([(node.start, plan.width)], policy, recipe=recipe, iteration=iteration)
            _expand(tree, node, [store.head(episode_id(key)) for key in keys if store.has(key)], store, plan)
            calls += plan.width
            steps += _steps(node, plan)
    _note(trees, store, recipe, iteration)
    return SearchReport(trees=trees, waves=waves, stopped=stopped, **spent)


def noted(recipe: str, iteration: int | None) -> str:
    """Under which note of its store (`Database.meta`) a search leaves what it counted of its nodes: by the id of the
    piece that ends there [visits, sum of the values]."""
    return f"search {recipe} {iteration if iteration is not None else '-'}"


def _note(trees: Sequence[Tree], store: EpisodeStore, recipe: str, iteration: int | None) -> None:
    """Leave N and Q of all nodes for people to look at. Earlier ones of other tasks stay."""
    name = noted(recipe, iteration)
    nodes = [node for tree in trees for node in tree.root.below()]
    found = {node.head.id: [node.visits, node.total] for node in nodes if node.head is not None}
    if found:
        store.set_meta(name, {**store.meta().get(name, {}), **found})


def path_to(node: Node, store: EpisodeStore) -> Path:
    """The whole path from the root's reset to a node. Raises ValueError for the root, which has none."""
    if node.head is None:
        raise ValueError("the root of a tree has no path")
    return store.path(node.head.id)


# -- what is expanded next ---------------------------------------------------------------------------------------------


def _next(tree: Tree, plan: Search) -> list[Node]:
    """The nodes of a tree that the next wave expands; none when the tree is done."""
    if tree.done or tree.root.ended:
        tree.done = True
        return []
    found = {"mcts": _descend, "best": _best, "beam": _level}[plan.strategy](tree, plan)
    tree.done = not found
    return found


def _descend(tree: Tree, plan: Search) -> list[Node]:
    """Down from where the descent stands, to a node that was not expanded yet."""
    if tree.at is None:
        if tree.descents >= plan.iterations:
            return []
        tree.descents += 1
        tree.at = tree.root
    node = tree.at
    while node.children is not None:
        node = _uct(node, tree.rng, plan.exploration)
    tree.at = node
    return [node]


def _uct(node: Node, rng: random.Random, exploration: float) -> Node:
    going = [child for child in node.children or () if not child.ended]
    fresh = [child for child in going if not child.visits]
    if fresh:
        return rng.choice(fresh)

    def worth(child: Node) -> float:
        return child.mean + exploration * math.sqrt(math.log(node.visits) / child.visits)

    best = max(map(worth, going))
    return rng.choice([child for child in going if worth(child) == best])


def _best(tree: Tree, plan: Search) -> list[Node]:
    if tree.expansions >= plan.iterations:
        return []
    leaves = [node for node in tree.root.below() if node.children is None and not node.ended]
    return [min(leaves, key=lambda node: (-node.score, node.depth))]


def _level(tree: Tree, plan: Search) -> list[Node]:
    deepest = max(node.depth for node in tree.root.below())
    level = [node for node in tree.root.below() if node.depth == deepest and not node.ended]
    return sorted(level, key=lambda node: -node.score)[: plan.beam]


def _affordable(
    wanted: list[tuple[Tree, Node]], plan: Search, calls: int, steps: int
) -> tuple[list[tuple[Tree, Node]], str | None]:
    """Those of a wave, from its beginning, that the budgets still hold, and the budget that ends the search with it."""
    for place, (_, node) in enumerate(wanted):
        calls += plan.width
        steps += _steps(node, plan)
        if plan.max_calls is not None and calls > plan.max_calls:
            return wanted[:place], "max_calls"
        if plan.max_steps is not None and steps > plan.max_steps:
            return wanted[:place], "max_steps"
    return wanted, None


def _steps(node: Node, plan: Search) -> int:
    return plan.width * (node.depth + 1)


# -- what an expansion gives -------------------------------------------------------------------------------------------


def _expand(tree: Tree, node: Node, heads: Sequence[Head], store: EpisodeStore, plan: Search) -> None:
    """Hang the pieces under the node, equal answers once, and count the ends among them."""
    tree.expansions += 1
    node.children = []
    said: set[str] = set()
    for head in heads:
        piece = store.get(head.id)
        text = piece.turns[-1].completion if piece.turns else ""
        if text in said:
            continue
        said.add(text)
        goes_on = piece.labels.get("truncated_by") == "turns" and node.depth + 1 < plan.depth
        child = Node(piece.fork(head.end_step), head, node, node.depth + 1, ended=not goes_on, own=not goes_on)
        node.children.append(child)
        if child.own:
            _count(child, child.score)
    _close(node)
    ended_here = any(child.own for child in node.children)
    if tree.at is node:
        tree.at = None if ended_here or node.ended else node


def _count(node: Node, value: float) -> None:
    above: Node | None = node
    while above is not None:
        above.visits += 1
        above.total += value
        above = above.parent


def _close(node: Node) -> None:
    """A node all of whose children have ended has ended; one without children (all faults) too."""
    above: Node | None = node
    while above is not None and all(child.ended for child in above.children or ()):
        above.ended = True
        above = above.parent


def _rng(seed: int, task: Task) -> random.Random:
    digest = hashlib.blake2b(f"{seed}|{task.id}".encode(), digest_size=8).digest()
    return random.Random(int.from_bytes(digest, "little"))
