"""Real MCP servers, over stdio and over streamable HTTP."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from palaestra.envs import BadInput, EnvFault, Fidelity, find, make
from palaestra.envs.tools import Goal, Server, mcp_server, register_mcp
from palaestra.envs.tools.mcp_server import Connection
from palaestra.envs.tools.schema import WrongArguments

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


@pytest.mark.parametrize(
    ("kind", "seen"),
    [
        ("page", "what is on it"),
        ("blob", "[resource file:///b image/png]"),
        ("link", "[resource_link a name file:///c]"),
        ("image", "[image image/png]"),
        ("structured", '{"answer": 42}'),
        ("both", "it is 42"),
    ],
)
def test_whatever_a_tool_answers_is_seen(env, kind, seen):
    env.reset(options={"task": env.tasks("train")[0]})
    assert env.step(f"show({kind!r})")[0] == seen


def test_a_tool_that_a_server_adds_can_be_called(env):
    env.reset(options={"task": env.tasks("train")[0]})
    before, _, _, _, info = env.step("new-total('apple')")
    assert before.startswith("There is no tool 'new-total'")
    assert not info["valid"]
    env.step("sell('apple', 3)")
    assert env.step("learn()")[0] == "learned"
    assert env.step("new-total('apple')")[0] == "3"
    assert ", new-total, finish." in env.step("newer()")[0]
    snapshot = env.snapshot()
    env.restore(snapshot)
    assert env.step("new-total('apple')")[0] == "3"


@pytest.mark.parametrize(
    ("schema", "further"),
    [
        ({"type": "object"}, True),
        ({"type": "object", "properties": {}}, False),
        ({"type": "object", "properties": {}, "additionalProperties": {}}, True),
        ({"type": "object", "properties": {}, "additionalProperties": True}, True),
        ({"type": "object", "additionalProperties": False}, False),
        ({"type": "object", "properties": {}, "patternProperties": {"a.*": {}}}, True),
        ({"type": "object", "properties": {"b": {}}, "required": ["b"], "anyOf": [{}]}, True),
    ],
)
def test_a_schema_says_whether_it_takes_arguments_that_it_does_not_name(schema, further):
    tool = mcp_server._tool("note", "", schema)
    given = {"a": 1, **dict.fromkeys(schema.get("required", ()), 2)}
    if further:
        assert tool.check(given) == given
    else:
        with pytest.raises(WrongArguments, match="'a' is none of its arguments"):
            tool.check(given)


def test_a_tool_called_finish_is_refused_in_one_line(clean_registry):
    script = (
        "from mcp.server.mcpserver import MCPServer\n"
        "server = MCPServer('a', log_level='CRITICAL')\n"
        "server.add_tool(lambda: 'over', name='finish')\n"
        "server.run('stdio')\n"
    )
    register_mcp("mine/Finish-v0", Server(command=[sys.executable, "-c", script]), goals=GOALS)
    env = make("mine/Finish-v0")
    for _ in range(2):
        with pytest.raises(BadInput, match="has a tool 'finish', which here ends an answer"):
            env.reset()
    env.close()


ODD = """
import json, sys
for line in sys.stdin:
    asked = json.loads(line)
    if "id" not in asked: continue
    answer = {"initialize": {"protocolVersion": asked.get("params", {}).get("protocolVersion"),
                             "capabilities": {"tools": {}}, "serverInfo": {"name": "odd", "version": "1"}},
              "tools/list": {"tools": [{"name": "t", "inputSchema": json.loads(sys.argv[1])}]}}.get(asked["method"])
    rest = {"result": answer} if answer else {"error": {"code": -32601, "message": "no"}}
    print(json.dumps({"jsonrpc": "2.0", "id": asked["id"], **rest}), flush=True)
"""


@pytest.mark.parametrize("schema", ["true", '{"properties": ["a"]}', '{"type": "object", "required": "alpha"}', "{}"])
def test_a_schema_that_is_none_is_a_fault_in_one_line(schema):
    with pytest.raises(EnvFault, match=r"did not start: ValidationError: wrong at 'tools\.0\.inputSchema") as raised:
        Connection(Server(command=[sys.executable, "-c", ODD, schema], timeout_s=30))
    assert "\n" not in str(raised.value)
    assert "https:" not in str(raised.value)


def test_a_server_over_http_is_an_environment():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen([*TILL, str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        connection = connected(Server(url=f"http://127.0.0.1:{port}/mcp", timeout_s=30))
        offered = {"sell", "total", "tax", "note", "refuse", "sold-of.all", "show", "learn", "die"}
        assert set(connection.tools) == offered
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
