"""Web pages in a real browser: MiniWoB++, WebShop's site, and tasks of your own in WebVoyager's form.

`env.BrowserEnv` is what they share. From below: `chromium` finds the browser, `thread` runs it, `gate` is the only way
out of it; `session` is an episode's context, `tree` what is seen, `actions` and `hands` what is done.
"""

from palaestra.envs.core import Fidelity
from palaestra.envs.registry import register

MINIWOB = "palaestra/MiniWoB-v0"


def register_all() -> None:
    """Register the families. Imports neither Playwright nor miniwob and starts no browser."""
    from palaestra.envs.browser.miniwob_pages import PAGES, SEEDS

    register(
        MINIWOB,
        "palaestra.envs.browser.miniwob:MiniWoB",
        splits={split: tuple(f"{page}/{seed}" for seed in seeds for page in PAGES) for split, seeds in SEEDS.items()},
        max_steps=20,
        extra="web",
        requires=("playwright", "miniwob"),
        family="miniwob",
        summary="130 small web tasks (MiniWoB++) in a real browser: click, type, choose, drag",
        fidelity=Fidelity.REPLAY,
        not_ready="palaestra.envs.browser.chromium:why_no_browser",
    )
