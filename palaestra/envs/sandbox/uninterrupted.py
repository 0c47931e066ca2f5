"""Work that a signal must not cut in two, such as a start of processes of which nobody would know then.

Handlers of signals run in the main thread only, and what they raise (KeyboardInterrupt, mostly) comes up in whatever it
does just then. So the work is done in another thread while the main thread waits for it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future

_PATIENCE = 10.0  # seconds that somebody who interrupts waits until the work has ended and is undone


def uninterrupted(work: Callable[[], None], undo: Callable[[], None]) -> None:
    """Do the work to its end, whatever is raised here meanwhile.

    Args:
        work: what it raises is raised here.
        undo: called once the work has ended, where anything was raised, by it or here.
    """
    if threading.current_thread() is not threading.main_thread():
        try:
            return work()
        except BaseException:
            undo()
            raise
    ended: Future[None] = Future()

    def run() -> None:
        try:
            work()
        except BaseException as error:
            ended.set_exception(error)
        else:
            ended.set_result(None)

    thread = threading.Thread(target=run, daemon=True, name="sandbox start")
    try:
        thread.start()
        return ended.result()
    except BaseException:
        if thread.ident is not None:
            ended.add_done_callback(lambda _: undo())  # at once, or by the thread, if need be after we have gone on
            thread.join(_PATIENCE)
        raise
