"""Environments of tools: what an agent calls, a user's requests, and a judge of what came of it.

`calls.py` reads what agents write.
"""
