"""Texts that an environment may say: one that wants to run in a page, and one that is huge."""

HOSTILE = "<script>document.title='owned';fetch('/owned')</script><img src=x onerror=\"document.title='owned'\">\ud800"
HUGE = "A wall of text. " * 100_000
