"""What runs inside the sandbox when a solution is judged. These files are sent there as text and need only Python 3.8.

Two processes: `trial.py` runs the tests, `solution.py` the agent's code; `wire.py` is how they talk. Nothing here is
imported by the rest of the package.
"""
