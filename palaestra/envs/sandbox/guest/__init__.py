"""What runs as pid 1 inside every sandbox: standard library only, Python 3.8 and newer, the same for all backends.

The host packs these modules into one program (`palaestra.envs.sandbox.program`) and sends it in; nothing of Palaestra
needs to be in the sandbox. `frames` is what both sides speak and is the one module here that the host imports too.
"""
