import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from leukoscope.cells.few import FewLabels
from leukoscope.common.errors import InputError
from leukoscope.common.settings import Settings, read_yaml, with_overrides
from leukoscope.encoders.readout import Readout
from leukoscope.study.sweep import trials

_VARIABLE = re.compile(r"\$\{(\w+)(?::-([^}]*))?\}")
_ORIGINS = ("pack", "dataset", "simulate", "open", "spoil", "cohort")
_MADE_OF_ANOTHER = ("spoil", "cohort")


class CellSource(Settings):
    """Where a set of cells comes from, exactly one of its first six keys.

    ``pack``, ``simulate``, ``spoil`` and ``cohort`` take the settings of those verbs, ``dataset`` the ``name`` of a
    published set, the folder ``from`` of a downloaded copy and settings of packing, ``open`` the path of a CellSet; the
    ``source`` of ``spoil`` and ``cohort`` is another set of the recipe, ``SET`` or ``SET.PART``. ``split`` names parts
    and their shares; the cells are split once, stratified, duplicates kept together, and groups: cells that share the
    column ``group``, by default ``patient`` or else ``slide`` where the table has it (``none``: no groups).
    """

    pack: dict[str, Any] | None = None
    dataset: dict[str, Any] | None = None
    simulate: dict[str, Any] | None = None
    open: Path | None = None
    spoil: dict[str, Any] | None = None
    cohort: dict[str, Any] | None = None
    split: dict[str, float] | None = None
    group: str | None = None

    @model_validator(mode="after")
    def _one_origin(self) -> "CellSource":
        if sum(getattr(self, origin) is not None for origin in _ORIGINS) != 1:
            raise ValueError(f"give exactly one of {', '.join(_ORIGINS[:-1])} and {_ORIGINS[-1]}")
        if self.pack is not None and "source" not in self.pack:
            raise ValueError("pack needs the key source")
        if self.dataset is not None and not {"name", "from"} <= set(self.dataset):
            raise ValueError("dataset needs the keys name and from")
        for origin in _MADE_OF_ANOTHER:
            settings = getattr(self, origin)
            if settings is not None and not isinstance(settings.get("source"), str):
                raise ValueError(f"{origin} needs the key source, a set of the recipe")
        return self

    @property
    def made_of(self) -> str | None:
        """The cells of the recipe, ``SET`` or ``SET.PART``, that these are made of."""
        settings = self.spoil or self.cohort
        return None if settings is None else str(settings["source"])


class EncoderPlan(Settings):
    """An encoder to compare: pre-trained on ``cells``, of ``random`` weights, or ``given``, as ``embed`` takes them.

    A method that uses labels, on cells that a task evaluates, is pre-trained inside each training fold of that task.

    ``pretrain`` holds the settings of the verb; any value may be ``{sweep: [...]}``, and ``keep_every`` keeps several
    epochs. Then ``choose`` says how the best of them is told: ``rankme`` (label-free, the largest), or ``inner`` (by
    the linear probe inside each training fold, so that no test fold has a say).
    """

    cells: tuple[str, ...] = Field(min_length=1)
    pretrain: dict[str, Any] | None = None
    random: dict[str, Any] | None = None
    given: dict[str, Any] | None = None
    choose: Literal["rankme", "inner"] = "rankme"

    @model_validator(mode="after")
    def _one_kind(self) -> "EncoderPlan":
        if sum(origin is not None for origin in (self.pretrain, self.random, self.given)) != 1:
            raise ValueError("give exactly one of pretrain, random and given")
        train = (self.pretrain or {}).get("train", {})
        if self.several and self.choose == "rankme" and train.get("monitor_cells", 2) in (0, 1):
            raise ValueError("a choice by rankme needs train.monitor_cells, the cells that it is measured on")
        return self

    @property
    def several(self) -> bool:
        """Whether there are several to choose from: the trials of a sweep, the epochs that ``keep_every`` keeps."""
        return len(trials(self.pretrain or {})) > 1 or (self.pretrain or {}).get("keep_every") is not None


class Task(Settings):
    """An evaluation in folds: the annotated cells ``cells``, the heads, and networks that learn from labels as a whole.

    ``supervised`` names networks to train from scratch; ``finetune``, by a new name, an ``encoder`` to train on in
    every fold, with a ``preset`` and what differs from it. ``groups`` names groups of the task's classes that are
    scored as well; one of them may be ``"*"``, the rest.
    """

    cells: str
    label: str = "label"
    classes: tuple[str, ...] | None = None
    merge: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    groups: dict[str, Literal["*"] | tuple[str, ...]] = Field(default_factory=dict)
    group: str | None = None
    heads: tuple[str, ...] = Field(default=("linear", "mlp", "knn"), min_length=1)
    folds: int = Field(default=5, ge=2)
    repeats: int = Field(default=1, ge=1)
    seeds: tuple[int, ...] = Field(default=(0,), min_length=1)
    embed: Readout = Readout()
    probes: dict[str, Any] = Field(default_factory=dict)
    supervised: dict[str, dict[str, Any]] = Field(default_factory=dict)
    finetune: dict[str, dict[str, Any]] = Field(default_factory=dict)
    few_labels: FewLabels | None = None

    @model_validator(mode="after")
    def _few_are_fine_tuned(self) -> "Task":
        for name in self.few_labels.finetune if self.few_labels else ():
            if name not in self.finetune:
                raise ValueError(f"few_labels.finetune: {name!r} is not among those of finetune")
        return self

    @field_validator("finetune")
    @classmethod
    def _names_are_file_names(cls, plans: dict[str, Any]) -> dict[str, Any]:
        return _file_names(plans)


class CohortTask(Settings):
    """Patients judged by their cells, as ``leukoscope mil`` does; ``mil`` holds what its ``--set`` takes.

    ``maps`` and ``flipped`` are as of ``leukoscope embed``.

    Encoders that ``inside`` names are pre-trained anew in every fold, on the cells of its training patients.
    """

    cells: str
    bag: str = "patient"
    label: str = "label"
    group: str | None = None
    kind: str | None = None
    suspect: tuple[str, ...] = ()
    heads: tuple[str, ...] = Field(default=("class-attention", "abmil", "mean", "mean-features"), min_length=1)
    folds: int = Field(default=5, ge=2)
    seeds: tuple[int, ...] = Field(default=(0, 1, 2), min_length=1)
    embed: Readout = Readout()
    maps: bool = False
    flipped: bool = False
    mil: dict[str, Any] = Field(default_factory=dict)
    curve: dict[str, Any] | None = None
    inside: tuple[str, ...] = ()


class Sample(Settings):
    """A new sample to classify and count with a head fitted on all annotated cells of a task.

    Of an encoder with several trials, the one that ``rankme`` chose is taken.
    """

    cells: str
    task: str
    encoder: str
    head: Literal["linear", "mlp"] = "linear"


class Shift(Settings):
    """Cells of another origin, on which the heads of ``task`` are tried too, in ``classes`` or all that both have.

    ``label`` and ``merge`` name the classes of these cells as the task names them. ``remedies`` are tried beside the
    cells as they come: the encoder's batch norms re-estimated on them, their colours brought to those of the task's.
    """

    task: str
    cells: str
    label: str = "label"
    classes: tuple[str, ...] | None = None
    merge: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    group: str | None = None
    heads: tuple[str, ...] = Field(default=("linear", "knn"), min_length=1)
    remedies: tuple[Literal["batch-norm", "colour"], ...] = ("batch-norm", "colour")


class Recipe(Settings):
    """A study from cells to tables: sets of cells, the encoders to compare, what they are compared on."""

    name: str
    title: str
    paper: str | None = None
    seed: int = 0
    device: str = "auto"
    sets: dict[str, CellSource]
    encoders: dict[str, EncoderPlan]
    tasks: dict[str, Task] = Field(default_factory=dict)
    cohorts: dict[str, CohortTask] = Field(default_factory=dict)
    shifts: dict[str, Shift] = Field(default_factory=dict)
    samples: dict[str, Sample] = Field(default_factory=dict)

    @field_validator("sets", "encoders", "tasks", "cohorts", "shifts", "samples")
    @classmethod
    def _names_are_file_names(cls, plans: dict[str, Any]) -> dict[str, Any]:
        return _file_names(plans)

    @model_validator(mode="after")
    def _references_exist(self) -> "Recipe":
        for name, cells in self.sets.items():
            if cells.made_of is not None:
                where = f"sets.{name}.{'spoil' if cells.spoil else 'cohort'}.source"
                self._check_cells(cells.made_of, where)
                if self.acquired(cells.made_of) != cells.made_of:
                    raise ValueError(f"{where}: {cells.made_of} is made of other cells; name the set that they are of")
        for name, encoder in self.encoders.items():
            for reference in encoder.cells:
                self._check_cells(reference, f"encoders.{name}.cells")
        inner = [name for name, encoder in self.encoders.items() if encoder.several and encoder.choose == "inner"]
        for name, task in self.tasks.items():
            self._check_cells(task.cells, f"tasks.{name}.cells")
            if inner and "linear" not in task.heads:
                raise ValueError(f"tasks.{name}.heads: {inner[0]} is chosen by the linear probe; add linear")
        for name, cohort in self.cohorts.items():
            self._check_cells(cohort.cells, f"cohorts.{name}.cells")
            for encoder_name in cohort.inside:
                if encoder_name not in self.encoders or self.encoders[encoder_name].pretrain is None:
                    raise ValueError(f"cohorts.{name}.inside: {encoder_name!r} is no encoder that is pre-trained")
                if self.encoders[encoder_name].several:
                    raise ValueError(f"cohorts.{name}.inside: {encoder_name} is swept; fix its settings")
                # It is another encoder in each fold, so that nothing else can be judged by it.
                users = [f"samples.{each}" for each, sample in self.samples.items() if sample.encoder == encoder_name]
                for each, task in self.tasks.items():
                    tuned = [plan.get("encoder") for plan in task.finetune.values()]
                    users += [f"tasks.{each}.finetune"] if encoder_name in tuned else []
                if users:
                    raise ValueError(
                        f"{users[0]}: {encoder_name} is pre-trained inside the folds of cohorts.{name} alone"
                    )
        for name, shift in self.shifts.items():
            self._check_cells(shift.cells, f"shifts.{name}.cells")
            if shift.task not in self.tasks:
                raise ValueError(f"shifts.{name} names {shift.task!r}, which the recipe does not define")
            if overlap(self.acquired(shift.cells), self.acquired(self.tasks[shift.task].cells)):
                raise ValueError(f"shifts.{name} tests on cells of {shift.cells}, which its heads are fitted on")
        for name, sample in self.samples.items():
            self._check_cells(sample.cells, f"samples.{name}.cells")
            for key, known in ((sample.task, self.tasks), (sample.encoder, self.encoders)):
                if key not in known:
                    raise ValueError(f"samples.{name} names {key!r}, which the recipe does not define")
            if self.encoders[sample.encoder].several and self.encoders[sample.encoder].choose != "rankme":
                raise ValueError(f"samples.{name}: {sample.encoder} is chosen anew in each fold; choose it by rankme")
            if overlap(self.acquired(sample.cells), self.acquired(self.tasks[sample.task].cells)):
                raise ValueError(f"samples.{name} counts cells of {sample.cells}, which its classifier is fitted on")
        return self

    def acquired(self, reference: str) -> str:
        """The cells as acquired that ``SET`` or ``SET.PART`` stands for: of a spoiled set those it was made of."""
        return self.sets[reference.partition(".")[0]].made_of or reference

    @property
    def inside(self) -> set[str]:
        """The encoders that are pre-trained inside the folds of a cohort, and nowhere else."""
        return {name for cohort in self.cohorts.values() for name in cohort.inside}

    def _check_cells(self, reference: str, where: str) -> None:
        name, _, part = reference.partition(".")
        if name not in self.sets:
            raise ValueError(f"{where}: no set {name!r}; the recipe has {', '.join(self.sets)}")
        if part and part not in (self.sets[name].split or {}):
            raise ValueError(f"{where}: set {name!r} is not split into a part {part!r}")


def _file_names(plans: dict[str, Any]) -> dict[str, Any]:
    for name in plans:
        if not re.fullmatch(r"[A-Za-z0-9][\w-]*", name):
            raise ValueError(f"{name!r} becomes a folder: use letters, digits, - and _")
    return plans


def overlap(a: str, b: str) -> bool:
    """Whether two references ``SET`` or ``SET.PART`` share cells."""
    (set_a, _, part_a), (set_b, _, part_b) = a.partition("."), b.partition(".")
    return set_a == set_b and (not part_a or not part_b or part_a == part_b)


def read_recipe(path: Path, overrides: Iterable[str] = ()) -> Recipe:
    """Read a recipe, with ``key=value`` overrides laid over it and ``${VARIABLE:-default}`` filled in.

    Raises:
        InputError: one line naming the file and the key at fault.
    """
    data = _fill_in(with_overrides(read_yaml(path), overrides), str(path))
    return Recipe.parse(data, where=str(path))


def _fill_in(value: Any, where: str) -> Any:
    if isinstance(value, dict):
        return {key: _fill_in(inner, where) for key, inner in value.items()}
    if isinstance(value, list):
        return [_fill_in(inner, where) for inner in value]
    if isinstance(value, str):
        return _VARIABLE.sub(lambda match: _variable(match, where), value)
    return value


def _variable(match: re.Match[str], where: str) -> str:
    name, default = match.groups()
    value = os.environ.get(name, default)
    if value is None:
        raise InputError(f"{where}: the environment variable {name} is not set; set it to the folder that is meant")
    return value
