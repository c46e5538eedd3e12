from pathlib import Path
from typing import Literal

from leukoscope.cells.datasets.listing import Laid, Layout
from leukoscope.common.errors import InputError


class AsIs(Layout):
    """A file or a folder that a reader of :mod:`leukoscope.cells.readers` understands as it is.

    Attributes:
        file: pattern of the file's name; None where it is the folder that is packed.
    """

    kind: Literal["as_is"] = "as_is"
    file: str | None = None

    def lay_out(self, root: Path, scratch: Path) -> Laid | None:
        """The file, or the folder itself."""
        if self.file is None:
            return Laid(root, {})
        found = [root] if root.is_file() else sorted(root.glob(self.file))
        if len(found) > 1:
            names = ", ".join(path.name for path in found)
            raise InputError(f"{root}: holds several sets ({names}); give one of the files with --from")
        return Laid(found[0], {}) if found else None
