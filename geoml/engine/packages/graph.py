"""The graph of an exported program, rebuilt from its JSON as steps of allowed operators on checked arguments.

Nothing of the JSON is evaluated, looked up or run by name: names of values are keys, names of operators are found in
`geoml.engine.packages.operators`, arguments are numbers, truth values, enumerations and earlier values, and whatever
else the format knows (sub-graphs, objects, scripts, mutations of inputs and weights) is refused. One pass over the
nodes.

The format: torch/_export/serde/schema.py, version 8.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from geoml.engine.packages import operators
from geoml.engine.packages.archive import Unchecked
from geoml.engine.packages.operator_checks import CHECKS
from geoml.engine.packages.payloads import DTYPES, STRIDED
from geoml.errors import ModelError

MOST_NODES = 20_000
"""The largest segmentation networks export some 5 000."""
SCHEMA = 8
LARGEST = 2**63
_FORMATS = {
    1: torch.contiguous_format,
    2: torch.channels_last,
    3: torch.channels_last_3d,
    4: torch.preserve_format,
}
_FLOATS = ("Infinity", "-Infinity", "NaN")
"""Floats that JSON lacks, as the program writes them."""
_NUMBERS = {"as_int", "as_float", "as_bool", "as_sym_int", "as_sym_float", "as_sym_bool"}
_KINDS: Mapping[str, set[str]] = {
    "TensorType": {"as_tensor", *_NUMBERS},  # a number stands for a tensor without axes
    "NumberType": _NUMBERS,
    "IntType": {"as_int", "as_sym_int"},
    "SymIntType": {"as_int", "as_sym_int"},
    "FloatType": {"as_float", "as_int", "as_sym_float", "as_sym_int"},
    "BoolType": {"as_bool", "as_sym_bool"},
    "StringType": {"as_string"},
    "ScalarTypeType": {"as_scalar_type"},
    "MemoryFormatType": {"as_memory_format"},
    "LayoutType": {"as_layout"},
    "DeviceObjType": {"as_device"},
    "TensorType[]": {"as_tensors"},
    "TensorType?[]": {"as_tensors", "as_optional_tensors"},
    "IntType[]": {"as_ints", "as_sym_ints", "as_int", "as_sym_int"},  # one int stands for as many as the list has
    "SymIntType[]": {"as_ints", "as_sym_ints", "as_int", "as_sym_int"},
    "FloatType[]": {"as_floats", "as_ints"},
    "BoolType[]": {"as_bools"},
    "NumberType[]": {"as_ints", "as_floats"},
}
"""Members of the JSON that an argument may be, by the kind of its type in the operator's schema."""


@dataclass(frozen=True, slots=True)
class Operand:
    """Stands for an earlier value, by its number."""

    number: int


class Here:
    """Stands for the device of the input: a program runs there, not where it was exported."""


HERE = Here()


@dataclass(frozen=True, slots=True)
class Step:
    """One call. ``check`` is called before with the same arguments; ``done`` are values that no later step needs."""

    run: Callable[..., Any]
    args: tuple[object, ...]
    kwargs: Mapping[str, object]
    outputs: tuple[int | None, ...]
    several: bool
    check: Callable[..., None] | None = None
    done: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Weight:
    """A parameter, buffer or constant: the number of its value, what it is, and its name in the archive."""

    number: int
    kind: str
    name: str
    stored: bool
    """Among the weights of the archive, else among its constants."""


@dataclass(frozen=True, slots=True)
class Graph:
    """A program in steps; ``sizes`` (of the input) and ``ranges`` are still JSON, see
    `geoml.engine.packages.dynamic_shapes`."""

    sizes: Sequence[Unchecked]
    ranges: Mapping[str, Unchecked]
    weights: tuple[Weight, ...]
    input: int
    output: int
    count: int
    steps: tuple[Step, ...]


@dataclass(frozen=True, slots=True)
class _Value:
    number: int
    tensor: bool
    foreign: bool = False
    """May share memory with the input or a weight."""


def read_graph(program: Unchecked, where: str) -> Graph:
    """The graph in the JSON of a program. Raises ModelError for anything but one input, one output and known steps."""
    try:
        return _Reader(where).graph(program)
    except (LookupError, TypeError, AttributeError, ValueError, OverflowError) as err:
        raise ModelError(
            f"{where}: not a torch.export program that geoml knows ({type(err).__name__}: {str(err)[:200]})"
        ) from err


class _Reader:
    def __init__(self, where: str) -> None:
        self.where = where
        self.values: dict[str, _Value] = {}
        self.count = 0

    def graph(self, program: Unchecked) -> Graph:
        if (version := program["schema_version"]["major"]) != SCHEMA:
            raise ModelError(
                f"{self.where}: a program of schema {str(version)[:20]}; expected {SCHEMA}, of a newer torch"
            )
        module = program["graph_module"]
        graph, signature = module["graph"], module["signature"]
        if (count := len(graph["nodes"])) > MOST_NODES:
            raise ModelError(f"{self.where}: a graph of {count} nodes; expected at most {MOST_NODES}")
        weights, name = self._inputs(graph["inputs"], signature["input_specs"])
        steps = [step for node in graph["nodes"] if (step := self._step(node)) is not None]
        output = self._output(graph["outputs"], signature["output_specs"])
        meta = graph["tensor_values"][name]
        if DTYPES.get(meta["dtype"]) != torch.float32:
            raise ModelError(f"{self.where}: the input is not float32")
        return Graph(
            sizes=meta["sizes"],
            ranges=program["range_constraints"],
            weights=tuple(weights),
            input=self.values[name].number,
            output=output,
            count=self.count,
            steps=_freed(steps, output),
        )

    def _refuse(self, what: str) -> ModelError:
        return ModelError(f"{self.where}: {what}; only plain tensors and operators are loaded")

    def _new(self, name: str, *, tensor: bool = True, foreign: bool = False) -> int:
        self.values[self._free(name)] = _Value(self.count, tensor, foreign)
        self.count += 1
        return self.count - 1

    def _free(self, name: str) -> str:
        if not isinstance(name, str) or name in self.values:
            raise self._refuse(f"{str(name)[:80]!r} is made twice")
        return name

    def _known(self, name: str, *, tensor: bool) -> _Value:
        value = self.values.get(name)
        if value is None or value.tensor != tensor:
            raise self._refuse(f"{str(name)[:80]!r} is used before it is made")
        return value

    def _inputs(self, inputs: Sequence[Unchecked], specs: Sequence[Unchecked]) -> tuple[list[Weight], str]:
        weights, names = list[Weight](), list[str]()
        for argument, spec in zip(inputs, specs, strict=True):
            (kind, what), name = _one(spec), argument["as_tensor"]["name"]
            if kind not in ("parameter", "buffer", "tensor_constant", "user_input"):
                raise self._refuse(f"the input {kind[:40]}")
            if (what["arg"]["as_tensor"] if kind == "user_input" else what["arg"])["name"] != name:
                raise self._refuse(f"the input {str(name)[:80]!r} of another name in the signature")
            number = self._new(name, foreign=True)
            if kind == "user_input":
                names.append(name)
            else:
                stored = kind == "parameter" or (kind == "buffer" and what["persistent"] is True)
                weights.append(Weight(number, kind, what[f"{kind}_name"], stored))
        if len(names) != 1:
            raise ModelError(f"{self.where}: the program has {len(names)} inputs; expected one (batch, bands, y, x)")
        return weights, names[0]

    def _output(self, outputs: Sequence[Unchecked], specs: Sequence[Unchecked]) -> int:
        kinds = [_one(spec)[0] for spec in specs]
        if set(kinds) != {"user_output"}:
            raise self._refuse(f"outputs {', '.join(sorted(kinds))[:80]}")
        if len(outputs) != 1:
            raise ModelError(f"{self.where}: the program has {len(outputs)} outputs; expected one of logits")
        return self._known(outputs[0]["as_tensor"]["name"], tensor=True).number

    def _step(self, node: Unchecked) -> Step | None:
        target = node["target"]
        if target in operators.SKIPPED:
            return None
        if target in operators.IDENTITY:
            self._rename(target, node)
            return None
        if target in operators.NUMBERS:
            return self._number(target, node)
        if target == operators.NOTHING and _nothing(node):
            target, node = (
                operators.ZEROS,
                {**node, "inputs": [i for i in node["inputs"] if i["name"] != "memory_format"]},
            )
        if target not in operators.ALLOWED:
            raise self._refuse(f"target {str(target)[:80]!r} in the program")
        return self._call(target, node)

    def _rename(self, target: str, node: Unchecked) -> None:
        """No step: the result is another name of the first argument."""
        arguments = {one["name"]: one["arg"] for one in node["inputs"]}
        if arguments.get("train", {"as_bool": False}) != {"as_bool": False}:
            raise self._refuse(f"{target} that trains")
        name, same = node["outputs"][0]["as_tensor"]["name"], node["inputs"][0]["arg"]["as_tensor"]["name"]
        self.values[self._free(name)] = self._known(same, tensor=True)

    def _number(self, target: str, node: Unchecked) -> Step:
        """A step of the arithmetic of sizes, on numbers."""
        args = tuple(self._argument(target, "", one["arg"], _NUMBERS) for one in node["inputs"])
        if target == operators.HOLDS:
            return Step(operators.NUMBERS[target], args[:1], {}, (), several=True)
        kind, value = _one(node["outputs"][0])
        if kind not in ("as_sym_int", "as_sym_float", "as_sym_bool"):
            raise self._refuse(f"{target} that gives {kind[:40]}")
        return Step(operators.NUMBERS[target], args, {}, (self._new(value["as_name"], tensor=False),), several=False)

    def _call(self, target: str, node: Unchecked) -> Step:
        run = operators.find(target)
        schema = run._schema
        arguments = {one["name"]: one["arg"] for one in node["inputs"]}
        if len(arguments) != len(node["inputs"]) or arguments.keys() - {a.name for a in schema.arguments}:
            raise self._refuse(f"{target} with arguments {', '.join(map(str, arguments))[:80]}")
        sources = any("Tensor" in str(a.type) for a in schema.arguments)
        args, kwargs = list[object](), dict[str, object]()
        for a in schema.arguments:
            value = self._value(target, a, arguments, sources=sources)
            if not operators.fits(target, a.name, value):
                raise self._refuse(f"{target} with {a.name} = {str(value)[:80]}")
            if a.kwarg_only:
                kwargs[a.name] = value
            else:
                args.append(value)
        if target in operators.IN_PLACE and (self._foreign(arguments["self"]) or not isinstance(args[0], Operand)):
            raise self._refuse(f"{target} would change the input or a weight")
        foreign = target in operators.VIEWS and any(map(self._foreign, arguments.values()))
        outputs, several = self._results(target, node["outputs"], schema.returns, foreign)
        return Step(run, tuple(args), kwargs, outputs, several, CHECKS.get(target))

    def _value(self, target: str, parameter: Any, arguments: Mapping[str, Unchecked], *, sources: bool) -> object:
        """The value of an argument of a schema: where there are tensors (``sources``), devices are theirs."""
        kind, optional = _kind(parameter.real_type)
        if kind == "DeviceObjType":
            return None if optional and sources else HERE
        if parameter.name in arguments:
            kinds = _KINDS[kind] | {"as_none"} if optional else _KINDS[kind]
            return self._argument(target, parameter.name, arguments[parameter.name], kinds)
        if parameter.has_default_value():
            return parameter.default_value
        raise self._refuse(f"{target} without {parameter.name}")

    def _results(
        self, target: str, outputs: Sequence[Unchecked], returns: Sequence[Any], foreign: bool
    ) -> tuple[tuple[int | None, ...], bool]:
        """The numbers of the results of a call, None for one that is not used, and whether there are several."""
        kinds = [_kind(r.real_type)[0] for r in returns]
        if kinds == ["TensorType"]:
            return (self._new(outputs[0]["as_tensor"]["name"], foreign=foreign),), False
        if kinds in (["SymIntType"], ["IntType"]):
            return (self._new(outputs[0]["as_sym_int"]["as_name"], tensor=False),), False
        names = outputs[0]["as_tensors"] if kinds == ["TensorType[]"] else outputs
        numbers = list[int | None]()
        for one in names:
            if one.get("as_none") is True:
                numbers.append(None)
            else:
                numbers.append(self._new(one.get("as_tensor", one)["name"], foreign=foreign))
        if kinds != ["TensorType[]"] and len(numbers) != len(returns):
            raise self._refuse(f"{target} that gives {len(numbers)} of {len(returns)} values")
        return tuple(numbers), True

    def _foreign(self, argument: Unchecked) -> bool:
        """Whether an argument may share memory with the input or a weight."""
        kind, value = _one(argument)
        if kind == "as_tensor":
            value = [value]
        elif kind == "as_optional_tensors":
            value = [one["as_tensor"] for one in value if "as_tensor" in one]
        elif kind != "as_tensors":
            return False
        return any(self.values[one["name"]].foreign for one in value)

    def _argument(self, target: str, name: str, argument: Unchecked, kinds: set[str]) -> object:
        kind, value = _one(argument)
        if kind not in kinds:
            raise self._refuse(f"{target} with {name} as {kind[:40]}")
        if kind == "as_none":
            return None
        if kind == "as_tensor":
            return Operand(self._known(value["name"], tensor=True).number)
        if kind == "as_tensors":
            return [Operand(self._known(one["name"], tensor=True).number) for one in value]
        if kind == "as_optional_tensors":
            tensors = [one.get("as_tensor") for one in value]
            return [None if one is None else Operand(self._known(one["name"], tensor=True).number) for one in tensors]
        if kind.startswith("as_sym_"):
            return [self._symbol(one) for one in value] if kind.endswith("s") else self._symbol(value)
        if kind in ("as_ints", "as_floats", "as_bools"):
            return [_plain(kind[:-1], one) for one in value]
        return _plain(kind, value)

    def _symbol(self, argument: Unchecked) -> object:
        kind, value = _one(argument)
        return Operand(self._known(value, tensor=False).number) if kind == "as_name" else _plain(kind, value)


def _nothing(node: Unchecked) -> bool:
    """Whether the size that a node asks for holds a zero, in writing."""
    _, size = _one(node["inputs"][0]["arg"])
    return 0 in size or {"as_int": 0} in size


def _plain(kind: str, value: Unchecked) -> object:
    """A number, truth value, text or enumeration of the JSON. Raises ValueError for anything else."""
    if kind == "as_int" and type(value) is int and abs(value) < LARGEST:
        return value
    if kind == "as_float" and (type(value) in (int, float) or value in _FLOATS):
        return float(value)
    if kind == "as_bool" and type(value) is bool:
        return value
    if kind == "as_string" and isinstance(value, str):
        return value
    if kind == "as_scalar_type" and type(value) is int:
        return DTYPES[value]
    if kind == "as_memory_format" and type(value) is int:
        return _FORMATS[value]
    if kind == "as_layout" and value == STRIDED:
        return torch.strided
    raise ValueError(f"{kind} of {str(value)[:40]}")


def _one(union: Mapping[str, Unchecked]) -> tuple[str, Unchecked]:
    """The member of a union, which is the only entry of its mapping, and its value."""
    ((kind, value),) = union.items()
    return kind, value


def _kind(real_type: Any) -> tuple[str, bool]:
    """The kind of a type of a schema, ``IntType[]`` for a list; and whether None is one."""
    optional = real_type.kind() == "OptionalType"
    if optional:
        real_type = real_type.getElementType()
    if real_type.kind() != "ListType":
        return real_type.kind(), optional
    inner, none = _kind(real_type.getElementType())
    return f"{inner}{'?' if none else ''}[]", optional


def _freed(steps: Sequence[Step], output: int) -> tuple[Step, ...]:
    """The steps, each with the values that are not needed after it."""
    needed, freed = {output}, list[Step]()
    for step in reversed(steps):
        touched = {n for value in (*step.args, *step.kwargs.values()) for n in _slots(value)}
        touched.update(n for n in step.outputs if n is not None)
        freed.append(replace(step, done=tuple(sorted(touched - needed))))
        needed |= touched
    return tuple(reversed(freed))


def _slots(value: object) -> list[int]:
    parts = value if isinstance(value, list) else [value]
    return [one.number for one in parts if isinstance(one, Operand)]
