"""Collecting on a Ray cluster: real ones, of several nodes on this machine, and one that is killed in the middle."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import threading
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
from pid_env import Inside, Make, tasks

from palaestra.agents.collect import CollectReport, TooManyFaults, collect
from palaestra.agents.episode import Episode, Outcome
from palaestra.agents.policies.random import RandomPolicy
from palaestra.agents.policy import Completion, Policy, PolicyBase, Request
from palaestra.agents.ray_cluster import RayCluster, _Actors
from palaestra.agents.ray_link import _answers, _is_head
from palaestra.agents.store import EpisodeStore
from palaestra.envs import BadInput, Needs, find, registry
from palaestra.trainers.config import config_of
from palaestra.trainers.rft import RFT, RFTConfig
from tests.docs import small

pytestmark = [pytest.mark.timeout(300), pytest.mark.xdist_group("ray")]  # one cluster for all of them


class Counts(PolicyBase):
    """Answers `count`."""

    def __init__(self) -> None:
        super().__init__(name="counts", batch_size=8)

    def act(self, requests: Sequence[Request]) -> list[Completion]:
        return [Completion("count", completion_tokens=1) for _ in requests]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A head that has no room for anything but what coordinates, and two nodes."""
    import ray
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    made.nodes = [made.add_node(num_cpus=2), made.add_node(num_cpus=2)]
    made.wait_for_nodes()
    ray.init(address=made.address, log_to_driver=False, logging_level="ERROR")
    yield made
    ray.shutdown()
    made.shutdown()


def run(cluster: Any, starts: Any, policy: Policy, store: EpisodeStore, **rest: Any) -> CollectReport:
    where: dict[str, Any] = {"hosts": 2, **{name: rest.pop(name) for name in ("replicas", "hosts") if name in rest}}
    settings: dict[str, Any] = {"progress": "quiet", "concurrency": 8, "env_factory": Make(), **rest}
    return collect(starts, policy, store, cluster=RayCluster(cluster.address, **where), **settings)


def gist(store: EpisodeStore) -> set[Any]:
    return {(episode.id, episode.turns, episode.outcome, episode.score) for episode in store.episodes()}


class InThreads(Make):
    """A thread an instance is enough: no process has to be started for it."""

    needs = Needs.THREAD


def test_a_cluster_makes_the_episodes_that_this_machine_makes(cluster: Any, tmp_path: Path) -> None:
    plan = find("bandit").split("train")[:24]
    with EpisodeStore(tmp_path / "here") as here, EpisodeStore(tmp_path / "there") as there:
        how: dict[str, Any] = {"env_settings": {"max_steps": 5}, "env_factory": None}
        collect(plan, RandomPolicy(), here, progress="quiet", **how)
        report = run(cluster, plan, RandomPolicy(), there, replicas=1, **how)
        assert (report.episodes, report.env_steps) == (24, 120)
        assert gist(here) == gist(there)
        again = run(cluster, plan, RandomPolicy(), there, replicas=1, **how)
        assert (again.episodes, again.skipped) == (0, 24)


def test_a_policy_that_looks_inside_goes_where_the_environments_are(cluster: Any, tmp_path: Path) -> None:
    with EpisodeStore(tmp_path / "s") as store:
        report = run(cluster, tasks("pid", 6), Inside(), store, env_factory=InThreads())
        assert report.successes == 6
        for episode in store.episodes():
            looked = {turn.completion.split()[-1] for turn in episode.turns}
            played = {turn.observation for turn in episode.turns[1:]}
            assert looked == played, "in the process in which the environment is"


def test_faults_come_back_with_their_tracebacks_and_what_hangs_is_given_up(cluster: Any, tmp_path: Path) -> None:
    with EpisodeStore(tmp_path / "s") as store:
        plan = [*tasks("raises", 1), *tasks("hangs", 1), *tasks("good", 4)]
        report = run(
            cluster, plan, Counts(), store, env_factory=InThreads(), deadline=5.0, retries=0, max_fault_rate=0.9
        )
        assert (report.episodes, report.given_up) == (4, 2)
        faults = {fault.start.task.name: fault for fault in store.faults()}
        assert faults["hangs/0"].outcome is Outcome.TIMEOUT
        assert "in _misbehave" in str(faults["raises/0"].error)
        with pytest.raises(BadInput, match=r"^there is no such task$"):
            run(cluster, tasks("none", 1), Counts(), store, env_factory=InThreads())


class Kills(EpisodeStore):
    """Ends a node when a third of the episodes are stored: the one that the policy's only replica is on, and the
    environments beside it. A new machine comes in its place.

    Args:
        replica: file in which the replica tells its node.
    """

    killed = ""

    def __init__(self, path: Path, cluster: Any, replica: Path) -> None:
        super().__init__(path)
        self.cluster, self.replica = cluster, replica

    def add(self, episode: Episode, kept: Mapping[int, bytes] | None = None) -> bool:
        added = super().add(episode, kept)
        if len(self) >= 20 and not self.killed:
            self.killed = self.replica.read_text()
            [node] = [node for node in self.cluster.nodes if node.node_id == self.killed]
            self.cluster.nodes.remove(node)
            (coordinator,) = node.all_processes["raylet"]
            # A machine takes its workers with it at once; left alone, they go on until they see that it is gone.
            for worker in psutil.Process(coordinator.process.pid).children(recursive=True):
                with suppress(psutil.NoSuchProcess):
                    worker.kill()
            self.cluster.remove_node(node, allow_graceful=False)
            self.cluster.nodes.append(self.cluster.add_node(num_cpus=2))
        return added


def test_a_node_that_is_killed_takes_nothing_with_it_and_the_plan_completes(
    cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three hosts and the replica fill both nodes, so that the one with the replica has a host as well."""

    class Tells(Counts):
        """A replica of it tells the node that it lives on."""

        def act(self, requests: Sequence[Request]) -> list[Completion]:
            import ray

            part = tmp_path / "node.part"
            part.write_text(ray.get_runtime_context().get_node_id())
            part.replace(tmp_path / "node")  # never half written: it is read meanwhile
            return super().act(requests)

    monkeypatch.setattr("palaestra.agents.ray_cluster._ASSEMBLY", 240.0)  # all on both nodes before the first step
    plan = tasks("slow", 60)
    with EpisodeStore(tmp_path / "calm") as calm:
        collect(plan, Counts(), calm, env_factory=InThreads(), progress="quiet", concurrency=60)
        expected = gist(calm)
    with Kills(tmp_path / "s", cluster, tmp_path / "node") as store:
        where = {"hosts": 3, "replicas": 1, "env_factory": InThreads()}
        report = run(cluster, plan, Tells(), store, concurrency=16, max_fault_rate=0.9, **where)
        assert store.killed
        assert (tmp_path / "node").read_text() != store.killed, "the replica was made again elsewhere"
        assert report.faults > 0, "something was in flight there"
        assert (report.episodes, report.given_up, len(store)) == (60, 0, 60)
        assert gist(store) == expected, "every episode once, none lost, none otherwise"
        assert {fault.outcome for fault in store.faults()} == {Outcome.ENV_ERROR}
        assert all("is lost" in str(fault.error) for fault in store.faults())


def test_a_replica_that_dies_is_asked_no_more_and_its_requests_are_answered_by_another(
    cluster: Any, tmp_path: Path
) -> None:
    class Dies(Counts):
        """The first one that is made kills its process when it is first asked."""

        def act(self, requests: Sequence[Request]) -> list[Completion]:
            import os
            import signal

            mark = tmp_path / "died"
            if not mark.exists():
                mark.touch()
                os.kill(os.getpid(), signal.SIGKILL)
            return super().act(requests)

    with EpisodeStore(tmp_path / "s") as store:
        report = run(cluster, tasks("good", 10), Dies(), store, env_factory=InThreads(), hosts=1, replicas=1)
        assert (tmp_path / "died").exists()
        assert (report.episodes, report.faults) == (10, 0)


def test_a_policy_that_kills_every_replica_is_a_fault_in_the_end(cluster: Any, tmp_path: Path) -> None:
    class Kills(Counts):
        def act(self, requests: Sequence[Request]) -> list[Completion]:
            import os
            import signal

            os.kill(os.getpid(), signal.SIGKILL)
            return []

    with EpisodeStore(tmp_path / "s") as store:
        with pytest.raises(TooManyFaults, match="a replica of the policy is lost"):
            run(
                cluster, tasks("good", 1), Kills(), store, env_factory=InThreads(), hosts=1, replicas=1, retries=0,
            )  # fmt: skip
        assert {fault.outcome for fault in store.faults()} == {Outcome.POLICY_ERROR}


def test_a_host_that_hangs_as_a_whole_is_killed_and_replaced(
    cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where an environment never lets the interpreter go. There is only this one, so the plan needs another."""
    stopped: list[int] = []

    class Stops(Counts):
        def act(self, requests: Sequence[Request]) -> list[Completion]:
            told = [request.messages[-1]["content"] for request in requests]
            if not stopped and (pids := [int(text) for text in told if text.isdigit()]):
                stopped.append(pids[0])
                os.kill(pids[0], signal.SIGSTOP)
            return super().act(requests)

    monkeypatch.setattr("palaestra.agents.ray_cluster._SILENCE", 3.0)
    where: dict[str, Any] = {"env_factory": InThreads(), "hosts": 1, "concurrency": 2, "max_fault_rate": 1.0}
    try:
        with EpisodeStore(tmp_path / "s") as store:
            report = run(cluster, tasks("pid", 4), Stops(), store, deadline=5.0, retries=20, **where)
            assert (report.episodes, report.given_up) == (4, 0)
            assert Outcome.TIMEOUT in {fault.outcome for fault in store.faults()}
        while psutil.pid_exists(stopped[0]) and psutil.Process(stopped[0]).status() != psutil.STATUS_ZOMBIE:
            threading.Event().wait(0.1)
    finally:
        for pid in stopped:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def test_machines_that_lack_what_they_are_to_run_are_told_of_in_one_line(
    cluster: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    import ray

    only_here = types.ModuleType("only_here")
    monkeypatch.setitem(sys.modules, "only_here", only_here)

    class Host:
        def ready(self) -> None: ...

    Host.__module__, Host.__qualname__, only_here.Host = "only_here", "Host", Host  # type: ignore[attr-defined]
    hosts = _Actors(1, lambda: ray.remote(Host).options(num_cpus=0).remote())
    with pytest.raises(BadInput, match=r"it needs the same Palaestra .* No module named 'only_here'") as caught:
        hosts.there()
    assert "\n" not in str(caught.value)


# -- addresses -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("address", "told"),
    [
        ("nowhere", "an address is HOST:PORT, auto or local"),
        ("ray://127.0.0.1:10001", "give HOST:PORT of the cluster's head"),
        ("127.0.0.1:1", r"no Ray cluster answers there \(Connection refused\); start one with `ray start --head`"),
        ("127.0.0.1:99999", "no Ray cluster answers there"),
        ("no-such-host.invalid:6379", "no Ray cluster answers there"),
    ],
)
def test_an_address_without_a_cluster_is_told_in_one_line(
    address: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import ray

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    with EpisodeStore(tmp_path / "s") as store:
        with pytest.raises(BadInput, match=told) as caught:
            collect([], Counts(), store, cluster=RayCluster(address), progress="quiet")
        assert "\n" not in str(caught.value)
        assert str(caught.value).startswith(f"--ray {address}: ")


@pytest.mark.parametrize(
    ("settings", "told"),
    [({"replicas": -1}, "replicas"), ({"hosts": 0}, "hosts"), ({"replica_gpus": -0.5}, "replica_gpus")],
)
def test_numbers_that_cannot_be_are_named(settings: dict[str, Any], told: str) -> None:
    with pytest.raises(BadInput, match=f"ray: {told} must"):
        RayCluster("auto", **settings)


@pytest.mark.parametrize("says", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"220 mail.example ESMTP\r\n"])
def test_a_port_without_ray_behind_it_is_told_in_one_line(says: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def answer() -> None:
            line, _ = listening.accept()
            with line:
                line.recv(1000)
                line.sendall(says)

        other = threading.Thread(target=answer)
        other.start()
        port = listening.getsockname()[1]
        with pytest.raises(BadInput, match=f"^--ray 127.0.0.1:{port}: what listens there is no Ray head; give [^\n]*$"):
            _answers(f"127.0.0.1:{port}", "127.0.0.1", port)
        other.join()


def test_an_address_where_nobody_says_yes_or_no_is_told_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("palaestra.agents.ray_link._SECONDS", 0.5)
    with socket.socket() as full, ExitStack() as stack:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        port = full.getsockname()[1]
        for _ in range(4):  # nobody takes them, so that the system lets further ones wait
            line = stack.enter_context(socket.socket())
            line.setblocking(False)
            line.connect_ex(("127.0.0.1", port))
        with pytest.raises(BadInput, match=rf"^--ray 127\.0\.0\.1:{port}: does not answer in 0\.5 s; check [^\n]*$"):
            _answers(f"127.0.0.1:{port}", "127.0.0.1", port)


def test_the_head_of_a_cluster_is_known_as_one(cluster: Any) -> None:
    host, port = cluster.address.split(":")
    _answers(cluster.address, host, int(port))
    _is_head(cluster.address)


@pytest.mark.parametrize("who", ["a node's own port", "one that greets and is silent"])
def test_what_speaks_the_heads_protocol_and_is_none_is_told_in_one_line_and_nothing_else(
    who: str, cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Joining it would take Ray minutes, and its C++ would write warnings meanwhile."""
    import ray

    from palaestra.cli import run as command

    node = ray.nodes()[0]
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    with ExitStack() as stack:
        if who == "a node's own port":
            address, why = f"{node['NodeManagerAddress']}:{node['NodeManagerPort']}", "RPC error"
        else:
            monkeypatch.setattr("palaestra.agents.ray_link._HEAD_SECONDS", 1)
            address, why = stack.enter_context(greets()), "it has not said within 1 s that it is one"
        with pytest.raises(BadInput) as caught:
            collect([], Counts(), stack.enter_context(EpisodeStore(tmp_path / "s")), cluster=RayCluster(address))
        told = f"--ray {address}: what listens there is no Ray head ({why}); give the address that"
        assert str(caught.value).startswith(told)
        assert "\n" not in str(caught.value)
        capfd.readouterr()
        words = ["collect", "bandit", "-p", "random", "-t", "1", "-o", str(tmp_path / "none"), "-q"]
        assert command([*words, "--ray", address]) == 2
        said = capfd.readouterr()
        assert " ".join(said.err.split()) == f"error: {caught.value}"
        assert said.out == ""
        assert not (tmp_path / "none").exists(), "nothing is begun"


@contextmanager
def greets() -> Iterator[str]:
    """The address of something that begins as HTTP/2 does, and says no more."""
    with socket.create_server(("127.0.0.1", 0)) as listening, ExitStack() as taken:

        def greet() -> None:
            with suppress(OSError):
                while True:
                    line, _ = listening.accept()
                    taken.enter_context(line).sendall(b"\x00\x00\x00\x04\x00\x00\x00\x00\x00")

        other = threading.Thread(target=greet)
        other.start()
        yield f"127.0.0.1:{listening.getsockname()[1]}"
        listening.shutdown(socket.SHUT_RDWR)  # which ends the waiting
        other.join()


# -- the command ---------------------------------------------------------------------------------------------------


def test_the_command_collects_there(cluster: Any, tmp_path: Path) -> None:
    from palaestra.cli import run as command

    words = ["collect", "bandit", "-p", "random", "-t", "6", "-s", "max_steps=3", "-o", str(tmp_path / "run"), "-q"]
    assert command([*words, "--ray", cluster.address, "--replicas", "1"]) == 0
    with EpisodeStore(tmp_path / "run" / "episodes.sqlite", mode="r") as store:
        assert len(store) == 6


def test_an_evaluation_there_finds_what_one_here_does(cluster: Any, tmp_path: Path) -> None:
    from palaestra.cli import run as command

    words = ["eval", "bandit", "-p", "random", "-t", "6", "-s", "max_steps=4", "-q", "-o"]
    assert command([*words, str(tmp_path / "here")]) == 0
    assert command([*words, str(tmp_path / "there"), "--ray", cluster.address, "--replicas", "1"]) == 0
    here, there = (json.loads((tmp_path / name / "evaluation.json").read_text()) for name in ("here", "there"))
    assert len(here["tasks"]) == 6
    assert (here["tasks"], here["score"]) == (there["tasks"], there["score"])


def test_the_commands_of_the_documents_run_there(cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In small, without GPUs, on bandits. Those that ask vLLM as well are in test_vllm."""
    from palaestra.cli import run as command

    monkeypatch.chdir(tmp_path)
    found = [line for page in small.PAGES for line in small.commands(page) if small.place(line) == "ray"]
    assert len(found) == 2
    for line in found:
        line = small.small(line, cluster=cluster.address, model="tiny:bandit").replace("webshop", "bandit")
        assert command([*small.words(line), "-q"]) == 0, line
    with EpisodeStore(tmp_path / "runs" / "e" / "episodes.sqlite", mode="r") as store:
        assert len(store) == 2
    assert len(json.loads((tmp_path / "runs" / "f" / "evaluation.json").read_text())["tasks"]) == 2


WHERE = """
import os
import palaestra

class Where(palaestra.TextEnv):
    "Tells the process that it is in."
    def begin(self, task, rng):
        return {}, f"{os.getpid()} is my process."
    def act(self, state, action):
        return palaestra.Reply("Thank you.", score=1.0, success=True, over=True)

palaestra.register("mine/Where-v0", Where, splits={"train": range(4), "test": range(4, 6)}, max_steps=2)
"""


def test_training_has_its_environments_there(cluster: Any, tmp_path: Path) -> None:
    """In collecting and in measuring, and they are an environment of a file of one's own."""
    from palaestra.cli import run as command

    (tmp_path / "where_env.py").write_text(WHERE)
    known = dict(registry._specs)
    words = ["train", "rft", "--env", "mine/Where-v0", "--load", str(tmp_path / "where_env.py"), "-q"]
    words += ["--model", "tiny:bandit", "--tasks", "4", "--budget", "4", "--set", "iterations=1"]
    words += ["--set", "objective.epochs=1", "--set", "sampling.max_tokens=4", "-o", str(tmp_path / "run")]
    try:
        assert command([*words, "--ray", cluster.address]) == 0
    finally:
        registry._specs.clear()
        registry._specs.update(known)
    with EpisodeStore(tmp_path / "run" / "episodes.sqlite", mode="r") as store:
        made = list(store.episodes())
    assert {episode.start.task.split for episode in made} == {"train", "test"}
    processes = {episode.turns[0].observation for episode in made}
    assert f"{os.getpid()} is my process." not in processes
    assert len(made) == 8  # two tests before, four rollouts, two tests after


def test_the_command_tells_in_one_line_what_is_wrong(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import ray

    from palaestra.cli import run as command

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    words = ["collect", "bandit", "-p", "random", "-t", "1", "-o", str(tmp_path / "none"), "-q"]
    for more, told in (
        (["--ray", "127.0.0.1:1"], "--ray 127.0.0.1:1: no Ray cluster answers there"),
        (["--replicas", "2"], "give --ray as well"),
    ):
        assert command([*words, *more]) == 2
        said = capsys.readouterr().err.strip()
        assert told in " ".join(said.split())
        assert "Traceback" not in said
    servers = ["--ray", "127.0.0.1:1", "--replicas", "2"]
    for command_line in (
        ["collect", "bandit", "-p", "vllm:tiny", *servers],
        ["collect", "bandit", "-p", "openai:m@http://127.0.0.1:1", *servers],
        ["eval", "bandit", "-p", "vllm:@http://127.0.0.1:1", *servers],
    ):
        assert command([*command_line, "-t", "1", "-o", str(tmp_path / "none"), "-q"]) == 2
        assert "--replicas: replicas are for models in this process" in " ".join(capsys.readouterr().err.split())
        assert not (tmp_path / "none").exists(), "nothing is begun"
    for words in (
        ["collect", "bandit", "-p", "vllm:@http://127.0.0.1:1", "-t", "1"],
        ["eval", "bandit", "-p", "vllm:@http://127.0.0.1:1", "-t", "1"],
        ["eval", "bandit", "-p", "random", "-t", "1"],
        ["train", "rft", "--env", "bandit", "--model", "tiny:bandit", "--budget", "4"],
    ):
        assert command([*words, "-q", "-o", str(tmp_path / "none"), "--ray", "127.0.0.1:1"]) == 2
        assert "--ray 127.0.0.1:1: no Ray cluster answers there" in " ".join(capsys.readouterr().err.split())
        assert not (tmp_path / "none").exists(), "nothing is begun"


def test_a_policy_that_asks_servers_itself_has_no_replicas(tmp_path: Path) -> None:
    """They would be started, and never asked."""

    class Streams(Counts):
        def submit(self, request: Request, done: Callable[[Completion], None]) -> None:
            done(self.act([request])[0])

    with (
        EpisodeStore(tmp_path / "s") as store,
        pytest.raises(BadInput, match=r"^ray: policy counts: replicas are for models in this process"),
    ):
        collect([], Streams(), store, cluster=RayCluster("127.0.0.1:1", replicas=1), progress="quiet")


def test_training_takes_no_replicas_of_a_model_that_it_changes(tmp_path: Path) -> None:
    config = config_of(RFTConfig, {"env": "bandit", "model": "tiny:bandit", "budget": 4})
    with pytest.raises(BadInput, match="replicas hold one model, and training makes new ones; use servers"):
        RFT(config, tmp_path / "run", ray=RayCluster("auto", replicas=1))
