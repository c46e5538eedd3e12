from collections.abc import Mapping
from pathlib import Path

from leukoscope.common.files import Mark, whole_folder, write_json
from leukoscope.encoders.bundle import Encoder
from leukoscope.methods.pretrain_settings import PretrainSettings

_MARK = Mark("results.json")


def keep(encoder: Encoder, numbers: Mapping[str, float], run: Path, epoch: int) -> None:
    """Keep the encoder as it is after ``epoch`` (from 1): ``run/epochs/N/`` with the bundle and ``results.json``."""
    with whole_folder(run / "epochs" / str(epoch), _MARK, overwrite=True) as folder:
        encoder.save(folder / "encoder")
        write_json(folder / _MARK.file, {"epoch": epoch, "final": dict(numbers)})


def along(run: Path, settings: PretrainSettings) -> dict[int, Path]:
    """The bundles of a finished run by the epoch after which they were kept; the last is the encoder it ended with."""
    every, last = settings.keep_every or settings.train.last_epoch, settings.train.last_epoch
    return {epoch: run / "epochs" / str(epoch) / "encoder" for epoch in range(every, last, every)} | {
        last: run / "encoder"
    }
