"""Notices for the user."""

from thalweg.io.log import log_warning


def test_control_characters_in_a_notice_are_escaped(capsys):
    log_warning("naïve 数据 esc\x1b[31m\nnew\u202e\u2028\udcff.pth")
    printed = capsys.readouterr()
    assert printed.err == "naïve 数据 esc\\x1b[31m\\nnew\\u202e\\u2028\\udcff.pth\n"
    assert not printed.out
