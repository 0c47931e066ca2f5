"""What is seen of a page and done on it: the tree, tabs, messages, frames, lists, dates, loading, pictures."""

from __future__ import annotations

import re
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from palaestra.envs import BadInput, EnvFault, Task, TextEnv, make
from palaestra.envs.browser.context import MOST_NOTES, MOST_TABS
from palaestra.envs.browser.env import LONGEST_KEPT, screenshot_name
from palaestra.envs.browser.thread import browsers

PAGE = """<!DOCTYPE html><html><head><title>All</title></head><body style="height: 3000px">
<h1>Heading <b>bold</b></h1><p>Words.</p><div>\ud83e\udd89 &lt;owl&gt;</div>
<button onclick="alert('Hello')">Tell</button><button disabled>Off</button><button style="display:none">Hidden</button>
<a href="second.html" target="_blank">New tab</a><a href="second.html">Second</a>
<label>Name <input id="name" value="old"></label><label>Day <input type="date" id="day"></label>
<label><input type="checkbox" id="box"> Box</label>
<select id="list"><option>One</option><option>Two</option></select>
<div contenteditable="true" role="textbox" aria-label="Free">free</div>
<iframe srcdoc="<button onclick='this.textContent = &quot;pressed&quot;'>Inside</button>"></iframe>
<div style="position: relative"><button id="under" onclick="document.title='under'">Under</button>
<div style="position: absolute; left: 0; top: 0; width: 30px; height: 100%" onclick="document.title='no'"></div></div>
<script>document.body.append(String.fromCharCode(0xd800) + "half")</script></body></html>"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "index.html").write_text(PAGE, encoding="utf-8", errors="surrogatepass")
    (tmp_path / "second.html").write_text("<title>Second</title><h1>Second page</h1>")
    (tmp_path / "tasks.jsonl").write_text('{"id": "a", "ques": "?", "web": "http://site.test/", "answer": "x"}\n')
    return tmp_path


@pytest.fixture
def env(folder: Path) -> Iterator[TextEnv[Any]]:
    made = make("webtasks", file=str(folder / "tasks.jsonl"), site=str(folder), screenshots=str(folder / "shots"))
    made.reset(options={"task": "a"})
    yield made
    made.close()


def find(env: TextEnv[Any], name: str, role: str = "") -> int:
    return next(each.number for each in env.state.elements if each.name == name and each.role.startswith(role))


def test_a_tree_shows_what_is_there(env: TextEnv[Any]) -> None:
    seen = env.render()
    assert seen is not None
    lines = [line.strip().partition("] ")[2] for line in seen.splitlines()]
    for line in (
        *("heading 'Heading bold'", "StaticText 'Words.'", "button 'Off' disabled", "textbox 'Name' value: 'old'"),
        *("checkbox 'Box' checked: false", "button 'Inside'", "textbox 'Free' value: 'free'"),
    ):
        assert line in lines
    assert not [line for line in lines if "Hidden" in line]
    assert [each.number for each in env.state.elements] == list(range(1, len(env.state.elements) + 1))


def test_fields_lists_and_boxes_take_what_they_are_given(env: TextEnv[Any]) -> None:
    for action, script, wanted in (
        (f"type [{find(env, 'Name')}] [new [words]] [0]", "document.getElementById('name').value", "new [words]"),
        (f"type [{find(env, 'Name')}] [] [0]", "document.getElementById('name').value", ""),
        (f"type [{find(env, 'Day')}] [2026-05-14]", "document.getElementById('day').value", "2026-05-14"),
        (f"click [{find(env, 'Box')}]", "document.getElementById('box').checked", True),
        (f"select [{find(env, 'Two') - 2}] [two]", "document.getElementById('list').value", "Two"),
        (f"click [{find(env, 'One')}]", "document.getElementById('list').value", "One"),
        (f"type [{find(env, 'Free')}] [typed] [0]", "document.querySelector('[contenteditable]').textContent", "typed"),
    ):
        info = env.step(action)[4]
        assert info["valid"], action
        assert env.evaluate(script) == wanted, action  # type: ignore[attr-defined]


def test_what_cannot_be_done_is_told_and_costs_a_step(env: TextEnv[Any]) -> None:
    for action, said in (
        ("click [999]", "There is no element [999] here"),
        (f"type [{find(env, 'Tell')}] [x]", "is no field to type into"),
        (f"type [{find(env, 'Day')}] [tomorrow]", "takes dates as YYYY-MM-DD"),
        (f"select [{find(env, 'Two') - 2}] [Three]", "it has no such option"),
        (f"select [{find(env, 'Tell')}] [Three]", "no list of options"),
        ("click [9000,5]", "outside of the window"),
        ("back", "no page to go back to"),
    ):
        observation, _, over, _, info = env.step(action)
        assert said in observation.splitlines()[0]
        assert not info["valid"]
        assert not over


def test_a_message_is_answered_and_told(env: TextEnv[Any]) -> None:
    assert "The page showed a message, which was accepted: 'Hello'" in env.step(f"click [{find(env, 'Tell')}]")[0]


def test_many_messages_of_a_page_fill_no_observation_and_all_are_counted(folder: Path) -> None:
    script = "for (let i = 0; i < 60; i++) alert('\\u{10ffff}'.repeat(450))"
    (folder / "index.html").write_text(f'<button onclick="{script}">Pop</button>')
    env = make("webtasks", file=str(folder / "tasks.jsonl"), site=str(folder))
    env.reset(options={"task": "a"})
    counted, action = 0, f"click [{find(env, 'Pop')}]"
    while counted < 60:  # the episode's limit of steps ends it, if they do not all come
        observation = env.step(action)[0]
        told = observation.count("The page showed a message")
        assert told <= MOST_NOTES
        assert len(observation) < MOST_NOTES * 600 + 500
        more = re.search(r"And (\d+) more messages or tabs.", observation)
        counted += told + (int(more[1]) if more else 0)
        action = "wait"
    assert counted == 60
    env.close()


def test_a_click_goes_to_a_part_that_is_not_covered(env: TextEnv[Any]) -> None:
    assert env.step(f"click [{find(env, 'Under')}]")[4]["title"] == "under"


def test_what_is_inside_of_a_frame_can_be_clicked(env: TextEnv[Any]) -> None:
    assert "button 'pressed'" in env.step(f"click [{find(env, 'Inside')}]")[0]


def test_a_new_tab_is_shown_and_back_leaves_it(env: TextEnv[Any]) -> None:
    observation = env.step(f"click [{find(env, 'New tab')}]")[0]
    assert "A new tab was opened" in observation
    assert "Second page" in observation
    assert "heading 'Heading bold'" in env.step("back")[0]


def test_back_and_restart_lead_where_they_say(env: TextEnv[Any]) -> None:
    assert "Second page" in env.step(f"click [{find(env, 'Second')}]")[0]
    assert "heading 'Heading bold'" in env.step("back")[0]
    env.step(f"click [{find(env, 'Second')}]")
    assert "heading 'Heading bold'" in env.step("restart")[0]


def test_scrolling_says_when_it_is_at_the_end(env: TextEnv[Any]) -> None:
    assert "does not scroll further up" in env.step("scroll [up]")[0]
    assert "does not scroll further" not in env.step("scroll [down]")[0]
    assert env.evaluate("scrollY") > 0  # type: ignore[attr-defined]


def test_every_step_has_its_picture_and_forks_share_them(env: TextEnv[Any], folder: Path) -> None:
    task: Task = env.task
    paths: list[tuple[str, ...]] = [()]
    for action in (f"click [{find(env, 'Second')}]", "nonsense", "back"):
        info = env.step(action)[4]
        paths.append((*paths[-1], action))
        assert Path(info["screenshot"]).read_bytes().startswith(b"\x89PNG")
    kept = {file.name for file in (folder / "shots").iterdir()}
    assert {screenshot_name(task, path) for path in paths} <= kept
    snapshot = env.snapshot()
    env.reset(options={"task": "a"})
    env.restore(snapshot)
    assert {file.name for file in (folder / "shots").iterdir()} == kept


class Silent:
    """A server that accepts and never answers."""

    def __init__(self) -> None:
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.held: list[socket.socket] = []
        self.host = f"127.0.0.1:{self.listening.getsockname()[1]}"
        threading.Thread(target=self._hold, daemon=True).start()

    def _hold(self) -> None:
        while True:
            try:
                self.held.append(self.listening.accept()[0])
            except OSError:
                return

    def close(self) -> None:
        self.listening.close()
        for each in self.held:
            each.close()


@pytest.fixture
def silent() -> Iterator[Silent]:
    made = Silent()
    yield made
    made.close()


def test_a_first_page_that_never_loads_is_a_fault_in_one_line(tmp_path: Path, silent: Silent) -> None:
    (tmp_path / "t.jsonl").write_text(f'{{"id": "a", "ques": "?", "web": "http://{silent.host}/", "answer": "x"}}\n')
    env = make("webtasks", file=str(tmp_path / "t.jsonl"), load_seconds=1)
    with pytest.raises(EnvFault, match=rf"^the page http://{silent.host}/ did not load: it did not answer within 1 s$"):
        env.reset(options={"task": "a"})
    env.close()


def test_a_later_page_that_never_loads_is_told_to_the_agent(folder: Path, silent: Silent) -> None:
    (folder / "index.html").write_text(f"<a href='http://{silent.host}/'>slow</a>")
    env = make("webtasks", file=str(folder / "tasks.jsonl"), site=str(folder), hosts=silent.host, load_seconds=1)
    env.reset(options={"task": "a"})
    observation, _, over, _, _ = env.step("click [2]")
    assert observation.startswith("The page did not load within 1 s.")
    assert not over
    assert f"http://{silent.host}/ could not be opened" in env.step(f"goto [http://{silent.host}/]")[0]
    assert "link 'slow'" in env.step("restart")[0]
    env.close()


@pytest.mark.parametrize("form", ["type [{}] [words] [1]", "press [Enter]"])
def test_a_key_that_leads_to_a_page_that_never_loads_is_as_a_click_that_does(
    folder: Path, silent: Silent, form: str
) -> None:
    (folder / "index.html").write_text(
        f"<form action='http://{silent.host}/'><input aria-label='Words' autofocus></form>"
    )
    env = make("webtasks", file=str(folder / "tasks.jsonl"), site=str(folder), hosts=silent.host, load_seconds=1)
    env.reset(options={"task": "a"})
    observation, _, over, _, _ = env.step(form.format(find(env, "Words")))
    assert observation.startswith("The page did not load within 1 s.")
    assert not over
    assert "textbox 'Words'" in env.step("restart")[0]
    env.close()


LOOPS = {
    "once": "<h1>Loop</h1><script>while (true) {}</script>",
    "again": "<h1>Loop</h1><script>setInterval(() => { while (true) {} }, 0)</script>",
}


@pytest.mark.parametrize("kind", LOOPS)
@pytest.mark.parametrize("how", ["goto [http://site.test/loop.html]", "click [2]"])
def test_a_later_page_that_hangs_is_told_to_the_agent_and_the_episode_goes_on(
    folder: Path, kind: str, how: str
) -> None:
    (folder / "index.html").write_text("<a href='loop.html'>loop</a>")
    (folder / "loop.html").write_text(LOOPS[kind])
    env = make("webtasks", file=str(folder / "tasks.jsonl"), site=str(folder), load_seconds=1)
    env.reset(options={"task": "a"})
    observation, _, over, _, _ = env.step(how)
    assert not over
    said = "the script that kept it busy was ended" if kind == "once" else "its tab was closed"
    assert said in observation
    assert ("heading 'Loop'" in observation) == (kind == "once")
    assert "link 'loop'" in env.step("restart")[0]
    env.close()


def test_a_page_that_hangs_as_its_picture_is_taken_has_none_and_the_agent_is_told(folder: Path) -> None:
    (folder / "index.html").write_text("<button onclick='setTimeout(() => { while (true) {} }, 1000)'>Go</button>")
    shots = str(folder / "shots")
    env = make("webtasks", file=str(folder / "tasks.jsonl"), site=str(folder), load_seconds=1, screenshots=shots)
    env.reset(options={"task": "a"})
    env.step(f"click [{find(env, 'Go')}]")
    time.sleep(1.5)  # now it hangs, and an action that is not understood looks at nothing but takes a picture
    info = env.step("nonsense")[4]
    assert "screenshot" not in info
    observation, _, over, _, info = env.step("wait")
    assert "the script that kept it busy was ended" in observation
    assert not over
    assert Path(info["screenshot"]).exists()
    env.close()


def test_a_first_page_that_hangs_is_a_fault(folder: Path) -> None:
    (folder / "index.html").write_text(LOOPS["again"])
    env = make("webtasks", file=str(folder / "tasks.jsonl"), site=str(folder), load_seconds=1)
    with pytest.raises(EnvFault, match=r"hangs: it did not answer within 1 s|did not load"):
        env.reset(options={"task": "a"})
    env.close()


def test_several_episodes_run_at_once_and_see_only_their_own() -> None:
    def episode(number: int) -> str:
        env = make("webtasks")
        env.reset(options={"task": f"Library--{number}"})
        env.step(f"click [{3 + number}]")
        title = str(env.step("wait")[4]["title"])
        env.close()
        return title

    with ThreadPoolExecutor(4) as threads:
        titles = list(threads.map(episode, range(1, 5)))
    assert [title.split(" -")[0] for title in titles] == ["Opening hours", "Catalogue", "Events", "Rooms"]


def test_a_page_that_opens_many_tabs_at_once_keeps_five(folder: Path) -> None:
    (folder / "index.html").write_text(
        "<button onclick=\"for (let i = 0; i < 30; i++) window.open('about:blank')\">Tabs</button>"
    )
    env: Any = make("webtasks", file=str(folder / "tasks.jsonl"), site=str(folder))
    env.reset(options={"task": "a"})
    assert "A page wanted to open another tab" in env.step(f"click [{find(env, 'Tabs')}]")[0]
    env.step("wait")
    assert len(env._session._tabs) == MOST_TABS
    env.close()


@pytest.mark.parametrize(
    "again",
    ["<meta http-equiv='refresh' content='0'>", "<script>setTimeout(() => location.reload(), 5)</script>"],
    ids=["refresh", "reload"],
)
def test_a_later_page_that_always_replaces_itself_is_no_fault(folder: Path, again: str) -> None:
    (folder / "index.html").write_text("<h1>First</h1>")
    (folder / "again.html").write_text(f"{again}<h1>Again</h1><input aria-label='Words'>")
    env = make("webtasks", file=str(folder / "tasks.jsonl"), site=str(folder), load_seconds=2)
    env.reset(options={"task": "a"})
    for action in ("goto [http://site.test/again.html]", "wait", "scroll [down]", "press [Control+c]", "wait", "wait"):
        observation, _, over, _, _ = env.step(action)
        assert "URL: http://site.test/again.html" in observation
        assert not over
    for _ in range(5):  # one that is just being replaced may cut the way back off
        observation = env.step("restart")[0]
        if "heading 'First'" in observation:
            break
    assert "heading 'First'" in observation
    env.close()


def test_a_page_that_breaks_what_an_action_asks_it_for_is_told_to_the_agent(folder: Path) -> None:
    (folder / "index.html").write_text("<h1>Own</h1><script>document.getSelection = () => { throw 'mine' }</script>")
    env = make("webtasks", file=str(folder / "tasks.jsonl"), site=str(folder))
    env.reset(options={"task": "a"})
    observation, _, over, _, info = env.step("press [Control+c]")
    assert observation.startswith("That cannot be done here: ")
    assert not info["valid"]
    assert not over
    env.close()


def test_an_address_and_a_title_without_end_are_cut_off_in_the_details(folder: Path) -> None:
    script = "history.pushState(0, '', '?' + 'x'.repeat(1500000)); document.title = 'y'.repeat(1500000)"
    (folder / "index.html").write_text(f'<button onclick="{script}">Long</button>')
    env = make("webtasks", file=str(folder / "tasks.jsonl"), site=str(folder))
    env.reset(options={"task": "a"})
    info = env.step(f"click [{find(env, 'Long')}]")[4]
    assert info["url"].startswith("http://site.test/?xxx")
    assert len(info["url"]) == len(info["title"]) == LONGEST_KEPT
    env.close()


NOISE = """<script>
const frame = document.createElement('iframe');
document.documentElement.append(frame);
frame.contentWindow.console.log('of a frame that has just been made');
console.log('one');
console.context('other').log('two');
window.seen = [];
onerror = message => { seen.push(message); };
setTimeout(() => { throw new Error('three'); });
Promise.reject(new Error('four'));
</script><iframe srcdoc="<script>console.log('five')</script>"></iframe>
<button onclick="for (let i = 0; i < 300000; i++) console.log('x'.repeat(1000)); document.title = 'done'">Noise</button>
<button onclick="window.open('about:blank').console.log('six')">Tab</button>"""

BROKEN = """<script>
const taken = [];
Object.prototype.get = target => { taken.push(target); };
console.log.name;
delete Object.prototype.get;
for (const log of taken) log('one');
Event.prototype.preventDefault = () => {};
Reflect.apply = Function.prototype.call = Function.prototype.apply = () => {};
EventTarget.prototype.addEventListener = () => {};
Array.prototype[Symbol.iterator] = Object.getOwnPropertyDescriptor = () => { throw new Error('two'); };
Object.defineProperty(Document.prototype, 'defaultView', {get: () => null});
reportError('three');
setTimeout(() => {
  document.open();
  reportError('four');
  document.close();
  document.writeln('<button>Written</button><script>reportError("five")<\\/script>');
  document.close();
  setTimeout(() => { document.title = 'done'; throw new Error('six'); });
});
</script>"""


def heard(env: Any) -> list[object]:
    """What the driver heard from the pages of an episode."""

    async def told() -> list[object]:
        tabs = env._session._tabs
        messages = [(each.text for each in await tab.page.console_messages(filter="all")) for tab in tabs]
        errors = [await tab.page.page_errors(filter="all") for tab in tabs]
        return [each for some in (*messages, *errors) for each in some]

    return browsers().call(told(), 60, "the driver")


def test_what_a_page_writes_to_its_console_leaves_neither_it_nor_the_browser(folder: Path) -> None:
    (folder / "index.html").write_text(NOISE)
    env: Any = make("webtasks", file=str(folder / "tasks.jsonl"), site=str(folder))
    env.reset(options={"task": "a"})
    assert env.evaluate("seen") == ["Uncaught Error: three"]  # the page's own handler still hears of it
    env.step(f"click [{find(env, 'Tab')}]")
    assert len(env._session._tabs) == 2
    assert heard(env) == []
    env.close()


def test_a_page_that_replaces_what_the_browser_has_is_kept_silent_as_well(folder: Path) -> None:
    (folder / "index.html").write_text(BROKEN)
    env: Any = make("webtasks", file=str(folder / "tasks.jsonl"), site=str(folder))
    assert "button 'Written'" in env.reset(options={"task": "a"})[0]
    assert env.step("wait [1]")[4]["title"] == "done"
    assert heard(env) == []
    env.close()


def test_a_page_that_writes_without_end_to_its_console_does_not_hold_up_another(folder: Path) -> None:
    (folder / "index.html").write_text(NOISE)
    noisy, quiet = (
        make("webtasks", file=str(folder / "tasks.jsonl"), site=str(folder), load_seconds=10) for _ in range(2)
    )
    noisy.reset(options={"task": "a"})
    quiet.reset(options={"task": "a"})
    with ThreadPoolExecutor(1) as threads:
        loud = threads.submit(noisy.step, f"click [{find(noisy, 'Noise')}]")
        for _ in range(10):
            assert quiet.step("wait")[0].startswith("URL: ")  # neither late nor a fault
    assert loud.result()[0].startswith("URL: ")
    assert loud.result()[4]["title"] == "done"
    noisy.close()
    quiet.close()


@pytest.mark.parametrize(
    ("setting", "value", "said"),
    [("load_seconds", 0, "load_seconds must be"), ("screenshots", "/proc/none", "cannot be written to"),
     ("site", "/no/such", "is no folder"), ("hosts", "a b", "is no host to allow"), ("judge", "nobody", "neither")],
)  # fmt: skip
def test_a_setting_that_cannot_be_used_is_refused_in_one_line(setting: str, value: object, said: str) -> None:
    with pytest.raises(BadInput, match=said):
        make("webtasks", **{setting: value})
