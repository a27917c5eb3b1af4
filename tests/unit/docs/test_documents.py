"""Documents cannot lie: their commands run, their JSON is what is printed, their tables and links are complete."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
import tomllib
from fnmatch import fnmatch
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import typer.main

import thalweg
from tests.helpers.documents import (
    ROOT,
    find_documents,
    find_inline_commands,
    read_blocks,
    split_command,
    write_material,
)
from thalweg import api, registry
from thalweg.cli import exit_codes, train, trained
from thalweg.cli.main import app, invoke
from thalweg.errors import ThalwegError

DOCUMENTS = find_documents()
NAMES = [str(path.relative_to(ROOT)) for path in DOCUMENTS]
#: documents whose shell blocks are run line by line
RUN_DOCUMENTS = [path for path in DOCUMENTS if read_blocks(path, "sh") and path.parent.name != "benchmarks"]
RUN_DOCUMENTS = [path for path in RUN_DOCUMENTS if path.parent.name != "parity"]
RELIABILITY = ROOT / "docs" / "reliability.md"

#: lines that are not run here, and why
NOT_RUN = {
    "make demo": "installs packages",
    "make test": "runs this test",
    "make lint": "runs in continuous integration",
    "make reference": "takes minutes",
    "make hunt": "takes minutes",
    "make gallery": "takes minutes; the list that it writes is compared below",
    "make results": "what it prints is compared below",
    "make bench": "installs packages",
    "thalweg doctor": "takes 4 s; `thalweg doctor runs/photos --json` is run",
    ". .venv/bin/activate": "needs the environment of make demo",
    "thalweg data download mnist": "needs the network",
    "thalweg predict squeezenet1_1 photo.jpg": "downloads weights",
    "thalweg train classify photos/ --model resnet18 --weights imagenet --freeze": "downloads weights",
    "thalweg export runs/photos": "takes 15 s; tests/unit/inference/test_export_onnx.py does it",
}
#: what makes a command quick; a training's own --epochs is left out
LIMITS = {
    "train classify": ["--steps", "2", "--no-report", "--set", "widths=4,8"],
    "train write": ["--steps", "2", "--no-report", "--set", "width=16"],
    "train generate": ["--steps", "2", "--no-report", "--image-size", "8", "--num-eval-samples", "8"],
    "train edit": ["--steps", "2", "--no-report", "--num-latents", "64"],
    "train forecast": ["--steps", "2", "--no-report"],
    "train translate": ["--steps", "2", "--no-report", "--set", "width=8"],
    "train remember": ["--steps", "2", "--no-report", "--set", "width=8"],
    "explain backprop": ["--set", "layers=1,1,1"],
    "explain runs/photos": ["--methods", "grad-cam"],
}


#: lines that were run already; another document may have the same
DONE: set[str] = set()


def limit(words: list[str]) -> list[str]:
    """Return the words of a command with what makes it quick."""
    flags = LIMITS.get(" ".join(words[:2]), [])
    if words[0] == "train":
        if "--resume" in words:
            return words
        if "--weights" in words:
            flags = flags[:3]
        if "--epochs" in words:
            index = words.index("--epochs")
            words = words[:index] + words[index + 2 :]
    elif "--methods" in words:
        flags = []
    return [*words, *flags]


def run_line(line: str) -> None:
    """Run a line of a document in the current folder, once."""
    if line in DONE:
        return
    DONE.add(line)
    words = split_command(line)
    if words[0] == "train" and "--out" in words and "--resume" not in words:
        shutil.rmtree(words[words.index("--out") + 1], ignore_errors=True)
    assert invoke(limit(words)) == 0, line


@pytest.fixture(scope="module")
def workspace(tmp_path_factory) -> Path:
    """A folder with the documents' material and the runs that README trains."""
    folder = tmp_path_factory.mktemp("documents")
    write_material(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for block in read_blocks(ROOT / "README.md", "sh"):
            for line in block.commands():
                if line.startswith("thalweg train"):
                    run_line(line)
        for name, run in {"a": "photos", "b": "photos", "digits": "new", "rolls": "new"}.items():
            shutil.copytree(f"runs/{run}", f"runs/{name}")
    return folder


@pytest.mark.parametrize("document", RUN_DOCUMENTS, ids=lambda path: path.name)
def test_every_command_of_a_document_runs(document, workspace, monkeypatch, capsys):
    monkeypatch.chdir(workspace)
    for block in read_blocks(document, "sh"):
        for line in block.commands():
            if line in NOT_RUN:
                continue
            if document == RELIABILITY and (line.endswith("--json") or line.startswith("cat ")):
                continue  # run below, where its JSON is compared
            assert line.startswith("thalweg "), f"{document.name}:{block.line}: {line} is neither run nor listed"
            run_line(line)


def test_what_is_not_run_is_still_documented():
    lines = set()
    for document in DOCUMENTS:
        for block in read_blocks(document, "sh"):
            lines |= set(block.commands())
    assert set(NOT_RUN) <= lines


def parse_only(words: list[str]) -> None:
    """Parse a command line, and run nothing."""
    if words[0] == "train":
        train.prepare_flags(words[1:])
    elif words[0] in ("evaluate", "predict", "sample"):
        trained.prepare_flags(words[0], words[1:])
    command = typer.main.get_command(app)
    disable_callbacks(command)
    command.main(args=words, prog_name="thalweg", standalone_mode=False)


def disable_callbacks(command: Any) -> None:
    command.callback = lambda **values: None
    for child in getattr(command, "commands", {}).values():
        disable_callbacks(child)


def is_placeholder(words: list[str]) -> bool:
    return not words or words[0].isupper() or "..." in words or words[0].startswith("--install")


@pytest.mark.parametrize("document", DOCUMENTS, ids=NAMES)
def test_every_command_that_is_mentioned_parses(document, workspace, monkeypatch, capsys):
    monkeypatch.chdir(workspace)
    commands = find_inline_commands(document)
    for block in read_blocks(document, "sh"):
        commands += [line for line in block.commands() if line.startswith("thalweg ")]
    for command in commands:
        words = split_command(command)
        if is_placeholder(words):
            continue
        try:
            parse_only(words)
        except Exception as error:
            is_mention = type(error).__name__ == "MissingParameter" and len(words) <= 2
            assert is_mention, f"{command}: {error}"
        for flag, names in (("--recipe", api.list_recipes()), ("--model", api.list_models())):
            value = words[words.index(flag) + 1] if flag in words else ""
            if value and not value.isupper() and ":" not in value and value != "one_hidden":
                assert value in [row["name"] for row in names], command


def test_every_command_in_the_help_parses(workspace, monkeypatch, capsys):
    monkeypatch.chdir(workspace)
    count = 0
    for path in sorted((ROOT / "src" / "thalweg" / "cli").glob("*.py")):
        for line in re.findall(r"^ +(thalweg [a-z].*)$", path.read_text(encoding="utf-8"), re.MULTILINE):
            words = split_command(re.split(r" {2,}", line.strip())[0])
            parse_only(words)
            count += 1
    assert count > 20


def test_the_commands_of_make_demo_parse(workspace, monkeypatch, capsys):
    monkeypatch.chdir(workspace)
    text = (ROOT / "Makefile").read_text(encoding="utf-8").replace("$(RUN)", "runs/photos")
    commands = re.findall(r"^\t\$\(BIN\)/(thalweg .*)$", text, re.MULTILINE)
    assert [command.split()[1] for command in commands] == ["train", "data", "predict"]
    for command in commands:
        parse_only(split_command(command))


def test_python_of_the_readme_survives_an_unreadable_file(workspace, monkeypatch, capsys):
    monkeypatch.chdir(workspace)
    (block,) = read_blocks(ROOT / "README.md", "python")
    assert "epochs=10" in block.text
    exec(block.text.replace("epochs=10", "steps=2, report=False"), {})
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) == 2
    assert printed[0].split()[0] in ("cat", "dog", "horse")
    assert printed[1].startswith("broken.jpg ")


# --- JSON -------------------------------------------------------------------------------------------------------------


def documented_shapes() -> list[Any]:
    """Return pairs of a command and the JSON that is documented below it."""
    blocks = read_blocks(RELIABILITY)
    pairs = []
    for block, next_block in zip(blocks, blocks[1:], strict=False):
        if block.language == "sh" and next_block.language == "json":
            (command,) = block.commands()
            pairs.append(pytest.param(command, json.loads(next_block.text), id=command))
    return pairs


def assert_same_shape(documented: Any, printed: Any, path: str) -> None:
    """Compare keys and types. "..." stands for anything, the first element of a list for every element."""
    if documented == "...":
        return
    if isinstance(documented, dict):
        assert documented.keys() == printed.keys(), path
        for key, value in documented.items():
            assert_same_shape(value, printed[key], f"{path}.{key}")
    elif isinstance(documented, list):
        assert isinstance(printed, list), path
        for value in printed if documented else ():
            assert_same_shape(documented[0], value, f"{path}[]")
    elif isinstance(documented, bool) or documented is None:
        assert type(documented) is type(printed), path
    elif isinstance(documented, int | float):
        assert isinstance(printed, int | float) and not isinstance(printed, bool), path
    else:
        assert isinstance(printed, str), path


@pytest.mark.parametrize(("command", "shape"), documented_shapes())
def test_json_is_printed_as_documented(command, shape, workspace, monkeypatch, capsys):
    monkeypatch.chdir(workspace)
    if command.startswith("cat "):
        text = Path(command.removeprefix("cat ")).read_text(encoding="utf-8")
    else:
        capsys.readouterr()
        assert invoke(limit(split_command(command))) == 0
        text = capsys.readouterr().out
    objects = text.splitlines() if command.split()[1] in ("predict", "sample") else [text]
    assert objects
    for value in objects:
        assert_same_shape(shape, json.loads(value, parse_constant=pytest.fail), command)


def test_exit_codes_are_those_of_the_errors():
    documented = {int(code) for code in re.findall(r"^\| (\d+) \|", RELIABILITY.read_text(encoding="utf-8"), re.M)}
    raised = {cls.exit_code for cls in ThalwegError.__subclasses__()}
    others = {0, exit_codes.UNEXPECTED_ERROR, exit_codes.INTERRUPTED, exit_codes.BROKEN_PIPE}
    assert documented == raised | others


# --- what is generated, linked, counted -------------------------------------------------------------------------------


def import_script(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"documents_{path.stem}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(__import__("sys").modules, spec.name, module)  # dataclasses look their module up
        spec.loader.exec_module(module)
    return module


def test_results_are_what_the_script_prints():
    printed = import_script(ROOT / "docs" / "results.py").format_results()
    assert (ROOT / "docs" / "results.md").read_text(encoding="utf-8") == printed, "run `make results`"


def test_the_gallery_lists_every_concept():
    printed = import_script(ROOT / "docs" / "gallery.py").format_readme()
    assert (ROOT / "docs" / "gallery" / "README.md").read_text(encoding="utf-8") == printed, "run `make gallery`"


@pytest.mark.parametrize("document", DOCUMENTS, ids=NAMES)
def test_every_link_leads_to_a_file(document):
    for target in re.findall(r"\]\(([^)#]+)", document.read_text(encoding="utf-8")):
        assert target.startswith("https://") or (document.parent / target).exists(), target


def test_every_plot_of_the_gallery_is_linked():
    text = (ROOT / "docs" / "gallery" / "README.md").read_text(encoding="utf-8")
    for path in (ROOT / "docs" / "gallery").iterdir():
        assert path.name == "README.md" or f"({path.name})" in text, path


def test_every_picture_is_linked():
    texts = "".join(document.read_text(encoding="utf-8") for document in DOCUMENTS)
    for path in (ROOT / "docs" / "pictures").iterdir():
        assert f"pictures/{path.name})" in texts, path


def test_percentages_of_the_readme_are_results():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    results = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    percentages = re.findall(r"\d+\.\d+ %", readme)
    assert percentages
    for percentage in percentages:
        assert percentage in results, percentage


def test_the_readme_fits_on_a_screen_and_a_half_and_counts_right():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(readme.splitlines()) <= 90
    assert "Sixteen concepts" in readme and len(registry.get_concepts()) == 16
    for name in registry.get_tasks():
        assert f"`{name}`" in readme
    script = ROOT / "examples" / "from_scratch" / "supervised.py"
    assert f"in {len(script.read_text(encoding='utf-8').splitlines())} lines" in readme


def test_every_task_and_recipe_option_is_documented_where_promised():
    data = (ROOT / "docs" / "data.md").read_text(encoding="utf-8")
    for name in registry.get_tasks():
        assert f"`{name}`" in data
    for row in api.list_datasets():
        assert f"`{row['name']}`" in data


def test_the_rooms_of_the_architecture_are_those_of_the_law():
    spec = importlib.util.spec_from_file_location("architecture", ROOT / "tests" / "laws" / "test_architecture.py")
    assert spec is not None and spec.loader is not None
    law = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(law)
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    table = text[text.index("| room |") : text.index("`recipes/` and")]
    rooms = []
    for row in table.strip().splitlines()[2:]:
        rooms += [name.rstrip("/") for name in re.findall(r"`([\w/]+)`", row.split("|")[1])]
    assert tuple(rooms) == law.ROOMS
    assert f"{law.LINES_OF_A_FUNCTION} lines per function, {law.LINES_OF_A_FILE} lines per file" in text
    assert f"(a task {law.LINES_OF_A_TASK})" in text


def test_the_spine_is_files_that_exist():
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    spine = text[text.index("## The spine") : text.index("## The contract")]
    files = [name for name in re.findall(r"`([\w/]+\.py)`", spine)]
    assert len(files) == 7
    for name in files:
        assert (ROOT / "src" / "thalweg" / name).is_file(), name


# --- the package ------------------------------------------------------------------------------------------------------


def test_versions_agree():
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"version: {thalweg.__version__}\n" in citation
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.findall(r"^## (\d+\.\d+\.\d+)", changelog, re.M)[0] == thalweg.__version__


def test_every_file_of_the_package_is_installed():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    patterns = project["tool"]["setuptools"]["package-data"]["thalweg"]
    package = ROOT / "src" / "thalweg"
    for path in package.rglob("*"):
        if path.is_file() and path.suffix not in (".py", ".pyc") and not path.name.startswith("."):
            name = path.relative_to(package).as_posix()
            assert any(fnmatch(name, pattern) for pattern in patterns), name
