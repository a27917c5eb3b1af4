"""What all tests share: where real data is, a free port, no network, few threads."""

from __future__ import annotations

import os
import signal
import socket
from pathlib import Path

import pytest
from hypothesis import settings
from jaxtyping import install_import_hook

# before any import of thalweg, because shapes and types are checked only in modules that are imported later
CHECKED = ["thalweg.layers", "thalweg.losses", "thalweg.metrics", "thalweg.attribution"]
install_import_hook(CHECKED, "beartype.beartype")

os.environ.setdefault("OMP_NUM_THREADS", "1")
# a runner that was started with nohup ignores it, and so would every process that the tests start
if hasattr(signal, "SIGHUP"):
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
# No deadline: other machines, and this one when it is busy, are slower. The examples are the same in every run, so that
# a change is judged by what it changes; new ones are looked for by `make hunt`.
settings.register_profile("same", deadline=None, derandomize=True)
settings.register_profile("hunt", deadline=None, max_examples=1000)
settings.load_profile("same")


@pytest.fixture
def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real data sets: THALWEG_DATA, or shared/data beside the repository; skips where neither is."""
    here = Path(__file__).resolve().parent.parent
    for folder in (os.environ.get("THALWEG_DATA"), here.parent / "shared" / "data"):
        if folder and (Path(folder) / "mnist").is_dir():
            return Path(folder)
    pytest.skip("no real data: set THALWEG_DATA to a folder that holds mnist/, handdrawn/, …")
