"""Every error becomes a line on standard error and an exit code that scripts rely on."""

import errno
import subprocess
import sys

import pytest

from thalweg import errors
from thalweg.cli import main


def failing(error):
    def action():
        raise error

    return action


def run_with_exit_code(action):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(main, "run_command", lambda words: action())
        return main.invoke([])


def subclasses(cls):
    return [cls, *(each for child in cls.__subclasses__() for each in subclasses(child))]


CODES = {
    "OptionError": 2,
    "NotFoundError": 2,
    "RunLockedError": 2,
    "DataError": 3,
    "ModelFileError": 4,
    "ResourceError": 5,
    "NonFiniteError": 6,
    "ExportError": 7,
    "InterruptedTrainingError": 143,
}


@pytest.mark.parametrize("cls", subclasses(errors.ThalwegError)[1:], ids=lambda cls: cls.__name__)
def test_each_error_gives_its_code_and_two_lines(cls, capsys):
    code = run_with_exit_code(failing(cls("digit.png is cut off.", cure="Copy it again.")))
    shown = capsys.readouterr()
    assert code == CODES[cls.__name__]
    assert shown.out == ""
    # stopping on request is not an error
    assert shown.err == ("" if code == 143 else "error: ") + "digit.png is cut off.\n  Copy it again.\n"


def test_the_number_an_action_returns_is_the_code():
    assert run_with_exit_code(lambda: None) == 0
    assert run_with_exit_code(lambda: 3) == 3
    assert run_with_exit_code(lambda: "a text") == 0


def test_system_exit_keeps_its_code():
    assert run_with_exit_code(failing(SystemExit(4))) == 4
    assert run_with_exit_code(failing(SystemExit(None))) == 0


def test_keyboard_interrupt_is_130(capsys):
    assert run_with_exit_code(failing(KeyboardInterrupt())) == 130
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes"),
        OSError(errno.ENOSPC, "No space left on device", "runs/a/weights"),
        OSError(errno.EDQUOT, "Disk quota exceeded"),
        OSError(errno.EROFS, "Read-only file system", "runs"),
        PermissionError(errno.EACCES, "Permission denied", "runs"),
        OSError(errno.ENAMETOOLONG, "File name too long", "x" * 300),
        FileExistsError(errno.EEXIST, "File exists", "runs"),
        NotADirectoryError(errno.ENOTDIR, "Not a directory", "runs/a"),
    ],
    ids=["memory", "torch memory", "full", "quota", "read-only", "permission", "long name", "a file", "below a file"],
)
def test_environment_errors_are_5_with_a_cure(error, capsys):
    assert run_with_exit_code(failing(error)) == 5
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2 and lines[0].startswith("error: ")
    if getattr(error, "filename", None):
        assert error.filename in lines[0]


def test_torch_out_of_memory_on_a_device_is_5():
    torch = pytest.importorskip("torch")
    assert run_with_exit_code(failing(torch.OutOfMemoryError("CUDA out of memory"))) == 5


def test_an_unexpected_error_is_one_line_with_its_place(capsys, monkeypatch):
    monkeypatch.delenv("THALWEG_DEBUG", raising=False)

    def broken():
        raise ValueError("no such\nthing")

    assert run_with_exit_code(broken) == 1
    shown = capsys.readouterr().err
    first = shown.splitlines()[0]
    assert all(part in first for part in ("ValueError: no such thing", "test_exit_codes.py", "in broken"))
    assert "Traceback" not in shown and "THALWEG_DEBUG=1" in shown


def test_file_not_found_without_handling_is_unexpected():
    assert run_with_exit_code(failing(FileNotFoundError(errno.ENOENT, "No such file", "x"))) == 1


def test_the_traceback_is_shown_on_request(capsys, monkeypatch):
    monkeypatch.setenv("THALWEG_DEBUG", "1")
    run_with_exit_code(failing(ValueError("no such thing")))
    assert "Traceback (most recent call last)" in capsys.readouterr().err


def test_own_errors_never_print_a_traceback(capsys, monkeypatch):
    monkeypatch.setenv("THALWEG_DEBUG", "1")
    run_with_exit_code(failing(errors.DataError("bad.png is cut off.")))
    assert "Traceback" not in capsys.readouterr().err


def test_messages_cannot_control_the_terminal(capsys):
    run_with_exit_code(failing(errors.DataError("\x1b[2Jgone.png: cut off", cure="look at \x1b]0;title\x07")))
    shown = capsys.readouterr().err
    assert "\x1b" not in shown and "\x07" not in shown and "\\x1b[2Jgone.png" in shown


def test_a_reader_that_leaves_is_not_reported():
    program = (
        "from thalweg.cli import main\nfrom thalweg.cli.console import print_result as out\n"
        "def action(words):\n    for number in range(100_000): out(str(number))\n"
        "main.run_command = action\nmain.main()\n"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"0\n"
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 141
