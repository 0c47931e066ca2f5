"""Real MCP servers, over stdio and over streamable HTTP."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from palaestra.envs import BadInput, EnvFault, Fidelity, find, make
from palaestra.envs.tools import Goal, Server, register_mcp
from palaestra.envs.tools.mcp_server import Connection

TILL = [sys.executable, str(Path(__file__).parent / "mcp_till.py")]
GOALS = {
    "train": {
        "two": Goal(
            "Sell two apples.",
            judge=lambda till: till.call("total", item="apple") == "2",
            solution=["sell(item='apple', amount=2)"],
        )
    }
}


@pytest.fixture
def env(clean_registry):
    register_mcp("mine/Till-v0", Server(command=TILL), goals=GOALS)
    made = make("mine/Till-v0")
    yield made
    made.close()


def test_a_stdio_server_is_an_environment_that_rewinds_by_replay(env):
    task = env.tasks("train")[0]
    text = env.instructions(task)
    assert '"name": "sell", "description": "Sell some of an item."' in text
    assert env.reset(options={"task": task})[0] == "Sell two apples."
    assert env.step('{"name": "sell", "arguments": {"item": "apple"}}')[0] == "sold 1 apple"
    snapshot = env.snapshot()
    assert snapshot.fidelity is Fidelity.REPLAY
    env.step("sell('apple', 7)")
    env.restore(snapshot)  # in a fresh process: the seven are not there
    assert env.step("total('apple')")[0] == "1"
    env.step("sell('apple')")
    assert env.step("done")[4]["success"]

    env.reset(options={"task": task})
    oracle = find("mine/Till-v0").oracle()
    for answer, told, valid in (
        ("sell(thing=1)", "argument 'thing' is none of its arguments: item, amount", False),
        ("sell()", "argument 'item' is missing", False),
        ("nothing()", "There is no tool 'nothing'", False),
        ("sold-of.all(most=1)", "at most 1: []", True),
        ("`sold-of.all(3, 4)`", "sold-of.all takes 1 arguments, not 2", False),
        ("sold-of(most=1)", "There is no tool 'sold-of'", False),
        ("tax(state='CA', self=2, name='x')", "CA 2 x", True),
        ("sell(item='apple', amount='x')", "Error", True),
        ("sell(item='apple', amount=0)", "Error", True),
    ):
        observation, *_, info = env.step(answer)
        assert told in observation
        assert info["valid"] is valid
    env.step("sell('apple', 2)")
    assert env.step(oracle(env))[4]["success"]

    env.reset(options={"task": task})
    with pytest.raises(EnvFault, match="failed at die"):
        env.step("die()")
    assert env.reset(options={"task": task})[0] == "Sell two apples."
    assert env.step("total('apple')")[0] == "0"


def test_a_refusal_is_told_by_whatever_code_it_comes(env):
    env.reset(options={"task": env.tasks("train")[0]})
    for code in (-32602, -32603, -32050, -1, 404):
        assert env.step(f"refuse({code})")[0] == f"Error: no, says {code}"
    assert env.step("sell('apple')")[0] == "sold 1 apple"


def test_a_server_over_http_is_an_environment():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen([*TILL, str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        connection = connected(Server(url=f"http://127.0.0.1:{port}/mcp", timeout_s=30))
        assert set(connection.tools) == {"sell", "total", "tax", "note", "refuse", "sold-of.all", "die"}
        assert connection.call("sell", {"item": "pear", "amount": 3}) == "sold 3 pear"
        connection.close()
        again = connected(Server(url=f"http://127.0.0.1:{port}/mcp", timeout_s=30))
        assert again.call("total", {"item": "pear"}) == "3"  # over HTTP the server keeps what it keeps
        process.kill()
        process.wait()
        with pytest.raises(EnvFault, match="failed at total"):
            again.call("total", {"item": "pear"})
        again.close()
    finally:
        process.kill()
        process.wait()


def connected(server: Server) -> Connection:
    """A connection, once the server listens."""
    until = time.monotonic() + 60
    while True:
        try:
            return Connection(server)
        except EnvFault:
            if time.monotonic() > until:
                raise
            time.sleep(0.2)


def test_a_server_that_does_not_start_is_a_fault_that_says_why():
    with pytest.raises(EnvFault, match="its log ends with: no licence"):
        Connection(Server(command=[sys.executable, "-c", "import sys; sys.exit('no licence')"]))


@pytest.mark.parametrize("program", ["/no/such/program", "no-such-program", __file__])
def test_a_program_that_there_is_not_is_bad_input(program):
    with pytest.raises(BadInput, match=f"there is no program '{program}' to run"):
        Connection(Server(command=[program]))


SILENT = 'echo $$ > "$0"; exec sleep 100'
LOUD = 'echo $$ > "$0"; exec yes'


@pytest.mark.parametrize("code", [SILENT, LOUD], ids=["silent", "loud"])
def test_what_speaks_no_mcp_is_a_fault_after_its_time_and_is_gone(code, tmp_path):
    """In a process of its own: pytest takes the log that would else go to stderr."""
    pid = tmp_path / "pid"
    script = (
        "import sys, threading\n"
        "from palaestra.envs import EnvFault\n"
        "from palaestra.envs.tools.mcp_server import Connection, Server\n"
        "try: Connection(Server(command=['sh', '-c', *sys.argv[1:]], timeout_s=3))\n"
        "except EnvFault as error: print(error, [t.name for t in threading.enumerate()])\n"
    )
    ran = subprocess.run([sys.executable, "-c", script, code, str(pid)], capture_output=True, text=True, check=True)
    assert "did not start" in ran.stdout
    assert ran.stdout.endswith("['MainThread']\n")
    assert ran.stderr == ""
    assert not Path(f"/proc/{pid.read_text().strip()}").exists()


@pytest.mark.parametrize(
    "given", [{}, {"command": "python server.py"}, {"command": ["a"], "url": "http://a"}, {"url": "localhost:1"}]
)
def test_a_server_that_is_none_is_one_clear_line(given):
    with pytest.raises(BadInput, match="MCP server"):
        Server(**given)
