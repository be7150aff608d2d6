"""The recipe of a stream: which model, how its frames are read, and what happens when it is too slow for them."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, ConfigDict, Field

from geoml.recipe import Frozen, Place


def words(value: object) -> object:
    """Names of texts that may hold several with commas between."""
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list | tuple):
        return value
    return tuple(word for text in texts for word in str(text).replace(",", " ").split())


class StreamRecipe(Frozen):
    """What decides the answer of each frame, and which frames have one."""

    model_config = ConfigDict(allow_inf_nan=False)

    model: Place = Field(description="name, folder or URL of a model package that answers every pixel of one date")
    size: int = Field(
        default=512, ge=16, le=8192, description="pixels of a chip's side; a larger frame is cut and joined exactly"
    )
    every: int = Field(default=1, ge=1, le=1_000_000, description="of so many frames one is taken")
    bands: Annotated[tuple[str, ...], BeforeValidator(words)] = Field(
        default=(),
        description="names of the bands of a frame in their order; by default what a GeoTIFF says, else red green blue"
        " of three, else those of the model",
    )
    scale: float | None = Field(
        default=None, gt=0, description="physical values are stored ones times this; by default what a file says"
    )
    offset: float | None = Field(default=None, description="and plus this; by default what a file says")
    halo: bool = Field(
        default=True,
        description="compute what surrounds a frame too, as predict does; without, the network pads the edges itself,"
        " which costs less",
    )
    watch: float = Field(
        default=0.0,
        ge=0,
        le=86400,
        description="the folder is being filled: go on until nothing has come for so many seconds; 0: take what is"
        " there",
    )
    live: bool = Field(
        default=False,
        description="frames come when they are due (a video at its own rate, a watched folder), and those that the"
        " model is too late for are dropped and said",
    )
    ahead: int = Field(default=4, ge=1, le=256, description="frames that wait for the model at most")
    out_of_domain: Literal["warn", "refuse", "allow"] = Field(
        default="warn",
        description="for a first frame unlike the training data: warn (numbers in another unit are refused), refuse,"
        " allow",
    )
