from pathlib import Path

from leukoscope.training.history import History, read_history


def test_rows_that_will_be_written_again_are_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "steps.csv"
    history = History(path, "step", ("loss", "knn"), 0)
    for step in range(5):
        history.add({"step": step, "loss": step / 3})
    again = History(path, "step", ("loss", "knn"), 3)
    again.add({"step": 3, "loss": 9.0, "knn": 0.5})
    assert [(row["step"], row["loss"], row["knn"]) for row in read_history(path)] == [
        ("0", "0", ""),
        ("1", "0.333333", ""),
        ("2", "0.666667", ""),
        ("3", "9", "0.5"),
    ]


def test_a_row_cut_short_by_a_kill_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "steps.csv"
    path.write_text("step,loss,knn\n0,1.5,\n1,0.", encoding="utf-8")
    History(path, "step", ("loss", "knn"), 5)
    assert path.read_text(encoding="utf-8") == "step,loss,knn\n0,1.5,\n"
