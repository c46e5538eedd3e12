from pathlib import Path

import pytest

from leukoscope.common.errors import InputError
from leukoscope.differential.leukocytes import kind_of
from leukoscope.differential.ranges import Range, ReferenceRanges


@pytest.mark.parametrize("label", ["NEU", "neutrophil", "Neutrophils", "Neutrophil Granulocyte"])
def test_a_kind_goes_by_many_names(label: str) -> None:
    kind = kind_of(label)
    assert kind is not None
    assert kind.name == "neutrophil"
    assert kind.loinc == "26511-6"
    assert kind.is_leukocyte


def test_what_is_no_leukocyte_is_known_and_what_is_strange_is_not() -> None:
    assert kind_of("platelet") is not None
    assert not kind_of("platelet").is_leukocyte  # type: ignore[union-attr]
    assert kind_of("K562") is None


def test_a_range_is_found_by_the_kind_and_tells_what_is_outside() -> None:
    ranges = ReferenceRanges.read()
    found = ranges.of("EOS", "percent")
    assert found == Range(0, 6)
    assert [found.flag(value) for value in (7, 6, 0)] == ["high", None, None]
    assert ranges.of("K562", "percent") is None
    assert ReferenceRanges.read().of("LYM", "absolute") == Range(1.0, 4.8)


def test_a_laboratory_gives_its_own(tmp_path: Path) -> None:
    file = tmp_path / "ranges.csv"
    file.write_text("class,low,high,unit\nK562,0,1,percent\n")
    assert ReferenceRanges.read(file).of("K562", "percent") == Range(0, 1)
    assert ReferenceRanges.read(file).of("EOS", "percent") is None
    file.write_text("class,low,high,unit\nNeutrophils,40,70,percent\n")
    assert ReferenceRanges.read(file).of("NEU", "percent") == Range(40, 70)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("class,low,high\nEOS,0,1\n", "no unit"),
        ("class,low,high,unit\nEOS,none,1,percent\n", "line 2: low and high are to be numbers"),
        ("class,low,high,unit\nEOS,2,1,percent\n", "lies above"),
        ("class,low,high,unit\nEOS,2,inf,percent\n", "are to be finite"),
        ("class,low,high,unit\nEOS,0,1,%\n", "give percent"),
        ("class,low,high,unit\nEOS,0,1,percent\neosinophil,0,6,percent\n", r"line 3: a second range \(percent\)"),
    ],
)
def test_what_is_no_range_is_said_in_one_line(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "ranges.csv"
    file.write_text(text)
    with pytest.raises(InputError, match=said) as caught:
        ReferenceRanges.read(file)
    assert "ranges.csv" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_table_that_a_spreadsheet_marked_as_utf_8_is_read(tmp_path: Path) -> None:
    file = tmp_path / "ranges.csv"
    file.write_text("class,low,high,unit\nEOS,0,1,percent\n", encoding="utf-8-sig")
    assert ReferenceRanges.read(file).of("EOS", "percent") == Range(0, 1)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere\.csv"):
        ReferenceRanges.read(tmp_path / "nowhere.csv")
