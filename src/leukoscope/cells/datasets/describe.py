from leukoscope.cells.datasets.entry import Entry, Stated


def summary(entry: Entry) -> tuple[str, str, int, str, str]:
    """Name, cells as first stated, number of classes, licence and page, for a table of all sets."""
    cells = next((stated.cells for stated in entry.stated if stated.cells and not stated.only), None)
    return entry.name, f"{cells:,}" if cells else "", len(entry.kinds), entry.licence, entry.page


def describe(entry: Entry) -> list[str]:
    """Everything about a set, as lines for a person."""
    lines = [f"{entry.name}: {entry.title}", "", entry.what, ""]
    lines += _block("licence", [entry.licence])
    lines += _block("cite", entry.citation)
    lines += _block("page", [entry.page])
    lines += _block("groups", [entry.groups])
    lines += _block("classes", [", ".join(f"{name} ({code})" for code, name in entry.classes.items())])
    for column, names in entry.names.items():
        lines += _block(column, [", ".join(f"{name} ({code})" for code, name in names.items())])
    lines += _block("stated", [_statement(stated) for stated in entry.stated])
    lines += _block("packed with", [f"{key}: {value}" for key, value in entry.pack.items()])
    lines += _block("layout from", entry.evidence)
    lines += _block("not sure", entry.unsure)
    lines += ["a downloaded copy, whole or in part:", *(f"    {line}" for line in entry.download.splitlines()), ""]
    return [*lines, f"to pack it:  leukoscope datasets {entry.name} --from DIR OUT"]


def _block(title: str, texts: tuple[str, ...] | list[str]) -> list[str]:
    found = [text for text in texts if text]
    return [f"{title if number == 0 else '':<13}{text}" for number, text in enumerate(found)]


def _statement(stated: Stated) -> str:
    part = ", ".join(f"{column} {value}" for column, value in stated.only.items())
    cells = [f"{stated.cells:,} cells"] if stated.cells is not None else []
    patients = [f"{stated.patients} patients"] if stated.patients is not None else []
    classes = [f"{name} {count:,}" for name, count in stated.classes.items()]
    numbers = ", ".join([*cells, *patients, *classes])
    return f"{stated.by}{f', {part}' if part else ''}: {numbers}"
