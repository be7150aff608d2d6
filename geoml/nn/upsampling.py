"""A U-Net's upsampling joined with the convolution after it: the same function, about a fifth less work.

To double an image by repeating its pixels and then to convolve it by 3 x 3 is to convolve the small image by 2 x 2,
once for each of the four places that an output pixel can have in a doubled one, with sums of the weights: four products
instead of nine (Shi et al. 2016, "Is the deconvolution layer the same as a convolutional layer?",
https://arxiv.org/abs/1609.07009). What is doubled, and what it makes with the skip connection beside it, never lies in
memory. (As one transposed convolution it is not used: there the last bits depend on the width of the image.)
"""

from __future__ import annotations

import copy

import torch
from jaxtyping import Float
from segmentation_models_pytorch.decoders.unet.decoder import UnetDecoder, UnetDecoderBlock
from torch import Tensor, nn
from torch.nn import functional as F

from geoml.nn.fusion import TOLERANCE


class JoinedBlock(nn.Module):
    """A `UnetDecoderBlock` that doubles the size, of ``channels`` beside those of the skip connection."""

    def __init__(self, block: UnetDecoderBlock, channels: int) -> None:
        super().__init__()
        first = block.conv1[0]
        self.coarse = nn.Parameter(four_places(first.weight[:, :channels]), requires_grad=False)
        self.skip = nn.Parameter(first.weight[:, channels:].clone(), requires_grad=False)
        self.bias = first.bias
        self.rest = nn.Sequential(*list(block.conv1)[1:], block.conv2, block.attention2)

    def forward(
        self,
        x: Float[Tensor, "batch coarse y x"],
        height: int,
        width: int,
        skip_connection: Float[Tensor, "batch skip height width"] | None = None,
    ) -> Float[Tensor, "batch fine height width"]:
        count = len(self.skip)
        if skip_connection is None:
            out = x.new_empty((len(x), height, width, count)).movedim(-1, 1)
            bias = None if self.bias is None else self.bias.repeat(4)
        else:
            out, bias = F.conv2d(skip_connection, self.skip, self.bias, padding=1), None
        places = F.conv2d(x, self.coarse, bias, padding=1)
        for k in range(4):
            down, right = divmod(k, 2)
            part = places[:, k * count : (k + 1) * count, down : down + x.shape[-2], right : right + x.shape[-1]]
            fine = out[:, :, down::2, right::2]
            fine.copy_(part) if skip_connection is None else fine.add_(part)
        del places, part, fine
        finished: Tensor = self.rest(out)
        return finished


class LeanDecoder(nn.Module):
    """A `UnetDecoder` that lets go of the features it has used: they are half of what a forward holds."""

    def __init__(self, decoder: UnetDecoder) -> None:
        super().__init__()
        self.center, self.blocks = decoder.center, decoder.blocks

    def forward(self, features: list[Float[Tensor, "_ _ _ _"]]) -> Float[Tensor, "batch fine y x"]:
        """``features``, fine to coarse, are taken from the list, the first of which is the image itself."""
        sizes = [f.shape[2:] for f in features]
        x: Tensor = self.center(features.pop())
        for block, (height, width) in zip(self.blocks, sizes[-2::-1], strict=True):
            x = block(x, height, width, skip_connection=features.pop() if len(features) > 1 else None)
        return x


def four_places(weight: Float[Tensor, "out in 3 3"]) -> Float[Tensor, "places in 2 2"]:
    """Weights by 2 x 2 of the output pixels at the top left, top right, bottom left and bottom right, one by one."""
    columns = _two_places(weight, -1)  # (2, out, in, 3, 2)
    places = torch.stack([_two_places(column, -2) for column in columns], 1)
    return places.flatten(0, 2).contiguous(memory_format=torch.channels_last)


def _two_places(weight: Tensor, dim: int) -> Tensor:
    """Weights of three pixels as two of two: where the doubled pixel is the first of its pair, and the second."""
    first, middle, last = weight.unbind(dim)
    return torch.stack([torch.stack([first, middle + last], dim), torch.stack([first + middle, last], dim)])


@torch.inference_mode()
def join_upsampling(module: nn.Module, x: Float[Tensor, "batch channel y x"]) -> nn.Module:
    """A copy of ``module`` (in eval mode) whose U-Net decoder works so, or ``module`` where none does.

    ``x`` is an input to try it on; it has to be on the module's device.
    """
    names = {block: name for name, block in module.named_modules() if _joinable(block)}
    channels: dict[str, int] = {}

    def see(block: nn.Module, inputs: tuple[Tensor, int, int]) -> None:
        coarse, height, width = inputs
        if (height, width) == (2 * coarse.shape[-2], 2 * coarse.shape[-1]):
            channels[names[block]] = coarse.shape[1]

    hooks = [block.register_forward_pre_hook(see) for block in names]
    if not hooks:
        return module
    try:
        expected = module(x)
    finally:
        for handle in hooks:
            handle.remove()
    out = copy.deepcopy(module)
    for name, count in channels.items():
        block = out.get_submodule(name)
        assert isinstance(block, UnetDecoderBlock)
        out.set_submodule(name, JoinedBlock(block, count))
    for name in [n for n, decoder in out.named_modules() if type(decoder) is UnetDecoder]:
        decoder = out.get_submodule(name)
        assert isinstance(decoder, UnetDecoder)
        out.set_submodule(name, LeanDecoder(decoder))
    close = torch.allclose(out(x), expected, rtol=0, atol=TOLERANCE * float(expected.abs().max()))
    return out if close else module


def _joinable(block: nn.Module) -> bool:
    if not isinstance(block, UnetDecoderBlock) or block.interpolation_mode != "nearest":
        return False
    first = block.conv1[0]
    plain = isinstance(block.attention1.attention, nn.Identity) and type(first) is nn.Conv2d
    return plain and (first.kernel_size, first.padding) == ((3, 3), (1, 1))
