"""Check the machine: what is installed, what is missing, and what to do about it. Changes nothing.

PyTorch is probed in a process of its own, so that one that crashes or hangs is a line of the report.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import ResourceError, did_you_mean
from ..io.download import cache_dir
from .console import escape_controls

EXIT_CODE = ResourceError.exit_code
GIGABYTE = 2**30

#: the environment variables that Thalweg reads
ENV_VARIABLES = {
    "THALWEG_DATA": "first folder for data sets",
    "THALWEG_CACHE": "folder of downloads",
    "THALWEG_OFFLINE": "1: never use the network",
    "THALWEG_DEBUG": "1: print tracebacks of unexpected errors",
}

PROBE_SCRIPT = """
import json, torch
probe = {"version": torch.__version__, "threads": torch.get_num_threads()}
probe["instructions"] = torch.backends.cpu.get_cpu_capability()
probe["mps"] = torch.backends.mps.is_available()
probe["cuda"] = []
if torch.cuda.is_available():
    for i in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(i)
        probe["cuda"].append([properties.name, properties.total_memory, torch.cuda.is_bf16_supported()])
print(json.dumps(probe))
"""


@dataclass(frozen=True)
class HealthCheck:
    """One finding: `status` is ok, warning or problem; `cure` says what to do about it."""

    name: str
    status: str
    message: str
    cure: str = ""


def run_checks(named_data: Callable[[], Iterable[Mapping[str, Any]]]) -> list[HealthCheck]:
    """Run all checks. `named_data` returns `name` and `where` (or None) per data set; its errors become findings."""
    return [
        check_python(),
        *check_packages(list_requirements()),
        check_torchvision(installed_version("torch"), installed_version("torchvision"), requirements_of("torchvision")),
        *check_torch(probe_torch()),
        check_memory(),
        *check_disks({"cache": cache_dir(), "working folder": Path.cwd()}),
        *check_environment(os.environ),
        check_datasets(named_data),
    ]


def all_ok(checks: Iterable[HealthCheck]) -> bool:
    """Whether there is no problem among the checks."""
    return all(check.status != "problem" for check in checks)


def format_checks(checks: Iterable[HealthCheck]) -> Iterator[str]:
    """Yield the checks as lines of text, each cure below its check."""
    for check in checks:
        yield f"{check.status:8} {check.name}: {escape_controls(check.message)}"
        if check.cure:
            yield f"{'':8} -> {escape_controls(check.cure)}"


# --- what is installed -----------------------------------------------------------------------------------------------


def check_python() -> HealthCheck:
    """Report the interpreter."""
    return HealthCheck("python", "ok", f"{platform.python_version()} at {sys.executable}, {platform.platform()}")


def installed_version(name: str) -> str | None:
    """Return the version of an installed package from its metadata; None if it is not installed."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def requirements_of(name: str) -> list[str]:
    """Return the requirements of an installed package; none if it is not installed."""
    try:
        return importlib.metadata.requires(name) or []
    except importlib.metadata.PackageNotFoundError:
        return []


def list_requirements() -> list[tuple[str, str, str]]:
    """Return (package, lowest version, extra) of everything that Thalweg uses; the extra is '' for requirements."""
    requirements = []
    for line in requirements_of("thalweg"):
        match = re.match(r"([\w.-]+)\s*>=\s*([\d.]+)(?:.*extra == ['\"](\w+)['\"])?", line)
        if match and match[3] not in ("dev", "all"):
            requirements.append((match[1], match[2], match[3] or ""))
    return requirements


def parse_version(version: str) -> tuple[int, ...]:
    """Return the numbers of a version: 2.13.0+cpu -> (2, 13, 0)."""
    match = re.match(r"[\d.]*", version)
    numbers = match[0].split(".") if match else []
    return tuple(int(number) for number in numbers if number)


def check_packages(requirements: Iterable[tuple[str, str, str]]) -> list[HealthCheck]:
    """Return a check per package that is missing or too old, and one for all others."""
    findings: list[HealthCheck] = []
    good: list[str] = []
    for name, floor, extra in requirements:
        version = installed_version(name)
        if version is None:
            cure = f'pip install "thalweg[{extra}]"' if extra else f'pip install "{name}>={floor}"'
            findings.append(HealthCheck(name, "warning" if extra else "problem", "is not installed", cure))
        elif parse_version(version) < parse_version(floor):
            findings.append(
                HealthCheck(name, "problem", f"{version} is older than {floor}", f'pip install "{name}>={floor}"')
            )
        else:
            good.append(f"{name} {version}")
    if not good and not findings:
        cure = "Install it: pip install -e . in its folder."
        return [
            HealthCheck("packages", "warning", "Thalweg itself is not installed, so its requirements are unknown", cure)
        ]
    return [HealthCheck("packages", "ok", ", ".join(good)), *findings]


def check_torchvision(torch_version: str | None, own_version: str | None, requirements: Iterable[str]) -> HealthCheck:
    """Check by metadata that torchvision was built for this torch, because a wrong one fails to import.

    Thalweg needs it only for models named torchvision:NAME.
    """
    if own_version is None:
        return HealthCheck("torchvision", "ok", "not installed, and not needed")
    versions = f"{own_version} beside torch {torch_version}"
    exact = [line.partition("==")[2].strip() for line in requirements if re.match(r"torch\s*==", line)]
    cure = "Install both from the same index, or remove it: pip uninstall torchvision"
    if exact and parse_version(exact[0]) != parse_version(torch_version or ""):
        return HealthCheck("torchvision", "warning", f"{versions}: it was built for torch {exact[0]}", cure)
    builds = [version.partition("+")[2] or "default" for version in (own_version, torch_version or "")]
    if builds[0] != builds[1]:
        return HealthCheck(
            "torchvision", "warning", f"{versions}: the builds differ ({builds[0]} and {builds[1]})", cure
        )
    return HealthCheck("torchvision", "ok", versions)


# --- the machine -----------------------------------------------------------------------------------------------------


def probe_torch(command: list[str] | None = None, seconds: float = 120) -> dict[str, Any]:
    """Return what torch reports in a process of its own, or {"error": reason}."""
    try:
        process = subprocess.run(
            command or [sys.executable, "-c", PROBE_SCRIPT],
            capture_output=True,
            text=True,
            encoding="utf-8",
            timeout=seconds,
        )
    except subprocess.TimeoutExpired:
        return {"error": f"does not answer within {seconds:g} seconds"}
    except OSError as error:
        return {"error": f"cannot be started: {error}"}
    if process.returncode:
        last = process.stderr.strip().splitlines() or [f"ended with code {process.returncode}"]
        return {"error": f"cannot be imported: {last[-1]}"}
    return json.loads(process.stdout.strip().splitlines()[-1])


def check_torch(probe: Mapping[str, Any]) -> list[HealthCheck]:
    """Report threads and instruction sets of the CPU, and the devices."""
    if "error" in probe:
        return [HealthCheck("torch", "problem", probe["error"], "Reinstall it: pip install --force-reinstall torch")]
    sets = ", ".join([probe["instructions"], *parse_instruction_sets()])
    cores = count_usable_cores()
    checks = [HealthCheck("torch", "ok", f"{probe['version']}, {probe['threads']} threads on {cores} cores, {sets}")]
    if probe["threads"] > cores:
        checks.append(HealthCheck("threads", "warning", "more threads than cores", f"export OMP_NUM_THREADS={cores}"))
    for name, size, bfloat16 in probe["cuda"]:
        numbers = "bfloat16" if bfloat16 else "no bfloat16"
        checks.append(HealthCheck("device", "ok", f"{name}, {size / GIGABYTE:.0f} GiB, {numbers}"))
    if probe["mps"]:
        checks.append(HealthCheck("device", "ok", "Apple GPU (mps)"))
    if not probe["cuda"] and not probe["mps"]:
        checks.append(HealthCheck("device", "ok", "CPU; no GPU that torch can use"))
    return checks


def count_usable_cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def parse_instruction_sets(cpuinfo: Path = Path("/proc/cpuinfo")) -> list[str]:
    """Return which of avx512_bf16 and amx_bf16 the CPU has for bfloat16; empty where that is unknown."""
    try:
        flags = re.search(r"^flags\s*:(.*)$", cpuinfo.read_text(encoding="utf-8"), re.MULTILINE)
    except OSError:
        return []
    return [name for name in ("avx512_bf16", "amx_bf16") if flags and name in flags[1].split()]


def check_memory(meminfo: Path = Path("/proc/meminfo"), limit: Path = Path("/sys/fs/cgroup/memory.max")) -> HealthCheck:
    """Report the free memory within the limits of a container. Less than one GiB is a warning."""
    try:
        kilobytes = dict(re.findall(r"^(\w+):\s+(\d+) kB", meminfo.read_text(encoding="utf-8"), re.MULTILINE))
        total, free = int(kilobytes["MemTotal"]) * 1024, int(kilobytes["MemAvailable"]) * 1024
    except (OSError, KeyError):
        return HealthCheck("memory", "ok", "unknown on this system")
    try:
        total = min(total, int(limit.read_text(encoding="utf-8")))
    except (OSError, ValueError):
        pass
    free = min(free, total)
    message = f"{free / GIGABYTE:.1f} of {total / GIGABYTE:.1f} GiB free"
    if free < GIGABYTE:
        return HealthCheck("memory", "warning", message, "Close other programs, or use a smaller --batch-size.")
    return HealthCheck("memory", "ok", message)


def check_disks(folders: Mapping[str, Path]) -> list[HealthCheck]:
    """Report the free space of each folder, or of its nearest parent. Under one GiB, or read-only, is a warning."""
    checks = []
    for name, folder in folders.items():
        parent = next((p for p in (folder, *folder.absolute().parents) if p.exists()), Path("/"))
        free = shutil.disk_usage(parent).free
        message = f"{folder}, {free / GIGABYTE:.1f} GiB free"
        if not parent.is_dir():
            checks.append(
                HealthCheck(name, "warning", f"{parent} is not a folder", "Name a folder, or move the file away.")
            )
        elif not os.access(parent, os.W_OK):
            checks.append(
                HealthCheck(name, "warning", f"{message}, cannot be written to", "Write elsewhere with --out.")
            )
        elif free < GIGABYTE // 10:
            checks.append(HealthCheck(name, "problem", message, "Make room: a run needs at least 0.1 GiB."))
        elif free < GIGABYTE:
            checks.append(
                HealthCheck(name, "warning", message, "Make room: data sets and long runs need more than 1 GiB.")
            )
        else:
            checks.append(HealthCheck(name, "ok", message))
    return checks


def check_environment(variables: Mapping[str, str]) -> list[HealthCheck]:
    """Report the THALWEG_ variables. An unknown one, or a folder that does not exist, is a warning."""
    checks = []
    for name in sorted(name for name in variables if name.startswith("THALWEG_")):
        value = variables[name]
        if name not in ENV_VARIABLES:
            checks.append(
                HealthCheck(name, "warning", "is not a variable that Thalweg reads", did_you_mean(name, ENV_VARIABLES))
            )
        elif name == "THALWEG_DATA" and not Path(value).is_dir():
            checks.append(HealthCheck(name, "warning", f"{value} is not a folder", "Create it, or unset the variable."))
        else:
            checks.append(HealthCheck(name, "ok", f"{value} ({ENV_VARIABLES[name]})"))
    return checks


def check_datasets(named_data: Callable[[], Iterable[Mapping[str, Any]]]) -> HealthCheck:
    """Report the named data sets, and where they are."""
    try:
        rows = list(named_data())
    except Exception as error:
        return HealthCheck(
            "data sets", "problem", f"cannot be listed: {type(error).__name__}: {error}", "thalweg data list"
        )
    here = [f"{row['name']} ({row['where']})" for row in rows if row["where"]]
    absent = [row["name"] for row in rows if not row["where"]]
    message = ", ".join(here) or "none is here"
    return HealthCheck("data sets", "ok", f"{message}; not here yet: {', '.join(absent)}" if absent else message)


def check_run(path: str) -> HealthCheck:
    """Verify the files of a run against its checksums."""
    from ..errors import ThalwegError
    from ..runs.run_dir import RunDir

    run_dir = RunDir(path)
    try:
        run_dir.read_record()
    except ThalwegError as error:
        return HealthCheck("run", "problem", escape_controls(error.message), error.cure)
    changed = run_dir.verify()
    if changed:
        return HealthCheck(
            "run", "problem", f"{path}: changed or missing: {', '.join(changed)}", "Restore them from a copy."
        )
    count = len(run_dir.read_checksums())
    message = f"{path}: {count} files as they were written" if count else f"{path}: a run without checksums"
    return HealthCheck("run", "ok" if count else "warning", message)
