from pathlib import Path
from typing import Annotated

import typer

from leukoscope.cli.options import Device, Json, Only, Overwrite, Seed, Size
from leukoscope.cli.output import say, say_json

_ENCODER = (
    "An encoder bundle; or, with a timm NAME, a baseline: random:NAME, imagenet:NAME, imagenet:NAME@FILE, "
    "pretrained:NAME@FILE, pretrained:NAME@hf-hub:ORG/NAME."
)
_ADAPT = "Re-estimate the statistics of batch norms on these cells, which come from elsewhere than the encoder's."
_FLIPPED = "Also store the features of every cell mirrored, which 'mil' then learns from."
_COLOURS = "Bring the colours of these cells to those of SET, one linear map for all."


def embed(
    cellset: Annotated[Path, typer.Argument(metavar="SET", help="A CellSet.")],
    encoder: Annotated[str, typer.Argument(metavar="ENCODER", help=_ENCODER)],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The features to write, .h5ad.")],
    only: Only = None,
    batch: Annotated[int, typer.Option("--batch", help="Cells a step; does not change the features.", min=1)] = 256,
    device: Device = "auto",
    precision: Annotated[str, typer.Option("--precision", help="auto, fp32, bf16, fp16.")] = "auto",
    flips: Annotated[bool, typer.Option("--flips", help="Average over the eight flips and quarter turns.")] = False,
    stages: Annotated[int, typer.Option("--stages", help="Read the last N stages side by side.", min=1)] = 1,
    adapt: Annotated[bool, typer.Option("--adapt-batch-norm", help=_ADAPT)] = False,
    colours_of: Annotated[Path | None, typer.Option("--colours-of", metavar="SET", help=_COLOURS)] = None,
    maps: Annotated[bool, typer.Option("--maps", help="Also store unpooled maps beside OUT, float16.")] = False,
    flipped: Annotated[bool, typer.Option("--flipped", help=_FLIPPED)] = False,
    size: Size = None,
    truncate_after: Annotated[
        int | None, typer.Option("--truncate-after", help="Of a baseline: end after its N-th stage.", min=1)
    ] = None,
    seed: Seed = 0,
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Compute the features of every cell with a frozen encoder."""
    from leukoscope.cells.cellset import CellSet
    from leukoscope.common.errors import InputError
    from leukoscope.encoders.baselines import open_encoder
    from leukoscope.encoders.embed import embed as run
    from leukoscope.encoders.readout import Readout
    from leukoscope.encoders.remedies import Recolour, reestimate_batch_norm

    if out.suffix.lower() != ".h5ad":
        raise InputError(f"{out}: features are written as .h5ad alone; call it {out.with_suffix('.h5ad').name}")
    cells = CellSet.open(cellset)
    cells = cells.where(only) if only else cells
    found = open_encoder(encoder, cells, size=size, seed=seed, truncate_after=truncate_after)
    found = reestimate_batch_norm(found, cells, device=device) if adapt else found
    features = run(
        cells,
        found,
        out,
        batch=batch,
        device=device,
        precision=precision,
        readout=Readout(flips=flips, stages=stages),
        maps=maps,
        flipped=flipped,
        recolour=Recolour.between(cells, CellSet.open(colours_of)) if colours_of else None,
        overwrite=overwrite,
    )
    count, width = features.x.shape
    say(f"{out}: {count} cells, {width} features each, by {found.info.timm_name} ({found.info.method})")
    say_json(json, {"features": str(out), "cells": count, "dim": width, "encoder": found.fingerprint})
