"""The house has laws, and this file reads the source to see that they are kept. To raise a limit, edit it here."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import thalweg
from thalweg import errors

ROOT = Path(thalweg.__file__).parent
TESTS = Path(__file__).resolve().parent.parent
FILES = sorted(ROOT.rglob("*.py"))

#: folder -> the parts of the package that it may import; it may always import itself
FOLDERS = {
    "layers": {"errors"},
    "models": {"layers", "errors", "registry"},
    "losses": {"errors"},
    "metrics": {"errors"},
    "draw": {"errors"},
    "explain": {"data.stream", "draw", "errors", "layers", "losses", "metrics", "models", "objectives", "options"}
    | {"registry", "train"},
    "subjects": {"data", "errors", "foreign", "models", "options", "predict", "registry", "run", "seeing", "tasks"}
    | {"trail", "train", "trained"},
    "objectives": {"losses"},
    "train": {"objectives", "errors", "data.stream"},
    "data": {"errors", "fetch"},
    "recipes": {"errors", "options", "registry"},
    "tasks": {"data", "draw", "errors", "layers", "losses", "metrics", "models", "objectives", "options", "registry"}
    | {"seeing"},
}
#: file at the top -> the same
TOP = {
    "version": set(),
    "errors": set(),
    "registry": {"elsewhere", "errors"},
    "elsewhere": {"errors"},
    "options": {"errors"},
    "cli": {
        *("answers", "cli_data", "cli_explain", "cli_weights", "console", "doctor", "errors", "exits", "flags", "lazy"),
        *("options", "version"),
    },
    "cli_explain": {"answers", "console", "errors", "flags", "lazy"},
    "cli_data": {"answers", "console", "errors", "lazy"},
    "cli_weights": {"console", "lazy"},
    "lazy": {"api"},
}
PURE = ("layers", "losses", "metrics", "draw", "explain")
OUTSIDE = {
    "glob",
    "http",
    "logging",
    "os",
    "pathlib",
    "shutil",
    "socket",
    "subprocess",
    "sys",
    "tempfile",
    "urllib",
}
READS_OR_WRITES = {
    "open",
    "FileIO",
    "print",
    "input",
    "read_bytes",
    "read_text",
    "write_bytes",
    "write_text",
    "savefig",
    "tofile",
}
LINES_OF_A_FILE, LINES_OF_A_FUNCTION, LINES_OF_TRAIN, LINES_OF_A_TASK = 400, 60, 960, 250


@cache
def tree(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"))


def name_of(file: Path) -> str:
    """'data.stream' of src/thalweg/data/stream.py; the package itself is ''."""
    return ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix("__init__").rstrip(".")


def ours(file: Path, only_at_import: bool = False) -> set[str]:
    """The modules of the package that a file imports ('errors', 'data.stream'), not what only type checkers read."""
    known = {name_of(f) for f in FILES}
    found = set()
    for node in imports(tree(file), only_at_import):
        if isinstance(node, ast.Import):
            found |= {
                a.name.removeprefix("thalweg").lstrip(".") for a in node.names if a.name.split(".")[0] == "thalweg"
            }
            continue
        parts = ("thalweg", *file.relative_to(ROOT).parts[:-1])
        base = [*parts[: len(parts) - node.level + 1]] if node.level else []
        module = ".".join([*base, *([node.module] if node.module else [])])
        if module.split(".")[0] != "thalweg":
            continue
        module = module.removeprefix("thalweg").lstrip(".")
        for alias in node.names:
            whole = f"{module}.{alias.name}".lstrip(".")
            found.add(whole if whole in known else module)
    return found - {""}


def imports(node: ast.AST, only_at_import: bool) -> Iterator[ast.Import | ast.ImportFrom]:
    """Every import below a node, in functions too unless told otherwise, but not under `if TYPE_CHECKING`."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, (ast.Import, ast.ImportFrom)):
            yield child
        elif isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            yield from imports(ast.Module(child.orelse, []), only_at_import)
        elif not (only_at_import and isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))):
            yield from imports(child, only_at_import)


def packages(file: Path) -> set[str]:
    """The first names of all foreign packages that a file imports anywhere."""
    found = set()
    for node in ast.walk(tree(file)):
        if isinstance(node, ast.Import):
            found |= {a.name.split(".")[0] for a in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found.add(node.module.split(".")[0])
    return found


def allowed(module: str, names: set[str]) -> bool:
    return any(module == name or module.startswith(name + ".") for name in names)


@pytest.mark.parametrize("folder", FOLDERS)
def test_folders_import_only_what_they_may(folder):
    for file in sorted((ROOT / folder).rglob("*.py")):
        wrong = [m for m in ours(file) if not allowed(m, FOLDERS[folder] | {folder})]
        assert not wrong, f"{folder}/{file.name} imports {', '.join(wrong)}"


@pytest.mark.parametrize("name", TOP)
def test_the_lowest_and_the_highest_files_import_only_what_they_may(name):
    wrong = [m for m in ours(ROOT / f"{name}.py") if not allowed(m, TOP[name])]
    assert not wrong, f"{name}.py imports {', '.join(wrong)}"


def test_every_folder_has_a_law():
    assert {f.parent.name for f in FILES if f.parent != ROOT} == set(FOLDERS)


def test_nothing_imports_the_command_line():
    for file in FILES:
        if file.name != "__main__.py":
            assert not any(allowed(m, {"cli"}) for m in ours(file)), file


def test_only_the_surfaces_import_the_facade():
    for file in FILES:
        if name_of(file) not in ("", "lazy", "__main__"):
            assert "api" not in ours(file), file


def test_nothing_is_imported_in_a_circle():
    """At import; a function may import upwards."""
    graph = {name_of(f): {m for m in ours(f, only_at_import=True)} for f in FILES}
    done: set[str] = set()

    def visit(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, " imports ".join((*path, module))
        if module not in done:
            for below in graph.get(module, ()):
                visit(below, (*path, module))
            done.add(module)

    for module in graph:
        visit(module, ())


def test_pictures_and_files_are_read_without_torch():
    for file in (ROOT / "data").glob("*.py"):
        if file.stem not in ("stream", "augment", "pad"):
            assert "torch" not in packages(file), file


@pytest.mark.parametrize("folder", PURE)
def test_pure_folders_touch_nothing_outside(folder):
    for file in (ROOT / folder).glob("*.py"):
        assert not packages(file) & OUTSIDE, file
        for node in ast.walk(tree(file)):
            if isinstance(node, ast.Call):
                called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
                assert called not in READS_OR_WRITES, f"{file}:{node.lineno} calls {called}"


@pytest.mark.parametrize(
    "package", ["torchvision", "pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"]
)
def test_nothing_imports(package):
    """The reader of CIFAR's batches brings a reader of pickles of its own, which makes arrays and nothing else."""
    for file in FILES:
        if package == "pickle" and name_of(file) == "data.cifar":
            continue
        assert package not in packages(file), file


def test_nothing_runs_what_it_reads():
    for file in FILES:
        for node in ast.walk(tree(file)):
            if not isinstance(node, ast.Call):
                continue
            called, where = ast.unparse(node.func), f"{file}:{node.lineno}"
            given = {k.arg: ast.unparse(k.value) for k in node.keywords}
            if called == "torch.load" and name_of(file) == "foreign":
                assert given.get("weights_only") == "True", where
                continue
            assert called not in ("eval", "exec", "compile", "__import__", "torch.load", "torch.save", "os.system"), (
                where
            )
            assert called not in ("yaml.load", "yaml.unsafe_load", "yaml.full_load"), where
            assert not (called == "pickle.loads" or called == "pickle.load"), where
            assert given.get("allow_pickle", "False") == "False" and given.get("shell", "False") == "False", where
            if called == "np.load":
                assert given.get("allow_pickle") == "False", where


def test_files_and_functions_stay_small():
    for file in FILES:
        lines = len(file.read_text(encoding="utf-8").splitlines())
        limit = LINES_OF_A_TASK if file.parent.name == "tasks" else LINES_OF_A_FILE
        assert lines < limit, f"{file} has {lines} lines"
        for node in ast.walk(tree(file)):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                length = node.end_lineno - node.lineno + 1
                assert length < LINES_OF_A_FUNCTION, f"{file}:{node.lineno} {node.name} has {length} lines"


def test_the_loop_stays_small():
    assert sum(len(f.read_text(encoding="utf-8").splitlines()) for f in (ROOT / "train").glob("*.py")) < LINES_OF_TRAIN


def public(node: ast.AST, path: str) -> Iterator[tuple[str, ast.AST]]:
    """Public classes, functions, and the methods of public classes."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, (ast.FunctionDef, ast.ClassDef)) and not child.name.startswith("_"):
            yield f"{path}.{child.name}", child
            if isinstance(child, ast.ClassDef):
                yield from public(child, f"{path}.{child.name}")


@pytest.mark.parametrize("file", FILES, ids=name_of)
def test_every_public_name_says_what_it_is(file):
    assert ast.get_docstring(tree(file)), f"{file} has no docstring"
    silent = [name for name, node in public(tree(file), file.stem) if not ast.get_docstring(node)]
    assert not silent, ", ".join(silent)


def test_text_is_always_read_and_written_as_utf_8():
    for file in FILES:
        for node in ast.walk(tree(file)):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                if node.func.attr in ("read_text", "write_text"):
                    assert any(k.arg == "encoding" for k in node.keywords), f"{file}:{node.lineno}"


def test_no_path_of_one_machine_is_in_the_source():
    folders = ("/".join(("", "work", "")), "/".join(("", "root", "")), "/".join(("", "tmp", "")))
    for file in FILES:
        text = file.read_text(encoding="utf-8")
        assert not any(folder in text for folder in folders), file


# --- what users hold on to -------------------------------------------------------------------------------------------


def test_the_public_names():
    assert thalweg.__all__ == ["Run", "explain", "load", "models", "recipes", "tasks", "train"]
    for name in thalweg.__all__:
        assert getattr(thalweg, name) is not None
    assert set(thalweg.__all__) <= set(dir(thalweg))
    assert re.fullmatch(r"\d+\.\d+\.\d+\S*", thalweg.__version__)
    with pytest.raises(AttributeError, match="has no attribute 'trian'"):
        thalweg.trian  # noqa: B018 - the access is what is tested


@pytest.mark.parametrize("module", ["thalweg", "thalweg.cli", "thalweg.config.options", "thalweg.data.images.load"])
def test_importing_brings_nothing_heavy(module):
    heavy = "{'torch', 'matplotlib', 'sklearn', 'scipy'}"
    program = f"import sys, {module}; print(*sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def error_classes() -> list[type]:
    return [e for e in vars(errors).values() if isinstance(e, type) and issubclass(e, errors.ThalwegError)]


def test_every_error_has_the_exit_code_that_the_tree_draws():
    drawn = dict(re.findall(r"[├└]── (\w+) .*?(\d+)$", errors.__doc__, re.MULTILINE))
    made = {e.__name__: str(e.exit_code) for e in error_classes() if e is not errors.ThalwegError}
    assert made == drawn
    codes = {
        "OptionError": 2,
        "DataError": 3,
        "ModelFileError": 4,
        "ResourceError": 5,
        "NonFinite": 6,
        "ExportError": 7,
    }
    assert {**codes, "NotFound": 2, "Busy": 2, "Stopped": 143} == {k: int(v) for k, v in drawn.items()}


def test_every_error_is_raised_in_a_test():
    expected = set()
    for file in TESTS.rglob("test_*.py"):
        for node in ast.walk(tree(file)):
            if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("raises") and node.args:
                expected |= set(re.findall(r"\w+", ast.unparse(node.args[0])))
    missing = {e.__name__ for e in error_classes() if e is not errors.ThalwegError} - expected
    assert not missing, ", ".join(missing)


def test_an_error_says_what_is_wrong_and_on_a_line_of_its_own_what_to_do():
    assert str(errors.DataError("pictures/a.png is empty.")) == "pictures/a.png is empty."
    assert str(errors.DataError("a.png is empty.", cure="Delete it.")) == "a.png is empty.\n  Delete it."
    error = errors.NonFiniteError("No number.", step=7, rows=(1, 2))
    assert (error.step, error.indices, error.exit_code) == (7, (1, 2), 6)
    assert str(errors.NotFoundError.for_unknown("model", "lenett", ["mlp", "lenet"])).endswith("Did you mean 'lenet'?")
    assert str(errors.NotFoundError.for_unknown("model", "zzz", ["mlp", "lenet"])).endswith("Known: lenet, mlp.")
    assert str(errors.NotFoundError.for_unknown("model", "zzz", [])).endswith("Known: none.")
