"""The scratch folder: working copies of what lies elsewhere, which no other user of the machine can write to.

What lies there is believed (a copy whose tag is known is not fetched again), so a folder that somebody else made, can
write to, or leads elsewhere by a link is refused. Each folder is opened without following a link and looked at through
that handle, so that it is not another one that is looked at than the one that is used.
"""

from __future__ import annotations

import errno
import os
import stat
import tempfile
from contextlib import suppress
from pathlib import Path

from geoml.errors import InputError
from geoml.settings import settings

_OPEN = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def scratch(*below: str) -> Path:
    """The scratch folder, or the one below it with these names; missing ones are made, with mode 0700.

    It is ``GEOML_SCRATCH``, by default a folder of this user's in the one for temporary files. Raises InputError that
    says what to do when any of them is a symbolic link, belongs to another user, can be written to by others, or cannot
    be made.
    """
    path = Path(settings().scratch or _default())
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = _private(path, path, None)
        try:
            for name in below:
                path = path / name
                outer, handle = handle, _private(path, name, handle)
                os.close(outer)
        finally:
            os.close(handle)
    except OSError as err:
        raise InputError(f"GEOML_SCRATCH: {str(path)[:300]} cannot be made ({err.strerror})") from err
    return path


def _default() -> Path:
    try:
        return Path(tempfile.gettempdir()) / f"geoml-{os.geteuid()}"
    except OSError as err:
        raise InputError(
            f"GEOML_SCRATCH: no folder for temporary files ({err.strerror}); expected one of yours"
        ) from err


def _private(path: Path, name: str | Path, folder: int | None) -> int:
    """An open handle of the folder ``name`` in ``folder`` (None: of the path), made when it is missing."""
    with suppress(FileExistsError):
        os.mkdir(name, 0o700, dir_fd=folder)
    try:
        handle = os.open(name, _OPEN, dir_fd=folder)
    except OSError as err:
        if err.errno in (errno.ELOOP, errno.ENOTDIR):
            kind = "a symbolic link" if path.is_symlink() else "a file"
            raise InputError(
                f"GEOML_SCRATCH: {path} is {kind}; expected a folder that you own, not a link to one"
            ) from err
        raise
    status = os.fstat(handle)
    why = ""
    if status.st_uid != os.geteuid():
        why = "belongs to another user; expected a folder that you own, such as a new one inside it"
    elif stat.S_IMODE(status.st_mode) & 0o022:
        why = f"can be written to by others; look at what is in it, then chmod 700 {path}, or name another folder"
    if why:
        os.close(handle)
        raise InputError(f"GEOML_SCRATCH: {path} {why}")
    return handle
