"""The conformance check: proof that an environment keeps the promises of `TextEnv`.

    from palaestra.envs.check import check
    report = check("palaestra/Bandit-v0", fast=True)
    assert report.passed, report

`palaestra check ENV` and the test over all registered environments are this function. `run.py` holds it,
`promises.py` has one function for each promise, `walk.py` walks episodes and compares them, `elsewhere.py` goes on in
another process, `leaks.py` counts what stays behind.
"""

from palaestra.envs.check.report import Report, Result
from palaestra.envs.check.run import check

__all__ = ["Report", "Result", "check"]
