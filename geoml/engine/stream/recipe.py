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


class ImageRecipe(Frozen):
    """Which model answers an image, and how the image is read."""

    model_config = ConfigDict(allow_inf_nan=False)

    model: Place = Field(description="name, folder or URL of a model package that maps every pixel of one date")
    bands: Annotated[tuple[str, ...], BeforeValidator(words)] = Field(
        default=(),
        description="names of a frame's bands in order; by default as a GeoTIFF states, else red green blue if"
        " there are three, else those of the model",
    )
    scale: float | None = Field(
        default=None, gt=0, description="factor from stored to physical values; by default as the file states"
    )
    offset: float | None = Field(default=None, description="added after the scale; by default as the file states")
    out_of_domain: Literal["warn", "refuse", "allow"] = Field(
        default="warn",
        description="for a first frame unlike the training data: warn (but refuse another unit), refuse, or allow",
    )


class StreamRecipe(ImageRecipe):
    """What decides the answer of each frame, and which frames have one."""

    size: int = Field(
        default=512, ge=16, le=8192, description="side of a chip in pixels; a larger frame is cut and joined exactly"
    )
    every: int = Field(default=1, ge=1, le=1_000_000, description="use every n-th frame")
    halo: bool = Field(
        default=True,
        description="also compute a halo around each frame, as predict does; without it the network pads the edges"
        " itself, which is cheaper",
    )
    watch: float = Field(
        default=0.0,
        ge=0,
        le=86400,
        description="the folder is still being filled: continue until nothing new has come for this many"
        " seconds; 0: process what is there",
    )
    live: bool = Field(
        default=False,
        description="frames arrive in real time (a video at its own rate, a watched folder); frames that the"
        " model is too late for are dropped and reported",
    )
    ahead: int = Field(default=4, ge=1, le=256, description="maximum number of frames waiting for the model")
