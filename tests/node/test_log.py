"""The node's log lines can be read by people and by machines."""

import sys

import pytest

from loomproxy.node.log import log


def test_line_is_key_value_with_quotes_where_needed(capsys: pytest.CaptureFixture[str]) -> None:
    log("worker left", level="error", slot=1, reason='said "no"\nand \\', empty="")
    line = capsys.readouterr().err
    assert line.startswith("at=")
    assert line.endswith(
        ' level=error event="worker left" slot=1 reason="said \\"no\\"\\nand \\\\" empty=""\n'
    )
    assert line.count("\n") == 1


def test_reader_that_went_away_does_not_take_the_node_along(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Gone:
        def write(self, _text: str) -> None:
            raise BrokenPipeError

    monkeypatch.setattr(sys, "stderr", Gone())
    log("anybody there")
