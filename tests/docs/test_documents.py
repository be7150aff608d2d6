"""Every command and code block of the documents runs, in the order of its document, in a copy of the checkout."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from geoml.io.cubes.spec import CubeSpec
from geoml.io.stac.catalog import CatalogFile
from geoml.pipeline import training
from geoml.recipe import PredictRecipe, parse
from tests.docs import documents
from tests.docs.documents import ROOT, Block
from tests.docs.given import GIVEN

BLOCKS = [b for name in documents.names() for b in documents.blocks(name)]
HERE = [b for b in BLOCKS if b.language in documents.RUN and not b.elsewhere]
CHECKOUT = (
    "geoml",
    "flows",
    "tests",
    "catalogs",
    "docs",
    "Makefile",
    "pyproject.toml",
    "requirements.txt",
    "README.md",
)
SECONDS = 1500


@pytest.fixture(scope="session")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of the repository, and an environment that ``make env`` finds ready."""
    root = tmp_path_factory.mktemp("checkout") / "geoml"
    root.mkdir()
    for name in CHECKOUT:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, root / name)
    return root


@pytest.fixture(scope="session")
def workspace(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """``workspace("docs/change.md")``: the folder of a document, a copy of its own."""
    made: dict[str, Path] = {}

    def find(document: str) -> Path:
        if document not in made:
            root = tmp_path_factory.mktemp(Path(document).stem) / "geoml"
            shutil.copytree(checkout, root, copy_function=os.link)
            (root / ".venv").mkdir()
            for path in Path(sys.prefix).iterdir():
                if path.name != ".done":
                    (root / ".venv" / path.name).symlink_to(path)
            (root / ".venv" / ".done").touch()
            made[document] = root
        return made[document]

    return find


def environment(root: Path) -> dict[str, str]:
    """That of a reader: the programs of the environment first, no settings of geoml, a Prefect of its own."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("GEOML_", "PREFECT_", "PYTEST_", "PYTHON"))}
    own = {
        "PATH": f"{root / '.venv' / 'bin'}:{kept['PATH']}",
        "PYTHONPATH": str(root),
        "PREFECT_HOME": str(root / ".p"),
    }
    own |= {"PREFECT_SERVER_ANALYTICS_ENABLED": "false", "DO_NOT_TRACK": "1", "OMP_NUM_THREADS": "1"}
    own |= {"PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "300", "GEOML_SCRATCH": str(root / ".scratch")}
    return kept | own


def run(block: Block, root: Path) -> None:
    """Run a block in a folder. Raises AssertionError with what it said when it fails."""
    for name in block.given:
        if not (done := root / ".given" / name).exists():
            GIVEN[name](root)
            done.parent.mkdir(exist_ok=True)
            done.touch()
    if file := block.get("as"):
        (root / file).unlink(missing_ok=True)
        (root / file).write_text(block.text, encoding="utf-8")
    if block.language == "yaml":
        check_yaml(block)
    if block.language == "yaml" or file:
        return
    program = ["bash", "-eo", "pipefail", "-c", block.get("instead") or block.text]
    if block.language == "python" and not block.get("instead"):
        script = root / f".block-{block.line}.py"
        script.write_text(block.text, encoding="utf-8")
        program = [sys.executable, str(script)]
    done_ = subprocess.run(program, cwd=root, env=environment(root), capture_output=True, text=True, timeout=SECONDS,
                           stdin=subprocess.DEVNULL, check=False)  # fmt: skip
    assert done_.returncode == 0, (
        f"{block.id} ended with {done_.returncode}\n{done_.stdout[-3000:]}{done_.stderr[-3000:]}"
    )


def check_yaml(block: Block) -> None:
    """A YAML block is read by the class that reads such a file."""
    value = yaml.safe_load(block.text)
    if "collections" in value:
        parse(CatalogFile, value, block.id)
    elif "driver" in value:
        parse(CubeSpec, value, block.id)
    elif "query" in value:
        parse(PredictRecipe, value, block.id)
    else:
        training(value)


def marked(block: Block) -> object:
    return pytest.param(block, id=block.id, marks=[pytest.mark.slow] if block.slow else [])


@pytest.mark.parametrize("block", [marked(b) for b in HERE])
def test_a_block_runs(block: Block, workspace: Callable[[str], Path]) -> None:
    """A block stands on what its document ran before; a slow one, whose stage runs without the others, on its files."""
    root = workspace(block.document)
    for other in HERE:
        done = root / ".given" / f"line-{other.line}"
        if other.document != block.document or done.exists():
            continue
        before = other.line < block.line and not other.slow
        if other is block or (before and (not block.slow or other.get("as"))):
            run(other, root)
            done.parent.mkdir(exist_ok=True)
            done.touch()


def test_every_block_is_run_here_or_by_a_test_that_is_there() -> None:
    """The list of what is not run as it stands; whoever adds to it writes it down here too."""
    assert [b.id for b in BLOCKS if b.language not in documents.LANGUAGES] == [], "a language before each block"
    assert [b.id for b in BLOCKS if b.language == "text" and b.clauses] == []
    assert [(b.id, n) for b in BLOCKS for n in b.given if n not in GIVEN] == []
    for block in BLOCKS:
        for name in block.elsewhere:
            file, _, test = name.partition("::")
            assert (ROOT / file).is_file(), f"{block.id}: {file} is not there"
            assert not test or test in functions(ROOT / file), f"{block.id}: no {test} in {file}"
            if not test:
                words = block.text.split("#")[0].split()[:2]
                assert " ".join(words) in (ROOT / file).read_text(encoding="utf-8"), (
                    f"{block.id}: {words}, not in {file}"
                )
    counted = Counter("by" if b.elsewhere else "instead" if b.get("instead") else "here" for b in BLOCKS
                      if b.language in documents.RUN)  # fmt: skip
    assert {k: counted[k] for k in ("by", "instead")} == NOT_AS_THEY_STAND
    assert counted["here"] > 30


NOT_AS_THEY_STAND = {"by": 55, "instead": 1}


def functions(file: Path) -> set[str]:
    tree = ast.parse(file.read_text(encoding="utf-8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("<!-- run: never -->\n```bash\nls\n```\n", "not a clause"),
        ("<!-- run: by Makefile -->\n```bash\nls\n```\n", "a reason"),
        ("<!-- run: slow -->\n\n```bash\nls\n```\n", "right before a block"),
        ("```bash\nls\n", "without an end"),
    ],
)
def test_marks_that_say_nothing_fail(text: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        documents.blocks("x.md", text)


def test_a_block_that_fails_is_a_failure(workspace: Callable[[str], Path]) -> None:
    for language, text in (("bash", "false\ntrue\n"), ("python", "import nothing_like_it\n")):
        with pytest.raises(AssertionError, match=r"x\.md:1 ended with 1"):
            run(Block("x.md", 1, language, text), workspace("x.md"))
