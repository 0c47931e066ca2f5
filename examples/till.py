"""A tool environment of your own: typed functions over a state, and what a user wants of it.

Try it:  palaestra check mine/Till-v0 --load examples/till.py
"""

from dataclasses import dataclass, field

from palaestra.envs.tools import Goal, register_tools


@dataclass
class Till:
    stock: dict[str, int] = field(default_factory=lambda: {"apple": 3, "pear": 5})

    def sell(self, item: str, amount: int = 1) -> str:
        """Sell some of an item."""
        if amount > self.stock[item]:
            raise ValueError(f"there are only {self.stock[item]} of {item}")
        self.stock[item] -= amount
        return f"{self.stock[item]} left"


two = Goal("Sell two apples.", judge=lambda till: till.stock == {"apple": 1, "pear": 5}, solution=["sell('apple', 2)"])
left = Goal("How many pears are left once you sell one?", answer="4", solution=["sell('pear')", "finish('4')"])
register_tools("mine/Till-v0", [Till.sell], state=Till, goals={"train": {"two": two}, "test": {"left": left}})
