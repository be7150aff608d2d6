"""The digest of the base image into the Dockerfiles, so that each build starts from the same bytes.

python docker/pin_base.py [--image NAME[:TAG]] [--registry URL]

Asks the image's registry by the OCI distribution API (https://github.com/opencontainers/distribution-spec) for what the
tag means today, and writes ``ARG BASE=NAME:TAG@sha256:…``. Needs Python alone.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlencode, urlsplit
from urllib.request import Request, urlopen

HERE = Path(__file__).parent
BASE = re.compile(r"^ARG BASE=(?P<image>[^\s@]+)(?:@sha256:[0-9a-f]{64})?$", re.MULTILINE)
KINDS = (  # an index of all platforms before the manifest of one
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)
MOST = 2**22
"""Bytes of an answer; a registry keeps no larger manifest."""


class PinError(RuntimeError):
    """No digest could be had; no file was changed."""


def parts(image: str) -> tuple[str, str, str]:
    """(host or "", path, tag) of an image's name; a host has a dot or a port, and Docker's own images have none."""
    first, slash, rest = image.partition("/")
    host, path = (first, rest) if slash and re.search(r"[.:]|^localhost$", first) else ("", image)
    path, _, tag = path.partition(":")
    return host, path if host or "/" in path else f"library/{path}", tag or "latest"


def registry_of(host: str, given: str | None) -> str:
    """The URL of the registry: the one that is given, the image's own, or the one that the Docker engine asks."""
    if given or host:
        return (given or f"https://{host}").rstrip("/")
    words = ["docker", "info", "--format", "{{.IndexServerAddress}}"]
    try:
        said = subprocess.run(words, capture_output=True, text=True, timeout=60, check=True).stdout
    except (OSError, subprocess.SubprocessError) as err:
        raise PinError(f"no registry: Docker does not say which one it asks ({err}); give --registry") from err
    where = urlsplit(said.strip())
    return f"{where.scheme}://{where.netloc}"


def ask(url: str, headers: dict[str, str] | None = None) -> tuple[bytes, Any]:
    """Body and headers of an answer. Raises PinError, or HTTPError for a refusal."""
    if not url.startswith(("https://", "http://")):
        raise PinError(f"{url}: expected https://…")
    try:
        with urlopen(Request(url, headers=headers or {}), timeout=60) as answer:
            body = answer.read(MOST + 1)
            if len(body) > MOST:
                raise PinError(f"{url}: more than {MOST} bytes")
            return body, answer.headers
    except HTTPError:
        raise
    except (URLError, OSError) as err:
        raise PinError(f"{url}: {err}") from err


def token(challenge: str, path: str) -> str:
    """What the registry's own word for who may read (a ``WWW-Authenticate`` header) leads to."""
    words = dict(re.findall(r'(\w+)="([^"]*)"', challenge))
    if not challenge.lower().startswith("bearer ") or "realm" not in words:
        raise PinError(f"the registry asks for what is not known here: {challenge[:200]}")
    query = {"scope": words.get("scope", f"repository:{path}:pull")} | (
        {"service": words["service"]} if "service" in words else {}
    )
    said = json.loads(ask(f"{words['realm']}?{urlencode(query)}")[0])
    return str(said.get("token") or said["access_token"])


def digest(image: str, registry: str | None = None) -> str:
    """``sha256:…`` of what ``image`` means in its registry now. Raises PinError."""
    host, path, tag = parts(image)
    url = f"{registry_of(host, registry)}/v2/{path}/manifests/{tag}"
    headers = {"Accept": ", ".join(KINDS)}
    try:
        try:
            body, told = ask(url, headers)
        except HTTPError as err:
            if err.code != 401:
                raise
            may = token(err.headers.get("WWW-Authenticate", ""), path)
            body, told = ask(url, {**headers, "Authorization": f"Bearer {may}"})
    except (HTTPError, ValueError, KeyError) as err:
        raise PinError(f"{url}: {err}") from err
    found = f"sha256:{hashlib.sha256(body).hexdigest()}"
    if told.get("Docker-Content-Digest", found) != found:
        raise PinError(f"{url}: is {found} and says {told['Docker-Content-Digest']}")
    if told.get_content_type() not in KINDS:
        raise PinError(f"{url}: {told.get_content_type()} is no image")
    return found


def pin(folder: Path, image: str | None = None, registry: str | None = None) -> dict[Path, str]:
    """Write the digest into every Dockerfile of ``folder``; what each has now. Raises PinError."""
    found = {p: p.read_text("utf-8") for p in sorted(folder.glob("*Dockerfile"))}
    bases = {p: m["image"] for p, text in found.items() if (m := BASE.search(text))}
    if not bases or len(bases) != len(found):
        raise PinError(f"{folder}: no line ARG BASE=… in {sorted(str(p) for p in found.keys() - bases.keys())}")
    wanted = {p: image or base for p, base in bases.items()}
    digests = {name: digest(name, registry) for name in dict.fromkeys(wanted.values())}
    pinned = {p: f"{name}@{digests[name]}" for p, name in wanted.items()}
    for path, base in pinned.items():
        new = path.with_name(f".{path.name}.part")
        new.write_text(BASE.sub(f"ARG BASE={base}", found[path]), "utf-8")
        new.replace(path)
    return pinned


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="docker/pin_base.py", description=__doc__.partition("\n")[0])
    parser.add_argument("--image", help="another base than the one that the Dockerfiles name")
    parser.add_argument("--registry", help="URL; default: that of the image's name, or the one that Docker asks")
    given = parser.parse_args(argv)
    try:
        for path, base in pin(HERE, given.image, given.registry).items():
            print(f"{path.name}: {base}")
    except PinError as err:
        print(err, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
