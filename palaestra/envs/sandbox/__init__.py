"""Sandboxes: places where code that nobody vouches for runs, fast, with nothing getting out."""
