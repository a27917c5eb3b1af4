"""Download files: resumed after a broken transfer, verified by checksum, and complete or not there at all.

A file is written as NAME.part, verified, flushed to the disk (fsync) and then renamed. If two processes want the same
file, one downloads it and the other waits.
"""

from __future__ import annotations

import errno
import hashlib
import http.client
import os
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ..errors import DataError, OptionError, ResourceError
from ..version import __version__
from .atomic_write import fsync_dir
from .file_lock import lock_file
from .free_memory import format_bytes

CHUNK_BYTES = 1 << 18
#: a connection counts as broken after this many seconds without a byte
TIMEOUT_SECONDS = 30.0
#: shorter prefixes of a checksum are rejected
MIN_CHECKSUM_DIGITS = 8
#: pause between two attempts to lock a file
LOCK_POLL_SECONDS = 0.1

_CACHE_CURE = "Free some space, or set THALWEG_CACHE to a folder on another disk."

ProgressCallback = Callable[[int, "int | None"], None]
LogCallback = Callable[[str], None]


class _TransferError(Exception):
    """The transfer broke off in a way that may work next time."""


@dataclass(frozen=True)
class DownloadOptions:
    """Details of a download.

    Attributes:
        md5: Expected MD5 in hex, or a prefix of it.
        size: Expected size in bytes.
        retries: Number of attempts in a row that may fail without a byte.
        pause: Seconds before the second attempt, doubled each time.
    """

    md5: str | None = None
    size: int | None = None
    retries: int = 3
    pause: float = 0.5


@dataclass(frozen=True)
class _Download:
    """A download: from where, to where, and what is expected."""

    url: str
    path: Path
    checksums: Mapping[str, str]
    options: DownloadOptions
    log: LogCallback
    progress: ProgressCallback | None

    @property
    def part(self) -> Path:
        """The file that is being written."""
        return self.path.with_name(self.path.name + ".part")


class DownloadProgress:
    """A progress callback that logs a line for every tenth of a download."""

    def __init__(self, name: str, size: int, log: LogCallback):
        self.name = name
        self.size = size
        self.log = log
        self.last_tenth = -1

    def __call__(self, done: int, total: int | None) -> None:
        """Log the progress if a tenth was completed."""
        total = total or self.size
        tenth = 10 * done // total
        if tenth > self.last_tenth:
            self.last_tenth = tenth
            self.log(f"{self.name}: {format_bytes(done)} of {format_bytes(total)}")


def cache_dir() -> Path:
    """Return the folder of downloads: THALWEG_CACHE, or the user's cache folder of the system. It may not exist yet."""
    if os.environ.get("THALWEG_CACHE"):
        return Path(os.environ["THALWEG_CACHE"])
    import platformdirs  # late: not needed if THALWEG_CACHE is set

    return Path(platformdirs.user_cache_dir("thalweg", appauthor=False))


def data_roots() -> list[Path]:
    """Return the folders in which named data is looked for: THALWEG_DATA, then the cache."""
    roots = [cache_dir() / "data"]
    if os.environ.get("THALWEG_DATA"):
        roots.insert(0, Path(os.environ["THALWEG_DATA"]))
    return roots


def find_data_file(name: str) -> Path | None:
    """Return a file of named data, given as folder/file; None where it is below none of the roots."""
    for root in data_roots():
        if (root / name).is_file():
            return root / name
    return None


def is_offline() -> bool:
    """Tell whether THALWEG_OFFLINE forbids the network."""
    return os.environ.get("THALWEG_OFFLINE", "").lower() not in ("", "0", "false", "no")


def ignore_notice(message: str) -> None:
    """Do nothing with a notice."""


def fetch(
    url: str,
    to: Path,
    *,
    sha256: str | None = None,
    notice: LogCallback = ignore_notice,
    progress: ProgressCallback | None = None,
    options: DownloadOptions = DownloadOptions(),  # noqa: B008 - immutable
) -> Path:
    """Download a file, unless it is there already and correct.

    Args:
        url: Address with http or https.
        to: Path of the file; missing folders are made.
        sha256: Expected SHA-256 in hex, or a prefix of at least 8 digits, because some are published like that.
        notice: Called with messages for the user.
        progress: Called with the bytes so far and in total (None if the server does not say).
        options: Other expectations, and how often to retry.

    Returns:
        `to`.

    Raises:
        ResourceError: Network, disk, or a missing page.
        DataError: Wrong checksum or size.
        OptionError: Another kind of address, or a checksum that is too short.
    """
    if not url.lower().startswith(("http://", "https://")):
        raise OptionError(f"{url}: expected an address with http or https.", cure="Use such an address.", value=url)
    checksums = {}
    for algorithm, checksum in (("sha256", sha256), ("md5", options.md5)):
        if checksum:
            checksums[algorithm] = checksum.lower()
        if checksum and len(checksum) < MIN_CHECKSUM_DIGITS:
            raise OptionError(
                f"{url}: a checksum of {len(checksum)} digits proves nothing.",
                cure=f"Use {MIN_CHECKSUM_DIGITS} digits or more.",
                option=algorithm,
                value=checksum,
            )
    download = _Download(url, Path(to), checksums, options, notice, progress)
    try:
        download.path.parent.mkdir(parents=True, exist_ok=True)
        with _exclusive(download.path, notice):
            if not (download.path.is_file() and not _verify_error(download.path, download)):
                _check_online(download)
                _download_to(download)
    except OSError as error:
        raise _disk_error(error, download.path) from None
    return download.path


def _check_online(download: _Download) -> None:
    if is_offline():
        raise ResourceError(
            f"{download.url} is needed, and THALWEG_OFFLINE forbids the network.",
            cure=f"Put the file at {download.path}.",
            path=download.path,
            value=download.url,
        )


def _download_to(download: _Download) -> None:
    """Download, verify and rename the file."""
    was_resumed = download.part.exists()
    _download_with_retries(download)
    problem = _verify_error(download.part, download)
    if problem and was_resumed:
        download.log(f"{download.path.name}: the rest of an earlier download does not match; starting over.")
        download.part.unlink()
        _download_with_retries(download)
        problem = _verify_error(download.part, download)
    if problem:
        download.part.unlink()
        raise DataError(
            f"{download.url}: {problem}.",
            cure=f"Try again later, or put the right file at {download.path}; this one was deleted.",
            path=download.path,
            value=download.url,
        )
    _publish(download.part, download.path)


def _verify_error(path: Path, download: _Download) -> str:
    """Describe what is wrong with a file; empty if it is correct."""
    size = path.stat().st_size
    expected_size = download.options.size
    if expected_size is not None and size != expected_size:
        return f"{size:,} bytes, expected {expected_size:,}"
    for algorithm, expected in download.checksums.items():
        with path.open("rb") as file:
            actual = hashlib.file_digest(file, algorithm).hexdigest()
        if not actual.startswith(expected):
            ellipsis = "…" if len(expected) < len(actual) else ""
            return f"the {algorithm} is {actual}, expected {expected}{ellipsis}"
    return ""


def _download_with_retries(download: _Download) -> None:
    """Download all of the file into its part, attempt by attempt, each starting where the last one broke off."""
    failures = 0
    while True:
        start = _size_of(download.part)
        try:
            return _download_once(download, start)
        except (
            _TransferError,
            urllib.error.URLError,
            http.client.HTTPException,
            ConnectionError,
            TimeoutError,
        ) as error:
            _raise_if_permanent(error, download)
            if _size_of(download.part) > start:
                failures = 0
            else:
                failures += 1
            reason = getattr(error, "reason", None) or error or type(error).__name__
            if failures > download.options.retries:
                raise ResourceError(
                    f"{download.url}: no connection after {failures} attempts ({reason}).",
                    cure=f"Check the network and try again, or put the file at {download.path}.",
                    path=download.path,
                    value=download.url,
                ) from None
            seconds = download.options.pause * 2 ** max(failures - 1, 0)
            download.log(f"{download.url}: broke off ({reason}); trying again in {seconds:g} s.")
            time.sleep(seconds)


def _size_of(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _raise_if_permanent(error: Exception, download: _Download) -> None:
    """Raise ResourceError for an answer of the server that a retry would not change."""
    if isinstance(error, urllib.error.HTTPError) and error.code < 500 and error.code not in (408, 429):
        raise ResourceError(
            f"{download.url}: the server answered {error.code} ({error.reason}).",
            cure="Check the address, or try later.",
            path=download.path,
            value=error.code,
        ) from None


def _download_once(download: _Download, start: int) -> None:
    """Make one attempt from byte `start` on. Raises _TransferError if the end was not reached."""
    response = _open_at(download, start)
    if response is None:
        return
    with response:
        if response.status != 206:
            start = 0
        total = _expected_total(response, download, start)
        _check_disk_space(download.part, (total or download.options.size or 0) - start)
        done = _receive(response, download, start, total)
    if total is not None and done < total:
        raise _TransferError(f"{done:,} of {total:,} bytes")


def _open_at(download: _Download, start: int) -> http.client.HTTPResponse | None:
    """Request the file from byte `start` on. Return None if there is nothing left to receive."""
    request = urllib.request.Request(download.url, headers={"User-Agent": f"thalweg/{__version__}"})
    if start:
        request.add_header("Range", f"bytes={start}-")
    try:
        response = _build_opener().open(request, timeout=TIMEOUT_SECONDS)
    except urllib.error.HTTPError as error:
        if error.code != 416:
            raise
        if error.headers.get("Content-Range", "").rpartition("/")[2] == str(start):
            return None
        download.part.unlink()
        raise _TransferError("the part that was there is longer than the file") from None
    if response.status == 206 and not response.headers.get("Content-Range", "").startswith(f"bytes {start}-"):
        response.close()
        download.part.unlink()
        raise _TransferError("the server sent another range than requested")
    return response


def _expected_total(response: http.client.HTTPResponse, download: _Download, start: int) -> int | None:
    """Return the size that the server announces; None if it does not. Raises DataError for a wrong one."""
    length = response.headers.get("Content-Length", "")
    if not length.isdigit():
        return None
    total = start + int(length)
    expected = download.options.size
    if expected is not None and total != expected:
        raise DataError(
            f"{download.url}: the server offers {total:,} bytes, expected {expected:,}.",
            cure="Try again later.",
            path=download.path,
            value=total,
        )
    return total


def _receive(response: http.client.HTTPResponse, download: _Download, start: int, total: int | None) -> int:
    """Append the body to the part, and return its size. Raises DataError if there is more than expected."""
    done = start
    expected = download.options.size
    with download.part.open("ab" if start else "wb") as file:
        while chunk := _read_chunk(response):
            file.write(chunk)
            done += len(chunk)
            if download.progress:
                download.progress(done, total)
            if expected is not None and done > expected:
                raise DataError(
                    f"{download.url}: more than the {expected:,} bytes expected.",
                    cure="Try again later.",
                    path=download.path,
                    value=done,
                )
    return done


def _read_chunk(response: http.client.HTTPResponse) -> bytes:
    """Read the next bytes. Raises _TransferError, because errors of network and disk are both OSErrors."""
    try:
        return response.read(CHUNK_BYTES)
    except (OSError, http.client.HTTPException) as error:
        raise _TransferError(str(error) or type(error).__name__) from None


def _build_opener() -> urllib.request.OpenerDirector:
    """Return an opener for http and https only, so that no redirect leads to a local file."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler,
        urllib.request.HTTPHandler,
        urllib.request.HTTPSHandler,
        urllib.request.HTTPRedirectHandler,
        urllib.request.HTTPDefaultErrorHandler,
        urllib.request.HTTPErrorProcessor,
        urllib.request.UnknownHandler,
    ):
        opener.add_handler(handler())
    return opener


def _check_disk_space(part: Path, needed: int) -> None:
    free = shutil.disk_usage(part.parent).free
    if needed > free:
        raise ResourceError(
            f"{part.parent}: {needed:,} bytes are needed, {free:,} are free.",
            cure=_CACHE_CURE,
            path=part.parent,
            value=needed,
        )


def _disk_error(error: OSError, path: Path) -> ResourceError:
    """Return the error for the user after writing to `path` failed."""
    if error.errno == errno.ENOSPC:
        existing = next(filter(os.path.exists, path.parents))  # the folder may be what did not fit
        free = shutil.disk_usage(existing).free
        return ResourceError(
            f"{path.parent}: the disk is full ({free:,} bytes free).", cure=_CACHE_CURE, path=path.parent
        )
    return ResourceError(
        f"{path}: cannot be written ({error.strerror or error}).",
        cure="Set THALWEG_CACHE to a folder that you may write to.",
        path=path,
    )


def _publish(part: Path, path: Path) -> None:
    """Rename the finished file, in the order that survives a power cut."""
    with part.open("rb+") as file:
        os.fsync(file.fileno())
    os.replace(part, path)
    fsync_dir(path.parent)


@contextmanager
def _exclusive(path: Path, log: LogCallback) -> Iterator[None]:
    """Keep other processes and threads from downloading the same file. The lock ends with its process."""
    lock_path = path.with_name(path.name + ".lock")
    with lock_path.open("a+b") as file:
        if not lock_file(file):
            log(f"{path.name}: another process is downloading it; waiting.")
            while not lock_file(file):
                time.sleep(LOCK_POLL_SECONDS)
        yield
        # Whoever waits for this lock finds the file in place, so the lock file is no longer needed.
        if os.name == "posix":
            lock_path.unlink(missing_ok=True)
