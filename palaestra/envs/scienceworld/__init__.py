"""Under construction."""


def register_all() -> None:
    """Register nothing yet."""
