"""What does not fit into memory is rejected before it is read."""

import pytest

from thalweg.errors import ResourceError
from thalweg.io import free_memory as memory


def test_free_memory_is_plausible():
    free = memory.get_free_memory()
    assert free is None or 1e6 < free < 1e15


def test_the_smaller_limit_of_machine_and_container_counts(monkeypatch, tmp_path):
    (tmp_path / "meminfo").write_text("MemTotal: 9000 kB\nMemAvailable: 5000 kB\n", encoding="ascii")
    monkeypatch.setattr(memory, "MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(memory, "CGROUP", tmp_path)
    assert memory.get_free_memory() == 5_120_000
    for name, text in {"max": "1000000", "current": "900000", "stat": "anon 1\ninactive_file 300000\n"}.items():
        (tmp_path / f"memory.{name}").write_text(text, encoding="ascii")
    assert memory.get_free_memory() == 400_000
    (tmp_path / "memory.max").write_text("max\n", encoding="ascii")
    assert memory.get_free_memory() == 5_120_000


def test_half_of_the_free_memory_may_be_used(monkeypatch):
    monkeypatch.setattr(memory, "get_free_memory", lambda: 1000)
    memory.require_memory(500, "it", "cure")
    with pytest.raises(ResourceError, match="it needs 501 bytes of memory; 1.0 kB are free") as error:
        memory.require_memory(501, "it", "cure")
    assert (error.value.cure, error.value.value) == ("cure", 501)


def test_an_unknown_amount_rejects_nothing(monkeypatch):
    monkeypatch.setattr(memory, "get_free_memory", lambda: None)
    memory.require_memory(10**18, "it", "cure")


@pytest.mark.parametrize(
    ("size", "text"), [(0, "0 bytes"), (999, "999 bytes"), (9_912_422, "9.9 MB"), (3 * 10**15, "3000.0 TB")]
)
def test_bytes_are_formatted_with_units(size, text):
    assert memory.format_bytes(size) == text
