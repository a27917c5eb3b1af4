"""File names are the same text in every locale."""

import os
import subprocess
import sys

import pytest

from thalweg.io.file_names import decode_file_name, encode_file_name

posix = pytest.mark.skipif(os.name != "posix", reason="Windows has Unicode file names")


def test_names_survive_decoding_and_encoding():
    for name in ("plain", "é", "数据", "🐱", "broken\udcff"):
        assert encode_file_name(decode_file_name(name)) == name


@posix
def test_names_are_decoded_as_utf8_in_an_ascii_locale(tmp_path):
    (tmp_path / "é").write_bytes(b"")
    program = (
        "import os, sys\n"
        "from thalweg.io.file_names import decode_file_name, encode_file_name\n"
        "name = os.listdir(sys.argv[1])[0]\n"
        "assert sys.getfilesystemencoding() == 'ascii'\n"
        "assert encode_file_name(decode_file_name(name)) == name\n"
        "print(ascii(decode_file_name(name)))\n"
    )
    environment = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONPATH": os.pathsep.join(sys.path)}
    run = [sys.executable, "-c", program, str(tmp_path)]
    assert subprocess.run(run, env=environment, capture_output=True, check=True, text=True).stdout == "'\\xe9'\n"
