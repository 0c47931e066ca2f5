"""The command line: thin; it parses, calls and prints.

Every error that a person can mend is one line on stderr and exit status 2; a fault of Palaestra itself keeps its
traceback. `--json` prints JSON on stdout and nothing else: one document, or JSON Lines where a command takes long.
"""

from __future__ import annotations

import errno
import os
import sqlite3
import sys
from typing import cast

import typer

from palaestra.agents.plain import plain
from palaestra.cli import (
    carrying,
    comparing,
    data,
    environments,
    episodes,
    playing,
    sandbox,
    serving,
    showing,
    training,
    viewing,
    worldmodel,
)
from palaestra.cli.doctor import doctor
from palaestra.envs.errors import PalaestraError

app = typer.Typer(
    name="palaestra",
    help="A gym and a trainer for language agents: go back to any step of any episode and act on from there.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
environments.add_to(app)
playing.add_to(app)
episodes.add_to(app)
carrying.add_to(app)
showing.add_to(app)
training.add_to(app)
comparing.add_to(app)
data.add_to(app)
sandbox.add_to(app)
serving.add_to(app)
worldmodel.add_to(app)
viewing.add_to(app)
app.command()(doctor)

# Typer brings a Click of its own, so the class is taken from what Typer exports.
_UsageError = cast("type[Exception]", typer.BadParameter.__bases__[0])

_FULL = {errno.ENOSPC: "the disk is full; free some space", errno.EDQUOT: "the disk quota is used up; free some space"}
_CLOSED = {
    errno.EACCES: "may not be written",
    errno.EROFS: "is on a read-only file system",
    errno.EPERM: "is protected",
}


def main(args: list[str] | None = None) -> None:
    """Run the command line and exit: 0 done, 1 the result is negative, 2 bad input, 130 interrupted."""
    raise SystemExit(run(sys.argv[1:] if args is None else args))


def run(args: list[str]) -> int:
    """Run the command line and return the exit status."""
    try:
        status = app(args, standalone_mode=False)
        return status if isinstance(status, int) else 0
    except _UsageError as error:
        if type(error).__name__ == "NoArgsIsHelpError":
            print(_message(error))
            return 2
        context = getattr(error, "ctx", None)
        command = context.command_path if context else "palaestra"
        return _fail(f"{_message(error)} See `{command} --help`.")
    except typer.Exit as stop:
        return stop.exit_code
    except (typer.Abort, KeyboardInterrupt) as stop:
        print(plain(str(stop)) or "interrupted; what was committed is kept, the same command goes on", file=sys.stderr)
        return 130
    except PalaestraError as error:
        return _fail(str(error))
    except BrokenPipeError:  # who read our output has left, as `| head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except OSError as error:
        where = error.filename or "a file"
        if error.errno in _FULL:
            return _fail(f"{where}: {_FULL[error.errno]}, then run the same command again")
        if error.errno in _CLOSED:
            return _fail(f"{where} {_CLOSED[error.errno]}; choose another place")
        raise
    except sqlite3.DatabaseError as error:
        return _fail(f"episode store: {error}; `palaestra show STORE` checks it")


def _message(error: Exception) -> str:
    """Click composes the message of some errors only when it is asked for it."""
    compose = getattr(error, "format_message", None)
    return str(compose() if compose else error)


def _fail(line: str) -> int:
    print("error: " + plain(" ".join(line.split())), file=sys.stderr)
    return 2
