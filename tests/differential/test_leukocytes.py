from pathlib import Path

import pytest

from leukoscope.common.errors import InputError
from leukoscope.differential.leukocytes import Leukocytes


def test_a_laboratory_says_of_its_own_classes_and_goes_before_what_is_known(tmp_path: Path) -> None:
    (tmp_path / "ours.csv").write_text("class,leukocyte\nK-562,no\nEBO,yes\nHL60,yes\n")
    ours = Leukocytes.read(tmp_path / "ours.csv")
    line, blast, neutrophil = (ours.kind_of(name) for name in ("k 562", "EBO", "NEU"))
    assert line is not None
    assert (line.is_leukocyte, line.loinc) == (False, None)
    assert blast is not None
    assert (blast.name, blast.is_leukocyte, blast.loinc) == ("erythroblast", True, "19048-8")
    assert neutrophil is not None
    assert neutrophil.is_leukocyte
    assert ours.assumed(["K-562", "HL60", "EBO", "NEU", "Jurkat"]) == ["Jurkat"]
    assert Leukocytes().assumed(["K-562", "NEU"]) == ["K-562"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("class,kind\nK562,no\n", "needs the columns class, leukocyte; no leukocyte"),
        ("class,leukocyte\nK562,perhaps\n", "line 2: leukocyte 'perhaps'; give yes or no"),
        (None, "cannot be read as a table of leukocytes"),
    ],
)
def test_what_is_no_such_table_is_said_in_one_line(tmp_path: Path, text: str | None, said: str) -> None:
    file = tmp_path / "ours.csv"
    if text is not None:
        file.write_text(text)
    with pytest.raises(InputError, match=said) as caught:
        Leukocytes.read(file)
    assert "ours.csv" in str(caught.value)
    assert "\n" not in str(caught.value)
