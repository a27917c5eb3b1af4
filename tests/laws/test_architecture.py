"""Laws of the source itself. To raise a limit, edit it here, in the same change."""

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

#: A room may import the rooms before it, and itself; never one behind it, also not inside a function.
ROOMS = (
    "version",
    "errors",
    "registry",
    "config",
    "io",
    "layers",
    "losses",
    "metrics",
    "plots",
    "models",
    "data",
    "objectives",
    "engine",
    "predictions",
    "attribution",
    "concepts",
    "weights",
    "tasks",
    "pages",
    "runs",
    "training",
    "inference",
    "api",
    "cli",
    "__main__",
)
#: rooms without input, output or state
PURE = ("layers", "losses", "metrics", "plots")
SYSTEM_PACKAGES = {"glob", "http", "logging", "os", "pathlib", "shutil", "socket", "subprocess", "sys", "tempfile"}
SYSTEM_PACKAGES |= {"urllib"}
INPUT_OUTPUT = {"open", "FileIO", "print", "input", "read_bytes", "read_text", "write_bytes", "write_text"}
INPUT_OUTPUT |= {"savefig", "tofile"}
LINES_OF_A_FILE, LINES_OF_A_FUNCTION, LINES_OF_A_TASK, FILES_AT_THE_TOP = 500, 75, 350, 8

#: what no file of the house may speak of: the house knows no task
HOUSE = ("config", "io", "engine", "pages", "runs", "training", "inference", "cli")
HOUSE_FILES = ("api.py", "registry.py", "errors.py", "predictions/base.py", "tasks/base.py", "data/base.py")
#: loaders of what concepts are about are of the kind that they load
NOT_HOUSE = ("inference/inputs",)
TASK_WORDS = re.compile(
    r"\b(classify|classifier|classes|labels|accuracy|confusion|handwriting|drawings?|mnist|alphabet|frechet|latent|"
    r"discriminator|boxes|keypoints|perplexity|photos?|logits|softmax|top k|tta|bleu|horizon)\b",
    re.IGNORECASE,
)
#: names of layers in published models, by which --freeze finds their head
ALLOWED_WORDS = {("engine/freezing.py", "classifier")}


@cache
def parse(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"))


def module_name(file: Path) -> str:
    """'data.batches' of src/thalweg/data/batches.py; the package itself is ''."""
    return ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix("__init__").rstrip(".")


def room_of(module: str) -> str:
    return module.split(".")[0]


def own_imports(file: Path) -> set[str]:
    """The modules of the package that a file imports anywhere, but for type checkers only."""
    known = {module_name(other) for other in FILES}
    modules = set()
    for node in import_nodes(parse(file)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names if alias.name.split(".")[0] == "thalweg"]
            modules |= {name.removeprefix("thalweg").lstrip(".") for name in names}
            continue
        package = ("thalweg", *file.relative_to(ROOT).parts[:-1])
        base = [*package[: len(package) - node.level + 1]] if node.level else []
        module = ".".join([*base, *([node.module] if node.module else [])])
        if module.split(".")[0] != "thalweg":
            continue
        module = module.removeprefix("thalweg").lstrip(".")
        for alias in node.names:
            full = f"{module}.{alias.name}".lstrip(".")
            modules.add(full if full in known else module)
    return modules - {""}


def import_nodes(node: ast.AST) -> Iterator[ast.Import | ast.ImportFrom]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import | ast.ImportFrom):
            yield child
        elif isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            yield from import_nodes(ast.Module(child.orelse, []))
        else:
            yield from import_nodes(child)


def foreign_packages(file: Path) -> set[str]:
    packages = set()
    for node in ast.walk(parse(file)):
        if isinstance(node, ast.Import):
            packages |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
            packages.add(node.module.split(".")[0])
    return packages


# --- rooms ------------------------------------------------------------------------------------------------------------


def test_every_folder_is_a_room():
    folders = {path.name for path in ROOT.iterdir() if path.is_dir() and any(path.rglob("*.py"))}
    assert folders <= set(ROOMS), folders - set(ROOMS)
    assert len(list(ROOT.glob("*.py"))) <= FILES_AT_THE_TOP


@pytest.mark.parametrize("room", [room for room in ROOMS if (ROOT / room).is_dir() or (ROOT / f"{room}.py").is_file()])
def test_a_room_imports_only_rooms_before_it(room):
    allowed = set(ROOMS[: ROOMS.index(room) + 1])
    for file in FILES:
        if room_of(module_name(file)) == room:
            wrong = sorted(module for module in own_imports(file) if room_of(module) not in allowed)
            assert not wrong, f"{module_name(file)} imports {', '.join(wrong)}"


def test_no_module_is_imported_in_a_circle_also_not_inside_functions():
    graph = {module_name(file): own_imports(file) for file in FILES}
    done: set[str] = set()

    def visit(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, " imports ".join((*path, module))
        if module not in done:
            for imported in graph.get(module, ()):
                visit(imported, (*path, module))
            done.add(module)

    for module in graph:
        visit(module, ())


def test_data_is_read_without_torch():
    with_torch = {"batches.py", "input_spec.py", "transfer.py", "validate.py", "samples.py"}
    with_torch |= {"augment.py", "photo_augment.py", "augment_policy.py"}
    with_torch |= {"decoded_batches.py", "padded_batches.py"}
    for file in (ROOT / "data").rglob("*.py"):
        if file.name not in with_torch:
            assert "torch" not in foreign_packages(file), file


@pytest.mark.parametrize("room", PURE)
def test_pure_rooms_touch_nothing_outside(room):
    for file in (ROOT / room).rglob("*.py"):
        assert not foreign_packages(file) & SYSTEM_PACKAGES, file
        for node in ast.walk(parse(file)):
            if isinstance(node, ast.Call):
                called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
                into_memory = ast.unparse(node.func) == "av.open"
                assert into_memory or called not in INPUT_OUTPUT, f"{file}:{node.lineno} calls {called}"


def house_files() -> list[Path]:
    files = [ROOT / name for name in HOUSE_FILES]
    for room in HOUSE:
        files += sorted((ROOT / room).rglob("*.py"))
    return [file for file in files if not any(part in str(file) for part in NOT_HOUSE)]


def words_of(file: Path) -> Iterator[tuple[int, str]]:
    """Line and text of every name and every string that is not a docstring."""
    tree = parse(file)
    docstrings = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node):
            docstrings.add(id(node.body[0].value))
    for node in ast.walk(tree):
        line = getattr(node, "lineno", 0)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
            yield line, node.value
        for field in ("id", "attr", "arg", "name"):
            name = getattr(node, field, None)
            if isinstance(name, str):
                yield line, name.replace("_", " ")


def test_the_house_speaks_of_no_task():
    hits = []
    for file in house_files():
        relative = str(file.relative_to(ROOT))
        for line, text in words_of(file):
            match = TASK_WORDS.search(text)
            if match and (relative, match[0]) not in ALLOWED_WORDS:
                hits.append(f"{relative}:{line} {match[0]!r} in {text[:60]!r}")
    assert not hits, "\n".join(hits)


# --- safety -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "package", ["torchvision", "pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"]
)
def test_no_file_imports(package):
    """The reader of CIFAR's batches brings an unpickler of its own, which makes arrays and nothing else."""
    for file in FILES:
        if package == "pickle" and module_name(file) == "data.images.cifar":
            continue
        assert package not in foreign_packages(file), file


def test_no_file_runs_what_it_reads():
    refused = ("eval", "exec", "compile", "__import__", "torch.load", "torch.save", "os.system", "pickle.loads")
    for file in FILES:
        for node in ast.walk(parse(file)):
            if not isinstance(node, ast.Call):
                continue
            called = ast.unparse(node.func)
            where = f"{file}:{node.lineno}"
            keywords = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
            if called == "torch.load" and module_name(file) == "weights.files":
                assert keywords.get("weights_only") == "True", where
                continue
            assert called not in (*refused, "pickle.load", "yaml.load", "yaml.unsafe_load", "yaml.full_load"), where
            assert keywords.get("allow_pickle", "False") == "False", where
            assert keywords.get("shell", "False") == "False", where
            if called == "np.load":
                assert keywords.get("allow_pickle") == "False", where


def test_text_files_are_read_and_written_as_utf8():
    for file in FILES:
        for node in ast.walk(parse(file)):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                if node.func.attr in ("read_text", "write_text"):
                    assert any(keyword.arg == "encoding" for keyword in node.keywords), f"{file}:{node.lineno}"


def test_no_path_of_one_machine_is_in_the_source():
    folders = ("/".join(("", "work", "")), "/".join(("", "root", "")), "/".join(("", "tmp", "")))
    for file in FILES:
        text = file.read_text(encoding="utf-8")
        assert not any(folder in text for folder in folders), file


# --- sizes ------------------------------------------------------------------------------------------------------------


def test_files_and_functions_stay_small():
    for file in FILES:
        lines = len(file.read_text(encoding="utf-8").splitlines())
        limit = LINES_OF_A_TASK if file.parent.name == "tasks" and file.name != "base.py" else LINES_OF_A_FILE
        assert lines <= limit, f"{file} has {lines} lines"
        for node in ast.walk(parse(file)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                length = node.end_lineno - node.lineno + 1
                assert length <= LINES_OF_A_FUNCTION, f"{file}:{node.lineno} {node.name} has {length} lines"


def test_no_conditional_expression_is_inside_another():
    for file in FILES:
        for node in ast.walk(parse(file)):
            if isinstance(node, ast.IfExp):
                inner = [other for other in ast.walk(node) if isinstance(other, ast.IfExp) and other is not node]
                assert not inner, f"{file}:{node.lineno}"


@pytest.mark.parametrize("file", FILES, ids=module_name)
def test_every_file_has_a_docstring(file):
    assert ast.get_docstring(parse(file))


# --- what users rely on -----------------------------------------------------------------------------------------------


def test_the_public_names():
    assert thalweg.__all__ == ["Run", "explain", "list_models", "list_recipes", "list_tasks", "load", "train"]
    for name in thalweg.__all__:
        assert callable(getattr(thalweg, name))
    assert set(thalweg.__all__) <= set(dir(thalweg))
    assert re.fullmatch(r"\d+\.\d+\.\d+\S*", thalweg.__version__)
    with pytest.raises(AttributeError):
        thalweg.trian  # noqa: B018 - the access is what is tested


def test_the_api_exports_exactly_what_it_defines():
    from thalweg import api

    defined = set()
    for node in parse(ROOT / "api.py").body:
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
            defined.add(node.name)
    assert defined <= set(api.__all__)
    assert api.__all__ == sorted(api.__all__)
    for name in api.__all__:
        assert getattr(api, name) is not None


@pytest.mark.parametrize(
    "module", ["thalweg", "thalweg.cli.main", "thalweg.config.options", "thalweg.data.images.load"]
)
def test_importing_brings_nothing_heavy(module):
    heavy = "{'torch', 'matplotlib', 'sklearn', 'scipy'}"
    program = f"import sys, {module}; print(*sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def error_classes() -> list[type]:
    return [e for e in vars(errors).values() if isinstance(e, type) and issubclass(e, errors.ThalwegError)]


def test_every_error_has_the_exit_code_of_the_docstring():
    documented = dict(re.findall(r"[├└]── (\w+) .*?(\d+)$", errors.__doc__, re.MULTILINE))
    defined = {cls.__name__: str(cls.exit_code) for cls in error_classes() if cls is not errors.ThalwegError}
    assert defined == documented


def test_every_error_is_raised_in_a_test():
    raised = set()
    for file in TESTS.rglob("test_*.py"):
        for node in ast.walk(parse(file)):
            if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("raises") and node.args:
                raised |= set(re.findall(r"\w+", ast.unparse(node.args[0])))
    missing = {cls.__name__ for cls in error_classes() if cls is not errors.ThalwegError} - raised
    assert not missing, ", ".join(missing)


def test_an_error_shows_message_and_cure_and_carries_its_data():
    assert str(errors.DataError("images/a.png is empty.")) == "images/a.png is empty."
    error = errors.DataError("a.png is empty.", "Delete it.", path="a.png", line=3)
    assert str(error) == "a.png is empty.\n  Delete it."
    assert (error.path, error.line, error.option, error.value) == ("a.png", 3, None, None)
    diverged = errors.NonFiniteError("NaN.", step=7, indices=(1, 2))
    assert (diverged.step, diverged.indices, diverged.exit_code) == (7, (1, 2), 6)
    unknown = errors.NotFoundError.for_unknown("model", "lenett", ["mlp", "lenet"])
    assert unknown.value == "lenett" and unknown.allowed == ["lenet", "mlp"] and "'lenet'" in unknown.cure
    assert errors.NotFoundError.for_unknown("model", "zzz", ["mlp", "lenet"]).cure == "Known: lenet, mlp."
    assert errors.NotFoundError.for_unknown("model", "zzz", []).cure == "Known: none."
