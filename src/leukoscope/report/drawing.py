"""The one look of all figures: fonts, sizes, colours, and how a figure becomes a file and a part of the page."""

import base64
import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from PIL import Image

# Okabe and Ito (2008), Color Universal Design; ordered so that neighbours differ in lightness too.
PALETTE = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#6B6B6B", "#B8A800")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
INK = "#1d2733"
FAINT = "#8a94a0"
HAIR = "#e3e7eb"
PROPORTION = LinearSegmentedColormap.from_list("proportion", ["#ffffff", "#d4e3ef", "#6fa3c8", "#1f5f94", "#0b3357"])
HEAT = LinearSegmentedColormap.from_list("heat", ["#9b1d64", "#e8590c", "#ffe066"])
INCH = 96  # CSS pixels
_PRINT_DPI = 300
_ON_PAGE = 1.25

_STYLE: dict[str, Any] = {
    "font.family": "DejaVu Sans",  # comes with matplotlib: the same figure on every machine
    "font.size": 8.5,
    "axes.titlesize": 9,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 8.5,
    "axes.edgecolor": FAINT,
    "axes.linewidth": 0.6,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.unicode_minus": True,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "lines.linewidth": 1.3,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "figure.dpi": INCH,
    "svg.fonttype": "path",
    "pdf.fonttype": 42,  # letters stay letters
    "svg.hashsalt": "leukoscope",  # the same numbers give the same file
    "figure.constrained_layout.use": True,
}


@dataclass(frozen=True)
class Picture:
    """A figure for the page: ``src`` is a data address, ``file`` its name under ``figures/``, sizes in CSS pixels."""

    src: str
    file: str
    width: int
    height: int
    alt: str
    caption: str = ""


@contextmanager
def figure(width: float, height: float) -> Iterator[Figure]:
    """A figure of ``width`` by ``height`` inches in the report's style."""
    with mpl.rc_context(_STYLE):  # type: ignore[arg-type]
        yield Figure(figsize=(width, height))


def keep(figure: Figure, folder: Path, name: str, *, alt: str, caption: str = "", dpi: int | None = None) -> Picture:
    """Write ``figure`` into ``folder`` as ``name.svg``, or with ``dpi`` as ``.png``; return it for the page."""
    suffix = "svg" if dpi is None else "png"
    data = _saved(figure, folder / f"{name}.{suffix}", dpi or INCH)
    return _picture(figure, data, f"{name}.{suffix}", alt, caption)


def keep_printable(figure: Figure, folder: Path, name: str, *, alt: str, caption: str) -> Picture:
    """Write ``figure`` into ``folder`` for print, ``name.pdf`` and ``name.png`` of 300 dpi; return it for the page.

    What the figure holds as pixels has 300 dpi in the vector file too. The page gets a picture with half the pixels a
    side and shows it larger than print, as screens are read from further away.
    """
    _saved(figure, folder / f"{name}.pdf", _PRINT_DPI)
    large = Image.open(io.BytesIO(_saved(figure, folder / f"{name}.png", _PRINT_DPI)))
    half = png(np.asarray(large.convert("RGB").reduce(2)))
    return _picture(figure, half, f"{name}.png", alt, caption, zoom=_ON_PAGE)


def _saved(figure: Figure, path: Path, dpi: int) -> bytes:
    """Write ``figure`` as ``path``, without what changes from run to run; returns what was written."""
    nameless = {"svg": ("Date", "Creator"), "png": ("Software",), "pdf": ("CreationDate", "Creator", "Producer")}
    suffix = path.suffix[1:]
    buffer = io.BytesIO()
    figure.savefig(buffer, format=suffix, dpi=dpi, metadata=dict.fromkeys(nameless[suffix]))
    data = buffer.getvalue()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return data


def _picture(figure: Figure, data: bytes, file: str, alt: str, caption: str, *, zoom: float = 1.0) -> Picture:
    width, height = (round(inches * INCH * zoom) for inches in figure.get_size_inches())
    return Picture(data_address(data, file.rpartition(".")[2]), file, width, height, alt, caption)


def data_address(data: bytes, suffix: str) -> str:
    """``data`` as an address that a page carries inside itself."""
    kind = {"png": "image/png", "svg": "image/svg+xml"}[suffix]
    return f"data:{kind};base64,{base64.b64encode(data).decode('ascii')}"


def png(pixels: np.ndarray) -> bytes:
    """PNG of uint8 pixels ``(H, W)`` or ``(H, W, 3)``."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def colour(index: int) -> str:
    """The colour of the series ``index``; after eight they repeat and :func:`marker` tells them apart."""
    return PALETTE[index % len(PALETTE)]


def marker(index: int) -> str:
    """The marker of the series ``index``, changing from one to the next and again after eight."""
    return MARKERS[(index + index // len(PALETTE)) % len(MARKERS)]


def light_grid(axes: Axes) -> None:
    """Faint horizontal lines behind the data."""
    axes.grid(axis="y", color=HAIR, linewidth=0.6)
    axes.set_axisbelow(True)


def slug(*parts: str) -> str:
    """A file name of ``parts``: letters, digits and dashes."""
    joined = "-".join(parts).lower()
    return "".join(letter if letter.isalnum() else "-" for letter in joined).strip("-")
