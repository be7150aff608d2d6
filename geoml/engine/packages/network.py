"""An exported program as a module: its steps are run one after the other; no code is generated."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from geoml.engine.packages.graph import LARGEST, Graph, Here, Operand
from geoml.engine.packages.payloads import Payloads
from geoml.errors import ModelError


class ProgramNetwork(nn.Module):
    """What a `Graph` computes: (B, bands, H, W) float32 to one tensor; weights are parameters and buffers."""

    def __init__(self, graph: Graph, payloads: Payloads) -> None:
        super().__init__()
        self.steps, self.count, self.input, self.output = graph.steps, graph.count, graph.input, graph.output
        self.names: dict[int, str] = {}
        made: dict[tuple[str, bool], Tensor] = {}
        for weight in graph.weights:
            key = weight.name, weight.stored
            if key not in made:
                made[key] = payloads.tensor(weight.name, weight=weight.stored)
                if weight.kind == "parameter":
                    made[key] = nn.Parameter(made[key], requires_grad=payloads.learns(weight.name))
            name = self.names[weight.number] = f"w{weight.number}"
            if isinstance(made[key], nn.Parameter):
                self.register_parameter(name, made[key])  # type: ignore[arg-type]
            else:
                self.register_buffer(name, made[key])

    def forward(self, x: Tensor) -> Tensor:
        """Raises ModelError for sizes that the program is not made for, RuntimeError as torch does."""
        values: list[object] = [None] * self.count
        values[self.input] = x
        weights = {
            **dict(self.named_parameters(remove_duplicate=False)),
            **dict(self.named_buffers(remove_duplicate=False)),
        }
        for number, name in self.names.items():
            values[number] = weights[name]
        for step in self.steps:
            args = [_bind(a, values, x.device) for a in step.args]
            kwargs = {k: _bind(a, values, x.device) for k, a in step.kwargs.items()}
            try:
                if step.check is not None:
                    step.check(*args, **kwargs)
                result = step.run(*args, **kwargs)
            except (TypeError, LookupError, ArithmeticError, ValueError) as err:
                raise ModelError(f"the program fails on {tuple(x.shape)} ({err})") from err
            if step.several and len(result) != len(step.outputs):
                raise ModelError(f"the program fails on {tuple(x.shape)} ({step.run} gives {len(result)} values)")
            for to, value in zip(step.outputs, result if step.several else (result,), strict=True):
                if to is not None:
                    values[to] = _bounded(value)
            for number in step.done:
                values[number] = None
        y = values[self.output]
        assert isinstance(y, Tensor)
        return y


def _bind(value: object, values: list[object], device: torch.device) -> object:
    if isinstance(value, Operand):
        return values[value.number]
    if isinstance(value, list):
        return [_bind(one, values, device) for one in value]
    return device if isinstance(value, Here) else value


def _bounded(value: object) -> object:
    """The value; a whole number that has grown beyond what torch takes would only take time."""
    if isinstance(value, int) and abs(value) >= LARGEST:
        raise ModelError("the program counts beyond 64 bits")
    return value
