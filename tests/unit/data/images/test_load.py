"""The door to all data: what it says, and to names that are none."""

import pytest

from thalweg.data.images.load import load_dataset, log_warning
from thalweg.errors import NotFoundError


def test_a_name_in_a_notice_cannot_act_on_the_terminal(capsys):
    log_warning("naïve 数据 esc\x1b[31m\nnew\u202e\u2028\udcff.pth")
    shown = capsys.readouterr()
    assert shown.err == "naïve 数据 esc\\x1b[31m\\nnew\\u202e\\u2028\\udcff.pth\n" and not shown.out


def test_a_name_that_is_too_long_is_no_data_set():
    with pytest.raises(NotFoundError, match="There is no data set"):
        load_dataset("x" * 5000)
