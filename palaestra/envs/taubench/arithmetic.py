"""The tool `calculate`: numbers, + - * /, parentheses and blanks. Nothing is evaluated by Python."""

from __future__ import annotations

import ast
import math

from palaestra.envs.taubench.world import Refused

LONGEST = 1_000
"""Characters of an expression."""

_ALLOWED = frozenset("0123456789+-*/(). ")


def calculate(expression: str) -> str:
    """The value, rounded to cents, as a decimal number: `2 + 2` is 4.0. Raises Refused for what is no expression."""
    if len(expression) > LONGEST:
        raise Refused(f"the expression has more than {LONGEST} characters")
    if not _ALLOWED.issuperset(expression):
        raise Refused("an expression holds numbers, + - * /, parentheses and blanks only")
    try:
        value = float(_value(ast.parse(expression.strip(), mode="eval").body))
    except ZeroDivisionError:
        raise Refused("division by zero") from None
    except (SyntaxError, ValueError, OverflowError, RecursionError, MemoryError):
        raise Refused("that is no expression") from None
    if not math.isfinite(value):
        raise Refused("the result is too large")
    return str(round(value, 2))


def _value(node: ast.expr) -> int | float:
    match node:
        case ast.Constant(value=int() | float() as number):
            return number
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -_value(operand)
        case ast.UnaryOp(op=ast.UAdd(), operand=operand):
            return _value(operand)
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return _value(left) + _value(right)
        case ast.BinOp(left=left, op=ast.Sub(), right=right):
            return _value(left) - _value(right)
        case ast.BinOp(left=left, op=ast.Mult(), right=right):
            return _value(left) * _value(right)
        case ast.BinOp(left=left, op=ast.Div(), right=right):
            return _value(left) / _value(right)
    raise ValueError(ast.dump(node))
