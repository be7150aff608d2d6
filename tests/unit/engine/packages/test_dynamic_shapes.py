"""Sizes of a program's input: read as lines of one free number, and never evaluated."""

from __future__ import annotations

import time
from typing import Any

import pytest

from geoml.engine.packages.dynamic_shapes import Axis, axes
from geoml.errors import ModelError

N = {"as_int": 2}


def size(text: str) -> dict[str, Any]:
    return {"as_expr": {"expr_str": text, "hint": {"as_int": 64}}}


@pytest.mark.parametrize(
    ("text", "step", "offset"),
    [
        ("Symbol('s7', positive=True, integer=True)", 1, 0),
        ("Mul(Integer(32), Symbol('s7', integer=True))", 32, 0),
        ("Add(Mul(Integer(2), Symbol('s7')), Integer(-1))", 2, -1),
        ("2*s7 + 1", 2, 1),
        ("3 + s7*4 - 1", 4, 2),
        ("-(-s7)", 1, 0),
    ],
)
def test_lines(text: str, step: int, offset: int) -> None:
    ranges = {"s7": {"min_val": 2, "max_val": 10}, "Eq(s7, 3)": {"min_val": None, "max_val": None}}
    found = axes([N, N, size(text), N], ranges)[2]
    assert found == Axis(max(2 * step + offset, 1), 10 * step + offset, step, offset, "s7")


def test_bounds_of_the_line_itself_count_too() -> None:
    ranges = {"s7": {"min_val": 1, "max_val": 2**62}, "32*s7": {"min_val": 64, "max_val": 2048}}
    found = axes([N, N, size("Mul(Integer(32), Symbol('s7'))"), N], ranges)[2]
    assert (found.least, found.most) == (64, 2048)


@pytest.mark.parametrize(
    "text",
    [
        "s7*s8",
        "s7**2",
        "Pow(Symbol('s7'), Integer(2))",
        "FloorDiv(Symbol('s7'), Integer(2))",
        "u7",
        "s7.real",
        "Symbol('s7')('x')",
        "__import__('os')",
        "open('a')",
        "0*s7",
        "-s7",
        "s7*99999999999",
        "9**9**9**9*s7",
        "(" * 400 + "s7" + ")" * 400,
        "-" * 901 + "s7",
        "s7+" * 400 + "s7",
        "",
        "s7; s7",
    ],
)
def test_anything_else_is_refused_at_once(text: str) -> None:
    start = time.process_time()
    with pytest.raises(ModelError):
        axes([N, N, size(text), N], {text: {"min_val": 1, "max_val": 2}})
    assert time.process_time() - start < 1


@pytest.mark.parametrize("number", [True, 2**31, 2**70, -(2**70), "4", None, 1.5])
def test_sizes_and_bounds_that_are_no_numbers(number: Any) -> None:
    with pytest.raises((ModelError, TypeError)):
        axes([N, N, {"as_int": number}, N], {})
    with pytest.raises(ModelError):
        axes([N, N, N], {})
