"""The folder or bucket of a run, claimed: made if it does not exist, and refused if it belongs to something else."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

from geoml.errors import DataError, InputError, too_long
from geoml.io.stores.remote import RunStore, run_store
from geoml.io.stores.store import within
from geoml.recipe import check_text

FREE_BYTES = 64 * 2**20
"""A run does not start with less free space on its output disk."""

LONGEST_OUT = 4095 - 256
"""Bytes of the path of an output folder: what systems take (PATH_MAX), without the longest name in a run."""


def claim(out: str | Path | RunStore, state: str) -> RunStore:
    """Make the output folder with the folder ``state`` in it, by which it is known as that of a run.

    Raises InputError for a folder with foreign files, DataError without space.
    """
    if not isinstance(out, RunStore):
        check_text(str(out), "out")
        if "\0" in str(out):
            raise InputError(f"out: {str(out)!r} has a NUL in it; expected a path")
    store = run_store(out)
    if store.bucket is not None:
        _claim_bucket(store, state)
    else:
        _claim_folder(store.local, state)
    return store


def _claim_bucket(store: RunStore, state: str) -> None:
    if not store.empty() and not store.sizes(state):
        raise InputError(f"out: {store.url} contains other files; expected an empty prefix or one of an earlier run")
    _claim_folder(store.local, state, f"GEOML_SCRATCH: {store.local}", foreign=True)


def _claim_folder(out: Path, name: str, shown: str = "", *, foreign: bool = False) -> None:
    shown = shown or f"out: {out}"
    if len(os.fsencode(out.absolute())) > LONGEST_OUT:
        raise InputError(f"out: {too_long(out)}")
    try:
        if out.exists() and not out.is_dir():
            raise InputError(f"{shown} is a file; expected a folder")
        state = within(out, f"{name}/plan.json").parent
        if not foreign and out.is_dir() and any(out.iterdir()) and not state.is_dir():
            raise InputError(f"{shown} contains other files; expected an empty folder or one of an earlier run")
        state.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(out).free
    except OSError as err:
        if err.errno == errno.ENAMETOOLONG:
            raise InputError(f"out: {too_long(out)}") from err
        raise InputError(f"{shown} cannot be written ({err.strerror}); expected a writable folder") from err
    if free < FREE_BYTES:
        raise DataError(f"{shown} has {free / 2**20:.0f} MB of free space; expected at least {FREE_BYTES >> 20} MB")
