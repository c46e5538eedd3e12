from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

import numpy as np

from leukoscope.cells.pack_settings import PackSettings
from leukoscope.cells.readers.channels import channel_names, image_files
from leukoscope.cells.readers.frames import IMAGE_SUFFIXES, open_frames
from leukoscope.cells.readers.protocol import HEAVY, Item, Padding, Picture, Plan, RawCell, Rejection, Unreadable
from leukoscope.cells.readers.walk import find_files, path_columns
from leukoscope.common.errors import InputError

# Camera noise makes no tile twice, let alone three times; two alike may be one cell exported twice.
_REPEATS_OF_PADDING = 3


class Montages:
    """Montages: images that hold one cell a tile, ``settings.tile`` pixels a side, row by row.

    The software that exports imaging flow cytometry in this way fills the last montage up with tiles that hold no
    cell: constant ones, or tiles made by repeating one row. They are dropped and counted.
    """

    uses = frozenset({"tile", "channels", "pages", "from_path"})

    def claims(self, source: Path, settings: PackSettings) -> bool:
        """Whatever may be an image, when a tile size was given."""
        return settings.tile is not None and (source.is_dir() or source.suffix.lower() in IMAGE_SUFFIXES)

    def plan(self, source: Path, settings: PackSettings) -> Plan:
        """One item a montage, in the order of the relative paths; a cell's index is that of its tile."""
        if settings.tile is None:
            raise InputError(f"{source}: a montage needs the side of its tiles; give --tile 40, or whatever it is")
        root, found = find_files(source, IMAGE_SUFFIXES, settings, what="images")
        images, refused, left = image_files(found, root, settings)
        items = (_item(image.paths, image.source, settings) for image in images)

        def all_items() -> Iterator[Item | Rejection]:
            yield from refused
            yield from items

        return Plan(all_items(), len(images) + len(refused), unit="montages", ignored=found.ignored + left)


def cut_tiles(pixels: np.ndarray, side: int) -> np.ndarray:
    """Cut ``(C, H, W)`` into tiles ``(n, C, side, side)``, row by row.

    Raises:
        Unreadable: when the montage is no whole number of tiles.
    """
    channels, height, width = pixels.shape
    if height % side or width % side:
        raise Unreadable(f"{width}x{height} pixels are no whole number of tiles of {side}; check --tile")
    grid = pixels.reshape(channels, height // side, side, width // side, side)
    return grid.transpose(1, 3, 0, 2, 4).reshape(-1, channels, side, side)


def is_padding(tiles: np.ndarray) -> np.ndarray:
    """Which of ``(n, C, H, W)`` hold no cell ``(n,)``.

    Those with all rows alike or all columns alike in every channel, and any pattern that fills three tiles or more.
    """
    rows_alike = (tiles == tiles[:, :, :1]).all(axis=(1, 2, 3))
    columns_alike = (tiles == tiles[..., :1]).all(axis=(1, 2, 3))
    contents = [tile.tobytes() for tile in tiles]
    counts = Counter(contents)
    repeated = np.array([counts[content] >= _REPEATS_OF_PADDING for content in contents], dtype=bool)
    padding: np.ndarray = rows_alike | columns_alike | repeated
    return padding


def _item(paths: Sequence[Path], source: str, settings: PackSettings) -> Item:
    def read() -> Iterator[RawCell | Padding]:
        start = 0
        with closing(open_frames(paths, settings, channel_names(settings))) as frames:
            for number in range(len(frames)):
                picture = frames.picture(number, settings.sheet_limit)
                tiles = cut_tiles(picture.pixels, settings.tile or 1)
                yield from _cells(tiles, picture, start)
                start += len(tiles)
            if frames.broken:
                raise Unreadable(frames.broken)

    return Item(source, read, path_columns(source, settings), HEAVY)


def _cells(tiles: np.ndarray, picture: Picture, start: int) -> Iterator[RawCell | Padding]:
    padding = is_padding(tiles)
    for index in np.flatnonzero(~padding):
        yield RawCell(start + int(index), Picture(tiles[index], picture.channels))
    yield Padding(int(padding.sum()))
