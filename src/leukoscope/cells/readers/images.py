from collections.abc import Iterator
from pathlib import Path

from leukoscope.cells.pack_settings import PackSettings
from leukoscope.cells.readers.channels import channel_names, image_files
from leukoscope.cells.readers.frames import IMAGE_SUFFIXES
from leukoscope.cells.readers.pieces import count_pieces, picture_items
from leukoscope.cells.readers.protocol import Item, Plan, Rejection
from leukoscope.cells.readers.walk import find_files, path_columns


class Images:
    """A folder of images (sub-folders are classes, or all lie flat), or one file; a TIFF may hold many pages."""

    uses = frozenset({"channels", "pages", "from_path"})

    def claims(self, source: Path, settings: PackSettings) -> bool:
        """A folder, or a file with an image's suffix."""
        return source.is_dir() or source.suffix.lower() in IMAGE_SUFFIXES

    def plan(self, source: Path, settings: PackSettings) -> Plan:
        """One item a file (or several, for a long stack), in the order of the relative paths."""
        root, found = find_files(source, IMAGE_SUFFIXES, settings, what="images")
        images, refused, left = image_files(found, root, settings)

        def items() -> Iterator[Item | Rejection]:
            yield from refused
            for image in images:
                columns = path_columns(image.source, settings)
                yield from picture_items(image.paths, image.source, columns, settings, channel_names(settings))

        total = len(refused) + sum(count_pieces(image.paths, settings) for image in images)
        return Plan(items(), total, ignored=found.ignored + left)
