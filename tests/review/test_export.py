import pytest

from leukoscope.cells.labels import Labels, labels_of
from leukoscope.common.errors import InputError
from leukoscope.review.export import labels_of_review
from leukoscope.review.store.accounts import local_reviewer
from leukoscope.review.store.events import label_cells


def say(store, opened, name, row, label, source="gallery") -> None:
    who = local_reviewer(store, name)
    label_cells(store, opened.id, who, key=f"{row}-{label}-{source}", rows=[row], label=label, source=source)


@pytest.fixture
def reviewed(store, opened):
    """Cell 0: one reader. Cell 1: two alike. Cell 2: two unlike. Cell 3: two unlike, decided for one of them."""
    for name, row, label in [("ann", 0, 1), ("ann", 1, 2), ("bob", 1, 2), ("ann", 2, 0), ("bob", 2, 1)]:
        say(store, opened, name, row, label)
    say(store, opened, "ann", 3, 3)
    say(store, opened, "bob", 3, 0)
    say(store, opened, "cleo", 3, 3, "dispute")
    return opened


def test_settled_labels_name_everybody_who_gave_them(store, reviewed):
    table = labels_of_review(store, reviewed.id).table
    rows = {cell_id: row for row, cell_id in enumerate(reviewed.sample.table["cell_id"])}
    given = [(rows[each.cell_id], each.label, each.reviewer, each.source) for each in table.itertuples()]
    assert given == [
        (0, "LYM", "ann", "review:gallery"),
        (1, "NEU", "ann", "review:gallery"),
        (1, "NEU", "bob", "review:gallery"),
        (3, "none of these", "ann", "review:gallery"),
        (3, "none of these", "cleo", "review:dispute"),
    ]
    assert table["time"].str.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00").all()


def test_two_who_agree_can_be_asked_for(store, reviewed):
    table = labels_of_review(store, reviewed.id, agree=2).table
    assert table.groupby("cell_id")["reviewer"].nunique().tolist() == [2, 2]
    with pytest.raises(InputError, match="--agree 0: at least one reader"):
        labels_of_review(store, reviewed.id, agree=0)


@pytest.mark.parametrize("name", ["labels.csv", "labels.parquet"])
def test_the_file_is_an_overlay_that_every_verb_takes(store, reviewed, tmp_path, name):
    labels_of_review(store, reviewed.id).write(tmp_path / name)
    cells = reviewed.sample.cellset
    found = labels_of(cells, overlay=Labels.read(tmp_path / name))
    assert found[:4].tolist() == ["LYM", "NEU", None, "none of these"]
