"""Foreign input of every kind, changed at random: `make fuzz`. Only errors of the table may come out, in time.

An example fails by an exception that is not of `geoml.errors`, by a connection to anything but the test's own server,
by taking longer than ``--deadline`` or by holding more than ``--memory``. It is shrunk and printed, with the line to
repeat it. Each kind runs in a process of its own, since an example that hangs takes its process with it.
"""

from __future__ import annotations

import argparse
import logging
import os
import re
import shutil
import subprocess
import sys
import time
import traceback
import warnings
from pathlib import Path
from typing import Any

KINDS = ("items", "cards", "hrefs", "archives", "locks", "lists", "clouds")
BATCH = 50
"""Examples under one seed."""
ENVIRONMENT = {
    "GEOML_LEASE": "0.02",
    "GEOML_TIMEOUT": "2",
    "GEOML_RETRIES": "0",
    "GEOML_DEVICE": "cpu",
    "GEOML_THREADS": "2",
    "GEOML_PRECISION": "fp32",
    "OMP_NUM_THREADS": "1",
    "AWS_ENDPOINT_URL": "http://127.0.0.1:9",
}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make fuzz", description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--seconds", type=float, default=600, help="for all kinds together")
    parser.add_argument("--only", default=",".join(KINDS), help=f"some of {', '.join(KINDS)}")
    parser.add_argument("--seed", type=int, default=None, help="of the first batch; by default another one each time")
    parser.add_argument("--replay", default="", help="what a failure printed: that one example")
    parser.add_argument("--deadline", type=float, default=30, help="seconds for one example")
    parser.add_argument("--memory", type=float, default=3000, help="megabytes of the process")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> int:
    args = arguments()
    kinds = args.only.split(",")
    if wrong := set(kinds) - set(KINDS):
        print(f"--only: {', '.join(sorted(wrong))}; expected some of {', '.join(KINDS)}")
        return 2
    if args.child:
        return child(args)
    bad = []
    for kind in kinds:
        words = [sys.executable, "-m", "tests.fuzz.main", *sys.argv[1:], "--only", kind, "--child"]
        words += ["--seconds", str(args.seconds / len(kinds))]
        if subprocess.run(words, env=os.environ | ENVIRONMENT, check=False).returncode:
            bad.append(kind)
    print(f"\nfuzz: {'FAILED: ' + ', '.join(bad) if bad else 'no failure'} ({', '.join(kinds)})", flush=True)
    return 1 if bad else 0


def child(args: argparse.Namespace) -> int:
    """One kind until its time is over. Returns 1 after a failure, which ends it."""
    from hypothesis import HealthCheck, given, reproduce_failure, seed, settings
    from hypothesis import __version__ as version
    from hypothesis.database import DirectoryBasedExampleDatabase

    from geoml.errors import GeomlError
    from tests.fuzz.guard import Connections, Watchdog
    from tests.fuzz.targets import TARGETS, world

    logging.disable()
    warnings.simplefilter("ignore")
    kind, guard = args.only, Connections()
    number = int(time.time()) if args.seed is None else args.seed
    again = 'repeat with: make fuzz ARGS="--only {} {}"'
    dog = Watchdog(args.deadline, args.memory, "")
    made = world()
    guard.allowed.add(made.served.port)
    target = TARGETS[kind](made)
    started = time.monotonic()
    count, found, refused = 0, False, 0

    def example(value: Any) -> None:
        nonlocal count, found, refused
        if not found and not args.replay and time.monotonic() - started > args.seconds:
            return  # but a failure is shrunk to its end
        count += 1
        try:
            with dog.example(value):
                target.check(value)
            guard.check()
        except GeomlError as err:
            refused += 1
            try:
                guard.check()
            except AssertionError:
                found = True
                raise AssertionError(f"{err}, and a connection that is not allowed") from err
        except Exception:
            found = True
            raise

    try:
        while not found and time.monotonic() - started < args.seconds:
            dog.replay = again.format(kind, f"--seed {number}")
            test = settings(
                deadline=None,
                max_examples=BATCH,
                print_blob=True,
                suppress_health_check=list(HealthCheck),
                database=DirectoryBasedExampleDatabase(Path(".hypothesis/fuzz")),
            )(seed(number)(given(target.strategy)(example)))
            if args.replay:
                reproduce_failure(version, args.replay.encode())(test)()
                break
            test()
            number += 1
    except Exception as err:
        print(f"\nFAILED: {kind}\n{''.join(traceback.format_exception(err))[-8000:]}")
        for blob in re.findall(r"reproduce_failure\('[^']+', b'([^']+)'\)", "\n".join(getattr(err, "__notes__", ()))):
            print(again.format(kind, f"--replay '{blob}'"))
        print(flush=True)
    took = time.monotonic() - started
    print(
        f"{kind}: {count} examples in {took:.0f} s, {refused} of them refused{', one FAILED' if found else ''}",
        flush=True,
    )
    shutil.rmtree(made.folder, ignore_errors=True)
    return 1 if found else 0


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    os._exit(code) if "--child" in sys.argv else sys.exit(code)  # threads of a read that was given up may still wait
