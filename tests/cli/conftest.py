from collections.abc import Callable

import pytest

from leukoscope.cli.main import run


@pytest.fixture
def leukoscope(monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """Runs ``leukoscope WORDS...`` in this process and returns its exit code."""

    def call(*words: object) -> int:
        monkeypatch.setattr("sys.argv", ["leukoscope", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            run()
        return int(ended.value.code or 0)

    return call
