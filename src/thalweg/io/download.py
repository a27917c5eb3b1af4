"""Downloads that can be trusted: resumed where they broke, checked by their sum, and there as a whole or not at all.

A file is written as NAME.part, checked, brought to the disk for sure (fsync) and only then renamed. Of two processes
that want the same file, one downloads and the other waits.
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
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import DataError, OptionError, ResourceError
from ..version import __version__
from .file_lock import lock_file

CHUNK_BYTES = 1 << 18
#: seconds without a byte after which a connection counts as broken
TIMEOUT_SECONDS = 30.0

ProgressCallback = Callable[[int, "int | None"], None]


class _TransferError(Exception):
    """The transfer broke off in a way that may go better next time."""


def cache_dir() -> Path:
    """Where downloads are kept: THALWEG_CACHE, or the user's cache folder of this system. It may not exist yet."""
    if os.environ.get("THALWEG_CACHE"):
        return Path(os.environ["THALWEG_CACHE"])
    import platformdirs  # a set cache folder saves its import

    return Path(platformdirs.user_cache_dir("thalweg", appauthor=False))


def is_offline() -> bool:
    """Whether THALWEG_OFFLINE forbids the network."""
    return os.environ.get("THALWEG_OFFLINE", "").lower() not in ("", "0", "false", "no")


def fetch(
    url: str,
    to: Path,
    *,
    sha256: str | None = None,
    md5: str | None = None,
    size: int | None = None,
    notice: Callable[[str], None] = lambda message: None,
    progress: ProgressCallback | None = None,
    retries: int = 3,
    pause: float = 0.5,
) -> Path:
    """Downloads `url`, http or https only, to the file `to`, and returns it; a file that is there and right is kept.

    `sha256` and `md5` in hex and `size` in bytes are checked where given; of a sum its first 8 digits or more will do,
    since some are published so. `progress` is called with the bytes there and in all (None where the server does not
    say). `retries` attempts in a row may bring nothing, with waits of `pause` seconds, doubled each time. Raises
    ResourceError for network, disk or a missing page, DataError for a wrong sum or size, OptionError for another kind
    of address, or a sum that is too short.
    """
    if not url.lower().startswith(("http://", "https://")):
        raise OptionError(f"{url}: only addresses with http or https are fetched.", cure="Give such an address.")
    to = Path(to)
    sums = {kind: expected.lower() for kind, expected in (("sha256", sha256), ("md5", md5)) if expected}
    if any(len(expected) < 8 for expected in sums.values()):
        raise OptionError(f"{url}: a sum of fewer than 8 digits proves nothing.", cure="Give 8 digits or more.")
    try:
        to.parent.mkdir(parents=True, exist_ok=True)
        with _exclusive(to, notice):
            if to.is_file() and not _verify_error(to, sums, size):
                return to
            if is_offline():
                raise ResourceError(
                    f"{url} is needed, and THALWEG_OFFLINE forbids the network.", cure=f"Put the file at {to}."
                )
            _download_to(to, url, sums, size, notice, progress, retries, pause)
    except OSError as error:
        raise _disk_error(error, to) from None
    return to


def _download_to(to: Path, url: str, sums: dict[str, str], size, notice, progress, retries: int, pause: float) -> None:
    """Downloads, checks and puts the file in its place."""
    part = to.with_name(to.name + ".part")
    resumed = part.exists()
    _download_with_retries(url, part, size, notice, progress, retries, pause)
    wrong = _verify_error(part, sums, size)
    if wrong and resumed:
        notice(f"{to.name}: what was there of an earlier download does not fit; starting over.")
        part.unlink()
        _download_with_retries(url, part, size, notice, progress, retries, pause)
        wrong = _verify_error(part, sums, size)
    if wrong:
        part.unlink()
        raise DataError(
            f"{url}: {wrong}.", cure=f"Try again later, or put the right file at {to}; this one was thrown away."
        )
    _publish(part, to)


def _verify_error(path: Path, sums: dict[str, str], size: int | None) -> str:
    """What is wrong with the file, in words; empty if it is right."""
    if size is not None and path.stat().st_size != size:
        return f"{path.stat().st_size:,} bytes, expected {size:,}"
    for kind, expected in sums.items():
        with path.open("rb") as file:
            found = hashlib.file_digest(file, kind).hexdigest()
        if not found.startswith(expected):
            return f"the {kind} sum is {found}, expected {expected}" + "…" * (len(expected) < len(found))
    return ""


def _download_with_retries(
    url: str, part: Path, size: int | None, notice, progress, retries: int, pause: float
) -> None:
    """Brings the whole of `url` into `part`, attempt by attempt, each going on where the last one broke."""
    barren = 0
    while True:
        before = part.stat().st_size if part.exists() else 0
        try:
            return _download_once(url, part, before, size, progress)
        except (
            _TransferError,
            urllib.error.URLError,
            http.client.HTTPException,
            ConnectionError,
            TimeoutError,
        ) as error:
            if isinstance(error, urllib.error.HTTPError) and error.code < 500 and error.code not in (408, 429):
                raise ResourceError(
                    f"{url}: the server answers {error.code} ({error.reason}).", cure="Check the address, or try later."
                ) from None
            grown = part.exists() and part.stat().st_size > before
            barren = 0 if grown else barren + 1
            why = getattr(error, "reason", None) or error or type(error).__name__
            if barren > retries:
                raise ResourceError(
                    f"{url}: no connection after {barren} attempts ({why}).",
                    cure=f"Check the network and try again, or put the file at {part.with_suffix('')}.",
                ) from None
            wait = pause * 2 ** max(barren - 1, 0)
            notice(f"{url}: broke off ({why}); again in {wait:g} s.")
            time.sleep(wait)


def _download_once(url: str, part: Path, have: int, size: int | None, progress: ProgressCallback | None) -> None:
    """One attempt. Raises _Interrupted if the end was not reached."""
    request = urllib.request.Request(url, headers={"User-Agent": f"thalweg/{__version__}"})
    if have:
        request.add_header("Range", f"bytes={have}-")
    try:
        answer = _build_opener().open(request, timeout=TIMEOUT_SECONDS)
    except urllib.error.HTTPError as error:
        if error.code != 416:
            raise
        if error.headers.get("Content-Range", "").rpartition("/")[2] == str(have):
            return
        part.unlink()
        raise _TransferError("the part that was there is longer than the file") from None
    with answer:
        if answer.status == 206 and not answer.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
            part.unlink()
            raise _TransferError("the server sent another part than was asked for")
        have = have if answer.status == 206 else 0
        length = answer.headers.get("Content-Length", "")
        total = have + int(length) if length.isdigit() else None
        if size is not None and total not in (None, size):
            raise DataError(f"{url}: the server offers {total:,} bytes, expected {size:,}.", cure="Try again later.")
        _check_disk_space(part, (total or size or 0) - have)
        with part.open("ab" if have else "wb") as file:
            while chunk := _read_chunk(answer):
                file.write(chunk)
                have += len(chunk)
                if progress:
                    progress(have, total)
                if size is not None and have > size:
                    raise DataError(f"{url}: more than the {size:,} bytes expected.", cure="Try again later.")
    if total is not None and have < total:
        raise _TransferError(f"{have:,} of {total:,} bytes")


def _read_chunk(answer: http.client.HTTPResponse) -> bytes:
    """The next bytes. A failure of the network must not look like one of the disk, and both are OSErrors."""
    try:
        return answer.read(CHUNK_BYTES)
    except (OSError, http.client.HTTPException) as error:
        raise _TransferError(str(error) or type(error).__name__) from None


def _build_opener() -> urllib.request.OpenerDirector:
    """An opener for http and https alone, so that no redirection leads to a file of this machine."""
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
            cure="Make room, or set THALWEG_CACHE to a folder on another disk.",
        )


def _disk_error(error: OSError, to: Path) -> ResourceError:
    """An error of the disk, in words."""
    if error.errno == errno.ENOSPC:
        there = next(filter(os.path.exists, to.parents))  # it may have been the folder that there was no room for
        free = shutil.disk_usage(there).free
        return ResourceError(
            f"{to.parent}: the disk is full ({free:,} bytes free).",
            cure="Make room, or set THALWEG_CACHE to a folder on another disk.",
        )
    return ResourceError(
        f"{to}: cannot be written ({error.strerror or error}).",
        cure="Set THALWEG_CACHE to a folder that you may write to.",
    )


def _publish(part: Path, to: Path) -> None:
    """Gives the finished file its name, in the order that survives a loss of power."""
    with part.open("rb+") as file:
        os.fsync(file.fileno())
    os.replace(part, to)
    if os.name == "posix":
        folder = os.open(to.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


@contextmanager
def _exclusive(to: Path, notice: Callable[[str], None]) -> Iterator[None]:
    """Keeps other processes, and threads, from fetching the same file. The lock ends with the process that holds it."""
    path = to.with_name(to.name + ".lock")
    with path.open("a+b") as file:
        told = False
        while not lock_file(file):
            if not told:
                notice(f"{to.name}: another process is downloading it; waiting.")
            told = True
            time.sleep(0.1)
        yield
        # Whoever waits for this lock finds the file in place, so the lock's own file has served.
        if os.name == "posix":
            path.unlink(missing_ok=True)
