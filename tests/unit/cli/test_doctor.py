"""The doctor finds wrong versions, a torch that crashes, full disks, misspelled variables, damaged runs."""

import shutil
import sys
from collections import namedtuple
from pathlib import Path

import pytest

from thalweg.cli import doctor

Usage = namedtuple("Usage", ["total", "used", "free"])


def statuses(checks):
    return [check.status for check in checks]


def test_requirements_are_read_from_the_package_metadata():
    requirements = {name: (floor, extra) for name, floor, extra in doctor.list_requirements()}
    assert requirements["torch"] == ("2.10", "")
    assert requirements["onnx"][1] == "onnx"
    assert "pytest" not in requirements


def test_versions_compare_as_numbers():
    assert doctor.parse_version("2.9.1") < doctor.parse_version("2.10")
    assert doctor.parse_version("2.13.0+cpu") == (2, 13, 0)
    assert doctor.parse_version("2.11rc1") == (2, 11)


def test_missing_and_old_packages_are_problems_with_a_cure(monkeypatch):
    versions = {"pillow": "11.0", "numpy": "2.4.6"}
    monkeypatch.setattr(doctor, "installed_version", versions.get)
    requirements = [("pillow", "12.3", ""), ("numpy", "2.0", ""), ("torch", "2.10", ""), ("onnx", "1.21", "onnx")]
    checks = {check.name: check for check in doctor.check_packages(requirements)}
    assert checks["pillow"].status == "problem" and "12.3" in checks["pillow"].cure
    assert checks["torch"].status == "problem" and checks["torch"].cure == 'pip install "torch>=2.10"'
    assert checks["onnx"].status == "warning" and checks["onnx"].cure == 'pip install "thalweg[onnx]"'
    assert checks["packages"].message == "numpy 2.4.6"


def test_an_uninstalled_package_has_no_version_and_no_requirements():
    assert doctor.installed_version("no-such-package-of-ours") is None
    assert doctor.requirements_of("no-such-package-of-ours") == []
    assert doctor.check_packages([])[0].status == "warning"


@pytest.mark.parametrize(
    ("torch", "vision", "needs", "status"),
    [
        ("2.13.0+cpu", None, [], "ok"),
        ("2.13.0+cpu", "0.28.0+cpu", ["torch==2.13.0"], "ok"),
        ("2.13.0", "0.28.0", ["torch==2.13.0", "numpy"], "ok"),
        ("2.13.0+cpu", "0.28.0", ["torch==2.13.0"], "warning"),
        ("2.13.0+cpu", "0.27.0+cpu", ["torch==2.12.0"], "warning"),
        (None, "0.28.0", ["torch==2.13.0"], "warning"),
    ],
)
def test_torchvision_for_another_torch_is_detected_without_import(torch, vision, needs, status):
    check = doctor.check_torchvision(torch, vision, needs)
    assert check.status == status
    assert "torchvision" not in sys.modules


@pytest.mark.parametrize(
    ("program", "words"),
    [
        ("import no_such_module_of_ours", "No module named"),
        ("import os; os.abort()", "ended with code"),
        ("import time; time.sleep(60)", "does not answer"),
    ],
)
def test_an_unusable_torch_is_a_problem(program, words):
    found = doctor.probe_torch([sys.executable, "-c", program], seconds=1)
    (check,) = doctor.check_torch(found)
    assert check.status == "problem" and words in check.message and check.cure


def test_devices_are_listed_and_too_many_threads_are_a_warning(monkeypatch):
    monkeypatch.setattr(doctor, "count_usable_cores", lambda: 2)
    found = {"version": "2.13", "threads": 8, "instructions": "AVX2", "mps": False, "cuda": [["H200", 2**37, True]]}
    checks = doctor.check_torch(found)
    assert statuses(checks) == ["ok", "warning", "ok"]
    assert checks[1].cure == "export OMP_NUM_THREADS=2"
    assert checks[2].message == "H200, 128 GiB, bfloat16"
    found |= {"threads": 2, "cuda": []}
    assert "CPU" in doctor.check_torch(found)[1].message


def test_instruction_sets_are_whole_words(tmp_path):
    file = tmp_path / "cpuinfo"
    file.write_text("processor : 0\nflags\t\t: fpu avx512_bf16x amx_bf16\n", encoding="utf-8")
    assert doctor.parse_instruction_sets(file) == ["amx_bf16"]
    assert doctor.parse_instruction_sets(tmp_path / "missing") == []


def test_memory_respects_the_limit_of_the_container(tmp_path):
    file, limit = tmp_path / "meminfo", tmp_path / "memory.max"
    file.write_text("MemTotal:       8388608 kB\nMemAvailable:   4194304 kB\n", encoding="utf-8")
    assert doctor.check_memory(file, limit).message == "4.0 of 8.0 GiB free"
    limit.write_text("max\n", encoding="utf-8")
    assert doctor.check_memory(file, limit).message == "4.0 of 8.0 GiB free"
    limit.write_text(str(2**29), encoding="utf-8")
    assert doctor.check_memory(file, limit).status == "warning"
    assert doctor.check_memory(tmp_path / "missing", limit).message == "unknown on this system"


@pytest.mark.parametrize(("free", "status"), [(2**26, "problem"), (2**29, "warning"), (2**31, "ok")])
def test_full_disks_are_reported(free, status, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(2**40, 2**40 - free, free))
    assert statuses(doctor.check_disks({"cache": tmp_path / "not" / "yet"})) == [status]
    assert not (tmp_path / "not").exists()


def test_a_read_only_folder_is_a_warning(tmp_path, monkeypatch):
    monkeypatch.setattr(doctor.os, "access", lambda path, mode: False)
    (check,) = doctor.check_disks({"cache": tmp_path})
    assert check.status == "warning" and "cannot be written" in check.message


def test_misspelled_variables_are_warnings(tmp_path):
    variables = {"THALWEG_OFLINE": "1", "THALWEG_DATA": str(tmp_path / "gone"), "THALWEG_DEBUG": "1", "HOME": "/"}
    checks = {check.name: check for check in doctor.check_environment(variables)}
    assert {name: check.status for name, check in checks.items()} == {
        "THALWEG_OFLINE": "warning",
        "THALWEG_DATA": "warning",
        "THALWEG_DEBUG": "ok",
    }
    assert "THALWEG_OFFLINE" in checks["THALWEG_OFLINE"].cure
    assert doctor.check_environment({"THALWEG_DATA": str(tmp_path)})[0].status == "ok"


def test_data_sets_are_listed_by_whether_they_are_here():
    rows = [{"name": "digits", "where": "installed"}, {"name": "mnist", "where": None}]
    assert doctor.check_datasets(lambda: rows).message == "digits (installed); not here yet: mnist"
    assert doctor.check_datasets(lambda: rows[:1]).message == "digits (installed)"
    assert doctor.check_datasets(lambda: []).message == "none is here"


def test_unlistable_data_sets_are_a_problem():
    def broken():
        raise RuntimeError("no disk")

    check = doctor.check_datasets(broken)
    assert check.status == "problem" and "RuntimeError: no disk" in check.message


def test_lines_begin_with_the_status_and_the_cure_follows():
    checks = [doctor.HealthCheck("a", "ok", "fine"), doctor.HealthCheck("b", "problem", "broken\x1b", "mend it")]
    assert list(doctor.format_checks(checks)) == ["ok       a: fine", "problem  b: broken\\x1b", "         -> mend it"]
    assert not doctor.all_ok(checks) and doctor.all_ok(checks[:1])


def test_this_machine_is_checked_without_importing_torch(monkeypatch):
    monkeypatch.setattr(doctor, "probe_torch", lambda: {"error": "not asked"})
    checks = doctor.run_checks(lambda: [])
    assert {"python", "torchvision", "memory", "cache", "working folder", "data sets"} <= {c.name for c in checks}
    assert [c.name for c in checks if c.status == "problem"] == ["torch"]
    assert Path(doctor.cache_dir()).name


def test_an_interpreter_that_does_not_start_is_a_problem():
    assert "cannot be started" in doctor.probe_torch([str(Path(__file__).parent)])["error"]


def test_a_cache_that_is_a_file_is_a_warning(tmp_path):
    (tmp_path / "file").touch()
    for place in ("file", "file/below"):
        (check,) = doctor.check_disks({"cache": tmp_path / place})
        assert check.status == "warning" and f"{tmp_path / 'file'} is not a folder" in check.message


def test_the_probe_reads_the_real_torch():
    torch = pytest.importorskip("torch")
    found = doctor.probe_torch()
    assert found["version"] == torch.__version__
    assert found["threads"] >= 1 and isinstance(found["instructions"], str)
