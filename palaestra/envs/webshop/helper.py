"""A process that helps to index a large catalogue: a `Stocker` that is asked over pipes.

It is started by the interpreter and with the module path of its parent, knows nothing but what it is sent, and ends
when its parent does.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import subprocess
import sys
import traceback
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar, cast

from palaestra.envs.errors import BadInput, EnvFault, PalaestraError
from palaestra.envs.webshop.stocking import Given, Made, Runs, Stocker

Answer = TypeVar("Answer")

_START = "import sys; sys.path[:] = {path!r}; from palaestra.envs.webshop.helper import help_out; help_out()"


class Helper:
    """A `Stocker` in a process of its own. What it is asked for is done one after another and told later.

    What is raised there is raised here: BadInput, OSError, or RuntimeError with the traceback of anything else. So is
    EnvFault, when the process ends before its time.

    Args:
        folder: where it writes.

    Raises:
        OSError, EnvFault: there can be no such process here.
    """

    def __init__(self, folder: Path) -> None:
        if not sys.executable:
            raise OSError("it is not known which interpreter this is")
        self._process = subprocess.Popen(
            [sys.executable, "-c", _START.format(path=sys.path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is for the parent, which then ends its helpers
        )
        self._thread = ThreadPoolExecutor(1)
        try:
            self._ask(folder)
        except BaseException:
            self.close()
            raise

    def make(self, given: Sequence[Given]) -> Future[Made]:
        """As `Stocker.make`."""
        return self._thread.submit(lambda: cast(Made, self._ask(given)))

    def finish(self) -> Future[Runs]:
        """As `Stocker.finish`; then the process ends."""
        return self._thread.submit(lambda: cast(Runs, self._ask(None)))

    def close(self) -> None:
        """End the process, whatever it does."""
        self._process.kill()
        self._thread.shutdown(cancel_futures=True)
        for pipe in (self._process.stdin, self._process.stdout):
            with contextlib.suppress(OSError):
                if pipe is not None:
                    pipe.close()
        self._process.wait()

    def _ask(self, what: Path | Sequence[Given] | None) -> object:
        asked, answers = self._process.stdin, self._process.stdout
        assert asked is not None
        assert answers is not None
        try:
            pickle.dump(what, asked, pickle.HIGHEST_PROTOCOL)
            asked.flush()
            answer = pickle.load(answers)
        except (EOFError, BrokenPipeError, pickle.UnpicklingError):
            raise EnvFault("a process that helped to index a catalogue ended before its time; start again") from None
        if isinstance(answer, Exception):
            raise answer
        return answer


def help_out() -> None:
    """What the process does: takes a folder, then products until there are no more, and tells what it made."""
    asked, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever is printed must not come between the answers
    stocker: Stocker | None = None
    with contextlib.suppress(EOFError, BrokenPipeError):  # the parent is gone
        while True:
            what = pickle.load(asked)
            answer: object = None
            try:
                if isinstance(what, Path):
                    stocker = Stocker(what)
                elif stocker is not None:
                    answer = stocker.finish() if what is None else stocker.make(what)
            except PalaestraError as error:
                answer = BadInput(str(error))
            except OSError as error:
                answer = OSError(*error.args)
            except Exception:
                answer = RuntimeError(traceback.format_exc())
            pickle.dump(answer, answers, pickle.HIGHEST_PROTOCOL)
            answers.flush()
            if what is None:
                return
