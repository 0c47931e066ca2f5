"""Web pages in a real browser: MiniWoB++, WebShop's site, and tasks of your own in WebVoyager's form.

`env.BrowserEnv` is what they share. From below: `chromium` finds the browser, `thread` runs it, `gate` is the only way
out of it; `session` is an episode's context, `tree` what is seen, `actions` and `hands` what is done.
"""

from palaestra.envs.core import Fidelity
from palaestra.envs.registry import register

MINIWOB = "palaestra/MiniWoB-v0"
WEBSHOP_SITE = "palaestra/WebShopSite-v0"
WEB_TASKS = "palaestra/WebTasks-v0"

LIBRARY_TASKS = {"train": range(8), "test": range(8, 14)}
"""Split -> numbers of the tasks of the package's own library; a test compares them with its file."""


def register_all() -> None:
    """Register the families. Imports neither Playwright nor miniwob and starts no browser."""
    from palaestra.envs.browser.miniwob_pages import PAGES, PROTOCOLS, SEEDS

    register(
        MINIWOB,
        "palaestra.envs.browser.miniwob:MiniWoB",
        splits={split: tuple(f"{page}/{seed}" for seed in seeds for page in PAGES) for split, seeds in SEEDS.items()},
        max_steps=20,
        extra="web",
        requires=("playwright", "miniwob"),
        oracles={"scripted": "palaestra.envs.browser.miniwob_oracle:scripted"},
        family="miniwob",
        protocols=PROTOCOLS,
        summary="130 small web tasks (MiniWoB++) in a real browser: click, type, choose, drag",
        fidelity=Fidelity.REPLAY,
        not_ready="palaestra.envs.browser.chromium:why_no_browser",
    )
    register(
        WEBSHOP_SITE,
        "palaestra.envs.browser.webshop:WebShopSite",
        splits=_shop_tasks(),
        max_steps=30,
        extra="web",
        requires=("playwright", "starlette", "rapidfuzz"),
        oracles={"target": "palaestra.envs.browser.webshop:target"},
        family="webshopsite",
        summary="WebShop as a web site in a real browser; the small shop of the package, or catalogue=webshop",
        fidelity=Fidelity.REPLAY,
        not_ready="palaestra.envs.browser.chromium:why_no_browser",
    )
    register(
        WEB_TASKS,
        "palaestra.envs.browser.web_tasks:WebTasks",
        splits={split: tuple(f"Library--{number}" for number in numbers) for split, numbers in LIBRARY_TASKS.items()},
        max_steps=30,
        extra="web",
        requires=("playwright",),
        oracles={"gold": "palaestra.envs.browser.web_tasks:gold"},
        family="webtasks",
        summary="questions to answer on web sites: 14 of our own, or a file in WebVoyager's form (file=...)",
        fidelity=Fidelity.REPLAY,
        not_ready="palaestra.envs.browser.chromium:why_no_browser",
        answer_tokens=128,
    )


def _shop_tasks() -> dict[str, tuple[str, ...]]:
    from palaestra.envs.webshop import SMALL_GOALS
    from palaestra.envs.webshop.protocols import split_ranges

    return {
        split: tuple(f"small-synthetic/{number}" for number in numbers)
        for split, numbers in split_ranges(SMALL_GOALS).items()
    }
