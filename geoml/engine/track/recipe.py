"""The recipe of tracks: what is found in frames, when they were taken, where they lie, and how things move."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import BeforeValidator, ConfigDict, Field, model_validator

from geoml.engine.stream.recipe import words
from geoml.recipe import Frozen, Place, When
from geoml.vector.motion import SURE, Motion

USUAL = Motion()


class TrackRecipe(Frozen):
    """All that decides the rows. One of ``model`` and ``detections``; places by ``homographies``, keypoints of frames,
    their own georeference, or a camera that does not move; metres by a reference or ``gsd``."""

    model_config = ConfigDict(allow_inf_nan=False)

    model: Place | None = Field(default=None, description="name, folder or URL of a model package that finds objects")
    detections: Place | None = Field(
        default=None,
        description="detections from elsewhere: MOTChallenge text (frame,id,left,top,width,height,…) or Parquet",
    )
    homographies: Place | None = Field(
        default=None,
        description="one row per frame: its number and nine values that map its pixels to those of the first frame,"
        " which needs none",
    )
    fixed_camera: bool = Field(default=False, description="the camera does not move, so frames need no registration")
    log: Place | None = Field(
        default=None,
        description="CSV with the time of each frame and, optionally, frame, longitude, latitude",
    )
    fps: float | None = Field(default=None, ge=1e-3, le=1e5, description="frames per second, if there is no log")
    start: When | None = Field(default=None, description="time of the first frame, for fps or a log in seconds")
    first_frame: int = Field(
        default=1, ge=0, description="number of the first frame; MOTChallenge counts from 1, others from 0"
    )
    every: int = Field(default=1, ge=1, le=1_000_000, description="use every n-th frame")
    reference: Place | None = Field(
        default=None,
        description="georeferenced mosaic: a GeoTIFF or a folder of them; the first frame is matched to it",
    )
    reference_homography: Place | None = Field(
        default=None,
        description="nine values that map pixels of the first frame to those of the reference, or to x, y of --crs",
    )
    crs: str | None = Field(
        default=None, description="CRS of the reference homography's result, if no mosaic states it"
    )
    gsd: float | None = Field(
        default=None, gt=0, description="metres per pixel of the first frame, if nothing says where on Earth it is"
    )
    stills: bool = Field(
        default=False, description="overlapping photos: each place belongs to one of them, so that a car counts once"
    )
    bands: Annotated[tuple[str, ...], BeforeValidator(words)] = Field(
        default=(), description="names of a frame's bands in order, if the files do not state them"
    )
    scale: float | None = Field(
        default=None, gt=0, description="factor from stored to physical values; by default as the file states"
    )
    offset: float | None = Field(default=None, description="added after the scale; by default as the file states")
    sure: float | None = Field(
        default=None, ge=0, le=1,
        description="lowest confidence of a detection that can start a track; by default the threshold in the"
        f" model's card, else {SURE}",
    )  # fmt: skip
    unsure: float = Field(
        default=0.1, ge=0, le=1, description="lowest confidence of a detection that can continue a track"
    )
    gap: float = Field(
        default=USUAL.gap, gt=0, le=3600, description="seconds for which a track without a detection is kept"
    )
    wander: float = Field(
        default=USUAL.wander,
        gt=0,
        description="m²/s³, how much velocities change: its square root is the change in m/s within a second",
    )
    speed: float = Field(
        default=USUAL.speed,
        gt=0,
        description="m/s, standard deviation of the speed of new tracks; four times this is the maximum",
    )
    noise: float = Field(
        default=USUAL.noise, gt=0, le=1, description="standard deviation of centres, as a share of the size"
    )
    truth: Place | None = Field(
        default=None, description="true ids in the same pixels, in the format of detections: prints scores"
    )

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if (self.model is None) == (self.detections is None):
            raise ValueError("model, detections: give exactly one of them")
        sure = SURE if self.sure is None and self.model is None else self.sure
        if sure is not None and self.unsure > sure:
            raise ValueError(f"unsure: {self.unsure}; expected at most sure, {sure}")
        if self.log is not None and self.fps is not None:
            raise ValueError("log, fps: give one of them; the log has the times")
        if self.log is None and self.fps is None and not self.stills:
            raise ValueError("log, fps: give one of them; the clock of a film's container is not that of the flight")
        if self.fixed_camera and (self.homographies is not None or self.stills):
            raise ValueError("fixed_camera: goes neither with homographies nor with stills")
        if self.crs is not None and (self.reference is not None or self.reference_homography is None):
            raise ValueError("crs: only for a reference homography without a reference")
        if self.reference_homography is not None and self.reference is None and self.crs is None:
            raise ValueError("reference_homography: give the reference that it maps to, or the crs")
        if self.gsd is not None and (self.reference is not None or self.reference_homography is not None):
            raise ValueError("gsd: the reference already states it")
        return self

    @property
    def motion(self) -> Motion:
        """How things move."""
        return Motion(wander=self.wander, speed=self.speed, noise=self.noise, gap=self.gap)
