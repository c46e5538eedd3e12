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


@pytest.fixture
def mistake(leukoscope: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Runs ``leukoscope WORDS...``, which must end with code 2 and one line of error, and returns that line."""

    def call(*words: object) -> str:
        assert leukoscope(*words) == 2
        error = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
        assert len(error) == 1
        return error[0]

    return call
