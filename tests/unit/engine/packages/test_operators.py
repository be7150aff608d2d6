"""All operators that this torch has: which of them a program may hold, and what those can do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from geoml.engine.packages import operators
from geoml.engine.packages.operator_checks import CHECKS

SNAPSHOT = Path(__file__).with_name("operators.txt")
ALL = {
    f"torch.ops.{schema.name.replace('::', '.')}.{schema.overload_name or 'default'}": schema
    for schema in torch._C._jit_get_all_schemas()
}
PASSING = {name: schema for name, schema in ALL.items() if name in operators.ALLOWED}


def test_what_passes_of_all_that_torch_has() -> None:
    """A torch with new operators, or with others under the same names, changes nothing here in silence."""
    lines = sorted(str(schema) for schema in PASSING.values())
    print("\n".join(lines))
    assert len(ALL) > 3000
    assert set(PASSING) == operators.ALLOWED
    assert lines == SNAPSHOT.read_text().splitlines()


def test_nothing_passes_that_reads_files_or_memory_or_draws() -> None:
    words = (
        "empty from_ file as_strided resize set_ storage unsafe_ rand normal bernoulli multinomial poisson exponential "
        "item _local_scalar nonzero sparse quantize fill_ copy_ put_ scatter_ data_ptr save load print dropout uniform"
    )
    odd = words.split()
    for name in operators.ALLOWED - {"torch.ops.aten._unsafe_view.default"}:
        assert not [word for word in odd if word in name], name
    assert {name.split(".")[2] for name in operators.ALLOWED | operators.IDENTITY | operators.SKIPPED} == {"aten"}
    assert len([word for word in odd if [name for name in ALL if word in name]]) > 20  # and torch has them


def test_what_passes_takes_no_objects_and_texts_of_a_list_only() -> None:
    for name, schema in PASSING.items():
        kinds = {a.name: str(a.type) for a in schema.arguments}
        assert not {k for k in kinds.values() if any(odd in k for odd in ("Generator", "Storage", "Any", "Dict", "__"))}
        for text in (n for n, kind in kinds.items() if "str" in kind):
            assert not operators.fits(name, text, "/etc/passwd"), name
            assert any(operators.fits(name, text, word) for word in ("none", "ij", "constant", "same", "floor")), name


def test_the_three_kinds_are_what_torch_says_they_are() -> None:
    assert not operators.VIEWS & operators.NEW
    for name, schema in PASSING.items():
        written = [a.name for a in schema.arguments if a.alias_info is not None and a.alias_info.is_write]
        shared = [a.name for a in schema.arguments if a.alias_info is not None]
        assert written == (["self"] if name in operators.IN_PLACE else []), name
        assert shared == written or name in operators.VIEWS, name
        tags = {tag.name for tag in operators.find(name).tags}
        assert "inplace_view" not in tags, name
        if tags & {"nondeterministic_seeded", "maybe_aliasing_or_mutating"}:  # by arguments that have one value
            assert {a.name for a in schema.arguments} & {"training", "dropout_p"}, name


def test_arguments_that_would_draw_or_change_a_weight_do_not_fit() -> None:
    aten = "torch.ops.aten."
    for name, argument, good, bad in (
        ("batch_norm.default", "training", False, True),
        ("instance_norm.default", "running_mean", None, operators),
        ("instance_norm.default", "use_input_stats", True, False),
        ("scaled_dot_product_attention.default", "dropout_p", 0.0, 0.1),
        ("_to_copy.default", "non_blocking", False, True),
        ("zeros.default", "pin_memory", False, True),
    ):
        assert operators.fits(aten + name, argument, good)
        assert not operators.fits(aten + name, argument, bad)


X = torch.ones(1, 4, 8, 8)


@pytest.mark.parametrize(
    ("name", "args"),
    [
        ("upsample_bilinear2d.default", (X, [16, 16], False, 2.0, 2.0)),
        ("upsample_nearest2d.default", (X, [12, 16], 1.5, None)),
        ("upsample_bicubic2d.default", (X, [7, 7], True, None, None)),
        ("scaled_dot_product_attention.default", (X, X, X, torch.zeros(8, 8))),
        ("_native_batch_norm_legit_no_training.default", (X, *[torch.ones(4)] * 4, 0.1, 1e-5)),
        ("_native_batch_norm_legit.no_stats", (X, None, torch.ones(4), True, 0.1, 1e-5)),
        ("native_group_norm.default", (X, torch.ones(4), None, 1, 4, 64, 2, 1e-5)),
        ("pad.default", (X, [-1, -1], "constant")),
        ("reflection_pad2d.default", (X, [1, 2, 3, 4])),
    ],
)
def test_shapes_that_agree_pass_the_checks(name: str, args: tuple[Any, ...]) -> None:
    target = f"torch.ops.aten.{name}"
    CHECKS[target](*args)
    operators.find(target)(*args)


@pytest.mark.parametrize(
    ("name", "args"),
    [
        ("upsample_bilinear2d.default", (X, [16, 16], False, 1.9, 2.0)),
        ("upsample_bilinear2d.default", (X, [16, 16], False, 2.0, float("nan"))),
        ("upsample_nearest2d.default", (X, [16, 16], None, -2.0)),
        ("scaled_dot_product_attention.default", (X, X, X[:, :, :4])),
        ("scaled_dot_product_attention.default", (X, X[:, :2], X[:, :2])),
        ("scaled_dot_product_attention.default", (X, X, X, torch.zeros(4, 8))),
        ("_native_batch_norm_legit_no_training.default", (X, *[torch.ones(3)] * 4, 0.1, 1e-5)),
        ("_native_batch_norm_legit.no_stats", (X, None, torch.ones(2), True, 0.1, 1e-5)),
        ("native_group_norm.default", (X, None, None, 1, 4, 65, 2, 1e-5)),
        ("native_group_norm.default", (X, torch.ones(3), None, 1, 4, 64, 2, 1e-5)),
        ("pad.default", (X, [-1, 1], "reflect")),
        ("replication_pad2d.default", (X, [-1, 1, 0, 0])),
    ],
)
def test_shapes_that_do_not_agree_are_refused_before_the_call(name: str, args: tuple[Any, ...]) -> None:
    with pytest.raises(ValueError, match=r"\d"):
        CHECKS[f"torch.ops.aten.{name}"](*args)


def test_numbers_of_sizes_stay_small() -> None:
    power = operators.NUMBERS["_operator.pow"]
    assert power(7, 2) == 49
    for base, exponent in ((10, 9), (2**40, 2), (float("nan"), 2)):
        with pytest.raises(ValueError, match="bound"):
            power(base, exponent)
    assert not {name for name in operators.NUMBERS if "shift" in name}
