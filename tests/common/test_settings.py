from pathlib import Path

import pytest

from leukoscope.common.errors import InputError
from leukoscope.common.settings import read_yaml, with_overrides


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.lr", "expected key=value"),
        ("train.lr=[1, 2", "not a YAML value"),
        ("policy=@x", "not a YAML value"),
        ("name.inner=1", "'name' has no keys below it"),
    ],
)
def test_a_wrong_override_is_told_in_one_line(override: str, message: str) -> None:
    with pytest.raises(InputError) as error:
        with_overrides({"name": "x"}, [override])
    assert str(error.value).startswith(f"--set {override}: ")
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("content", [b"a: [1", b"title: M\xfcller", b"- 1"])
def test_a_file_that_is_no_mapping_is_told_in_one_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.yaml").write_bytes(content)
    with pytest.raises(InputError, match=r"x\.yaml: ") as error:
        read_yaml(tmp_path / "x.yaml")
    assert "\n" not in str(error.value)
