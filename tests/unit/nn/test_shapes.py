"""Shapes of tensors stand in the annotations of networks and their parts, and are checked at every call in tests."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
import torch
from jaxtyping import TypeCheckError

from geoml.nn.losses import cross_entropy
from geoml.nn.padding import padded

ROOT = Path(__file__).parents[3] / "geoml"
FREE = re.compile(r"Callable\[\[Tensor\], Tensor\]|(Mapping|dict)\[str, Tensor\]")
"""Functions, and weights by name."""


def bare(path: Path) -> list[str]:
    """Public functions and methods of a file with a tensor of any shape."""
    out = []
    body = ast.parse(path.read_text(encoding="utf-8")).body
    for node in [*body, *(part for top in body if isinstance(top, ast.ClassDef) for part in top.body)]:
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
            hints = [ast.unparse(a) for a in (*(arg.annotation for arg in node.args.args), node.returns) if a]
            if any(re.search(r"(?<![\w\[])Tensor\b|(?<!\w)(tuple|list)\[Tensor", FREE.sub("", h)) for h in hints):
                out.append(f"{path.name}: {node.name}")
    return out


@pytest.mark.parametrize("folder", ["models", "nn"])
def test_every_tensor_of_a_public_function_has_a_shape(folder: str) -> None:
    files = sorted((ROOT / folder).rglob("*.py"))
    assert files
    assert [name for path in files for name in bare(path)] == []


def test_shapes_that_disagree_are_an_error() -> None:
    logits, target = torch.zeros(2, 3, 8, 8), torch.zeros(2, 8, 8, dtype=torch.int64)
    assert cross_entropy(logits, target).shape == ()
    with pytest.raises(TypeCheckError, match="target"):
        cross_entropy(logits, target[:, :4])
    with pytest.raises(TypeCheckError, match="target"):
        cross_entropy(logits, target.float())
    with pytest.raises(TypeCheckError, match="return"):
        padded(lambda x: x[..., ::2, ::2], torch.zeros(1, 2, 8, 8), 8)
