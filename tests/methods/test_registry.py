import re

import pytest

from leukoscope.cli.pretrain import METHODS as COMMAND_LINE
from leukoscope.common.errors import InputError
from leukoscope.methods.registry import METHODS, entry


@pytest.mark.parametrize("name", sorted(METHODS))
def test_every_method_has_defaults(name: str) -> None:
    assert entry(name).settings().model_dump()


def test_the_command_line_names_every_method() -> None:
    assert set(re.findall(r"\w+", COMMAND_LINE.replace("with labels", ""))) == set(METHODS)


def test_an_unknown_method_is_refused() -> None:
    with pytest.raises(InputError, match=r"method 'mocco': unknown; choose one of .*moco"):
        entry("mocco")
