from collections.abc import Iterable, Mapping
from pathlib import Path

from leukoscope.common.files import read_json
from leukoscope.common.runs import log
from leukoscope.common.settings import Settings
from leukoscope.encoders.baselines import open_encoder
from leukoscope.encoders.bundle import random_encoder
from leukoscope.methods.kept import along
from leukoscope.methods.pretrain import pretrain
from leukoscope.methods.pretrain_settings import PretrainSettings
from leukoscope.study.recipe import EncoderPlan
from leukoscope.study.sweep import trials
from leukoscope.study.workspace import Workspace


class RandomSettings(Settings):
    """The baseline of random weights, for cells like those it is not trained on."""

    backbone: str = "resnet18"
    size: int | None = None
    seed: int = 0


class GivenSettings(Settings):
    """An encoder that is there already: a bundle, or a baseline such as ``imagenet:NAME`` or ``imagenet:NAME@FILE``."""

    encoder: str
    size: int | None = None
    truncate_after: int | None = None


def make_encoders(space: Workspace, names: Iterable[str]) -> dict[str, dict[str, Path]]:
    """Make encoders of the recipe, each trial of a sweep; returns their bundles by encoder and trial.

    Each epoch that a trial kept is a trial of its own, named ``epoch=N``, after those of the sweep.
    An encoder whose training was cut off goes on where it was.
    """
    bundles: dict[str, dict[str, Path]] = {}
    for name in names:
        plan = space.recipe.encoders[name]
        where = f"{space.recipe.name}: encoders.{name}"
        if plan.random is not None:
            bundles[name] = {"": _random(space, name, plan, RandomSettings.parse(plan.random, f"{where}.random"))}
            continue
        if plan.given is not None:
            bundles[name] = {"": _given(space, name, plan, GivenSettings.parse(plan.given, f"{where}.given"))}
            continue
        bundles[name] = {}
        for trial, settings in settings_of(space, name).items():
            log.info("encoder %s %s", name, trial)
            cells = [space.cells(reference) for reference in plan.cells]
            run = space.encoder_path(name, trial)
            bundle = pretrain(cells, run, settings=settings)
            if settings.keep_every is None:
                bundles[name][trial] = bundle
            else:
                named = {
                    ",".join(filter(None, (trial, f"epoch={n}"))): kept for n, kept in along(run, settings).items()
                }
                bundles[name] |= named
    return bundles


def settings_of(space: Workspace, name: str) -> dict[str, PretrainSettings]:
    """The settings of each trial of a pre-trained encoder, on the recipe's device where they name none.

    Raises:
        InputError: one line naming the key at fault.
    """
    where = f"{space.recipe.name}: encoders.{name}.pretrain"
    found = {}
    for trial, values in trials(space.recipe.encoders[name].pretrain or {}).items():
        train = {"device": space.recipe.device, **values.get("train", {})}
        found[trial] = PretrainSettings.parse({**values, "train": train}, where)
    return found


def largest_rankme(bundles: Mapping[str, Path]) -> tuple[str, dict[str, float]]:
    """The trial whose features have the largest RankMe on the cells it was trained on, and RankMe where it was watched.

    Of an encoder that has but one, this one.
    """
    finals = {trial: read_json(path.parent / "results.json")["final"] for trial, path in bundles.items() if trial}
    scores = {trial: float(final["rankme"]) for trial, final in finals.items() if "rankme" in final}
    return max(scores, key=scores.__getitem__, default=next(iter(bundles))), scores


def _random(space: Workspace, name: str, plan: EncoderPlan, settings: RandomSettings) -> Path:
    path = space.encoder_path(name) / "encoder"
    if not path.exists():
        cells = space.cells(plan.cells[0])
        random_encoder(settings.backbone, cells, settings.size, settings.seed).save(path)
    return path


def _given(space: Workspace, name: str, plan: EncoderPlan, settings: GivenSettings) -> Path:
    path = space.encoder_path(name) / "encoder"
    if not path.exists():
        cells = space.cells(plan.cells[0])
        open_encoder(settings.encoder, cells, size=settings.size, truncate_after=settings.truncate_after).save(path)
    return path
