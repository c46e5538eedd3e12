from collections.abc import Mapping
from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from leukoscope.cells.cellset import Origin
from leukoscope.cells.datasets.asis import AsIs
from leukoscope.cells.datasets.boxes import Voc
from leukoscope.cells.datasets.masks import Masks
from leukoscope.cells.datasets.points import Points
from leukoscope.cells.datasets.screen import Screen
from leukoscope.cells.datasets.sheet import Sheet
from leukoscope.cells.datasets.tree import Tree
from leukoscope.cells.pack_settings import PackSettings
from leukoscope.common.errors import InputError
from leukoscope.common.settings import Settings

_OF_THE_LAYOUT = ("reader", "root", "columns", "path_template", "from_path", "names")


class Stated(Settings):
    """What a paper, or the set's own page, says that the set holds; ``only`` names a part by column and value."""

    by: str
    cells: int | None = None
    patients: int | None = None
    classes: dict[str, int] = Field(default_factory=dict)
    only: dict[str, str] = Field(default_factory=dict)


class Entry(Settings):
    """A published set of cells: what it is, what to cite, how a downloaded copy lies, and how that is packed.

    Attributes:
        name: what the command line calls it.
        what: the cells, the stain and the instrument, in a line.
        citation: the papers to cite, and the data where they have a DOI of their own.
        licence: of the images, as far as it could be established.
        page: where the set is downloaded.
        download: what the downloaded copy looks like, for a person.
        groups: what holds cells together (patients, fields), or that nothing is known.
        evidence: where the layout is taken from.
        unsure: what could not be established; nothing is made up for it.
        classes: the set's code of a class to its name.
        names: likewise for other columns.
        stated: what papers say that it holds.
        needs: files or folders that a copy holds; the folder that holds them is looked for two levels down.
        pack: settings of packing.
        layout: how the images, tables and boxes lie.
    """

    name: str
    title: str
    what: str
    citation: Annotated[tuple[str, ...], Field(min_length=1)]
    licence: str
    page: str
    download: str
    groups: str
    evidence: tuple[str, ...]
    unsure: tuple[str, ...] = ()
    classes: dict[str, str] = Field(default_factory=dict)
    names: dict[str, dict[str, str]] = Field(default_factory=dict)
    stated: tuple[Stated, ...] = ()
    needs: tuple[str, ...] = ()
    pack: dict[str, Any] = Field(default_factory=dict)
    layout: Annotated[AsIs | Tree | Sheet | Voc | Points | Masks | Screen, Field(discriminator="kind")]

    @property
    def kinds(self) -> tuple[str, ...]:
        """Names of the classes, each once."""
        return tuple(dict.fromkeys(self.classes.values()))

    @property
    def origin(self) -> Origin:
        """What a CellSet keeps of the entry."""
        return Origin(dataset=self.name, title=self.title, licence=self.licence, citation=self.citation, page=self.page)

    def settings(self, given: Mapping[str, Any], laid: Mapping[str, Any], where: str) -> PackSettings:
        """Settings of packing: those of the entry and of the layout, with those that a user has ``given`` over them.

        A ``size`` or a rule of one's own replaces both of the entry's; what was resized has pixels of no known size.

        Raises:
            InputError: when a key is unknown, a value is wrong, or a key is the layout's own business.
        """
        if fixed := [key for key in given if key in _OF_THE_LAYOUT]:
            raise InputError(f"{where}: {fixed[0]} follows from the layout of {self.name}; leave it out")
        chosen = {**self.pack, **laid, "names": {"label": self.classes, **self.names}}
        if {"size", "fit"} & set(given):
            chosen = {key: value for key, value in chosen.items() if key not in ("size", "fit")}
        settings = PackSettings.parse({**chosen, **given}, where)
        if settings.rule == "resize" and "pixel_size_um" not in given:
            return settings.model_copy(update={"pixel_size_um": None})
        return settings

    @model_validator(mode="after")
    def _stated_classes_are_named(self) -> Self:
        for stated in self.stated:
            if unknown := set(stated.classes) - set(self.kinds):
                raise ValueError(f"{stated.by} states classes without a code: {', '.join(sorted(unknown))}")
        return self
