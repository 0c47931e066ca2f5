"""What all tests share."""

from __future__ import annotations

import os
import re
import signal
import threading
from collections.abc import Generator

import pytest

_NO_DATA = re.compile(r"the data set '\w+' is not here")


def pytest_configure() -> None:
    """Listen to Ctrl-C even where the tests run in the background.

    A shell starts background jobs with SIGINT ignored, their children inherit it, and the tests that send it would wait
    for nothing.
    """
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_finish(session: pytest.Session) -> None:
    """What shares an engine or a cluster stays on one worker; a pytest that xdist does not know parts it silently."""
    if getattr(session.config.option, "loadgroup", False):
        grouped = [item for item in session.items if item.get_closest_marker("xdist_group") is not None]
        if not all("@" in item.nodeid for item in grouped):
            raise pytest.UsageError(
                f"pytest {pytest.__version__} does not keep groups of tests together: see pyproject.toml"
            )


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Without the data sets (`palaestra data get`) their tests are skipped, but never in continuous integration."""
    report = yield
    missing = _NO_DATA.search(str(call.excinfo.value)) if report.failed and call.excinfo is not None else None
    if missing is not None and not os.environ.get("CI"):
        path, line, _ = item.location
        report.outcome = "skipped"
        report.longrepr = (path, line or 0, f"Skipped: {missing.group()}; palaestra data list")
    return report
