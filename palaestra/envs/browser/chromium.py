"""Which Chromium is used: `find_chromium`, and `why_no_browser` for those who ask before they need it."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from functools import lru_cache
from importlib import util

from palaestra.envs.errors import BadInput, MissingExtra

PROGRAMS = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome-stable", "google-chrome")
"""In this order. The headless shell opens a page in a tenth of the time that the whole browser takes: it has no
window, and starts no process besides what a page needs."""

_INSTALL = "install it (Debian: apt-get install chromium-headless-shell) or set PALAESTRA_CHROMIUM to its program"

FLAGS = (
    # Names are resolved by the gate alone: nothing that passes by it finds a host.
    "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1",
    "--force-webrtc-ip-handling-policy=disable_non_proxied_udp",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-features=WebTransport,AutofillServerCommunication,OptimizationHints,MediaRouter",
    # A key that scrolls has then scrolled when the page is looked at next; else an animation runs in real time.
    "--disable-smooth-scrolling",
    "--no-first-run",
    "--mute-audio",
    "--font-render-hinting=none",
    "--force-device-scale-factor=1",
)


@dataclass(frozen=True)
class Chromium:
    """A browser on this machine.

    Attributes:
        path: its program.
        version: such as "Chromium 140.0.7339.80"; part of the fingerprint, since trees may differ between versions.
    """

    path: str
    version: str


def find_chromium() -> Chromium:
    """$PALAESTRA_CHROMIUM, else the first of `PROGRAMS` in the PATH.

    Raises:
        BadInput: there is none, or it does not run.
    """
    return _found(os.environ.get("PALAESTRA_CHROMIUM"), os.environ.get("PATH", ""))


@lru_cache(maxsize=8)
def _found(own: str | None, path: str) -> Chromium:
    program = shutil.which(own, path=path) if own else next(filter(None, (shutil.which(p) for p in PROGRAMS)), None)
    if program is None:
        what = f"PALAESTRA_CHROMIUM={own} is no program" if own else "no Chromium was found"
        raise BadInput(f"{what}; {_INSTALL}")
    try:
        done = subprocess.run([program, "--version"], capture_output=True, timeout=60, text=True, errors="replace")
        version = " ".join(done.stdout.split()[:2])
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BadInput(f"{program} does not run ({error}); {_INSTALL}") from None
    if done.returncode != 0:
        raise BadInput(f"{program} --version ended with status {done.returncode}; {_INSTALL}")
    return Chromium(program, version)


def why_no_browser() -> str | None:
    """Why pages cannot be opened here, in one line; None if they can."""
    try:
        require_playwright()
        find_chromium()
    except BadInput as error:
        return str(error)
    return None


def require_playwright() -> None:
    """Raises MissingExtra where Playwright is not installed."""
    if util.find_spec("playwright") is None:
        raise MissingExtra("Playwright (web pages)", "web")
