from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image


def noise(*shape: int, seed: int = 0, dtype: type = np.uint8) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 250, shape).astype(dtype)


@pytest.fixture
def copy(tmp_path: Path) -> Callable[..., Path]:
    """Writes a small download: images of noise, each of its own, and text files; returns its folder."""

    def write(images: Iterable[str] = (), texts: dict[str, str] | None = None, *, shape: tuple[int, ...]) -> Path:
        root = tmp_path / "download"
        for number, name in enumerate(images):
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.suffix in (".tif", ".tiff"):
                tifffile.imwrite(path, noise(*shape, seed=number, dtype=np.uint16 if len(shape) == 2 else np.uint8))
            else:
                Image.fromarray(noise(*shape, seed=number)).save(path)
        for name, text in (texts or {}).items():
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        return root

    return write
