from leukoscope.report.evaluation import Evaluation
from leukoscope.report.tables import NO_VALUE, Field, Group, Table, interval, metric_name, number


def parts_table(evaluation: Evaluation) -> Table | None:
    """Loss and accuracies of a fine-tuned network by part of the cells, and the drops; None for other evaluations."""
    parts, drops = evaluation.results.get("parts"), evaluation.results.get("drop")
    if not parts or not drops:
        return None
    metrics = [key for key in next(iter(parts.values())) if key != "n"]
    scored = [
        [Field(part), Field(f"{told['n']:,}")]
        + [Field(number(told[metric]["value"]), interval(told[metric])) for metric in metrics]
        for part, told in parts.items()
    ]
    dropped = [
        [Field(name.replace("_", " ")), Field("")] + [_moved(moved[metric]) for metric in metrics]
        for name, moved in drops.items()
    ]
    return Table(
        "parts",
        "Loss and accuracies on the cells of each part, and below them the 95 % bootstrap interval; then how far they "
        "move towards the test cells, and below it the same relative to where they start.",
        ["cells", "n", *("loss" if metric == "log_loss" else metric_name(metric) for metric in metrics)],
        [Group("", scored), Group("Drop", dropped)],
        note="Train: training and validation cells, which the network has learned from. Validation: what the network "
        "of model selection, which has not, said of the cells that it was chosen by. Test: cells that had no say.",
    )


def _moved(moved: dict[str, float | None]) -> Field:
    difference, relative = moved["difference"], moved["relative"]
    if difference is None or relative is None:
        return Field(NO_VALUE)
    return Field(f"{difference:+.3f}".replace("-", "−"), f"{100 * relative:+.1f} %".replace("-", "−"))
