"""What all tests share."""

from __future__ import annotations

import signal
import threading


def pytest_configure() -> None:
    """Listen to Ctrl-C even where the tests run in the background.

    A shell starts background jobs with SIGINT ignored, their children inherit it, and the tests that send it would wait
    for nothing.
    """
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.default_int_handler)
