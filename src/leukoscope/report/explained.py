"""What ``explain`` computes and draws, kind by kind: numbers into ``tables/`` and ``arrays/``, figures beside them."""

import numpy as np
import pandas as pd

from leukoscope.cells.cellset import CellSet
from leukoscope.common.errors import InputError
from leukoscope.differential.classifier import Classifier
from leukoscope.explain.attention import attention_maps, attention_rollout
from leukoscope.explain.classheat import class_heat
from leukoscope.explain.patches import patch_colours, patch_tokens
from leukoscope.explain.placing import lay_map
from leukoscope.explain.similarity import likeness
from leukoscope.report.cellgrid import Layer, ShownCells, draw_grid
from leukoscope.report.drawing import slug
from leukoscope.report.placed import draw_new_cells, draw_training_map
from leukoscope.report.subject import Section, Subject

_OWN_SCALE = "Each picture has its own scale, so two of them cannot be compared by it."


def explain_classes(subject: Subject, classifier: Classifier) -> Section:
    """Grad-CAM for the class that ``classifier`` predicts, of the encoder that it was fitted on."""
    section = Section()
    shown, wanted = subject.shown, classifier.info.encoder_fingerprint
    for name, encoder in subject.encoders.items():
        if encoder.fingerprint != wanted:
            section.absent.append(f"{name}: the classifier was fitted on another encoder.")
            continue
        found = class_heat(encoder, shown.cellset, shown.rows, classifier, device=subject.device)
        said = np.array(classifier.info.classes, dtype=object)[found.probabilities.argmax(axis=1)]
        notes = [f"→ {label}\n{p:.2f}" for label, p in zip(said, found.probabilities.max(axis=1), strict=True)]
        subject.keep_array(slug("class", name), found.heat)
        table = pd.DataFrame(found.probabilities, columns=[f"p_{label}" for label in classifier.info.classes])
        table = pd.concat([pd.DataFrame({"cell_id": shown.cellset.ids[shown.rows], "predicted": said}), table], axis=1)
        subject.keep_table(slug("predicted", name), table)
        drawn = draw_grid(
            shown,
            [Layer(name, "heat", found.heat, notes)],
            subject.figures,
            slug("gradcam-class", name),
            alt=f"Heat of {name} for the class predicted, on {len(shown.rows)} cells.",
            caption=f"Grad-CAM of {name} under the {classifier.info.head} head of the classifier, for the class "
            f"predicted, which stands below with its calibrated probability. {_OWN_SCALE}{_channel(shown.cellset)}",
        )
        section.pictures.append(drawn)
    return section


def explain_likeness(subject: Subject, references: np.ndarray) -> Section:
    """Grad-CAM for the similarity to the cells ``references``, of all encoders side by side."""
    shown = subject.shown
    cellset, others = shown.cellset, [at for at, row in enumerate(shown.rows) if row not in references]
    rows = np.concatenate([references, shown.rows[others]])
    known = dict(zip(shown.rows.tolist(), shown.titles, strict=True))
    labels = cellset.cells["label"].fillna("")
    titles = [f"reference\n{known.get(row, labels.iloc[row])}" for row in references.tolist()]
    titles += [shown.titles[at] for at in others]
    layers, similarities = [], {}
    for name, encoder in subject.encoders.items():
        found = likeness(encoder, cellset, rows, references, device=subject.device)
        subject.keep_array(slug("likeness", name), found.heat)
        similarities[name] = found.similarity
        layers.append(Layer(name, "heat", found.heat, [f"{value:.3f}" for value in found.similarity]))
    subject.keep_table("likeness", pd.DataFrame({"cell_id": cellset.ids[rows], **similarities}))
    several = "the mean direction of the reference cells" if len(references) > 1 else "the reference cell"
    alone = "" if len(references) > 1 else " The reference itself cannot become more alike: it has no heat."
    drawn = draw_grid(
        ShownCells(cellset, rows, titles),
        layers,
        subject.figures,
        "gradcam-likeness",
        alt=f"Heat for the likeness of {len(others)} cells to {several}, by {', '.join(subject.encoders)}.",
        caption=f"Grad-CAM for likeness: where each cell is more like {several} than it is as a whole. Below each "
        f"heat the cosine similarity of the whole cell.{alone} {_OWN_SCALE}{_channel(cellset)}",
    )
    return Section([drawn])


def explain_attention(subject: Subject) -> Section:
    """Attention of the class token, by head, their mean, and followed through all blocks; one figure an encoder."""
    section = Section()
    shown = subject.shown
    for name, encoder in subject.encoders.items():
        try:
            heads = attention_maps(encoder, shown.cellset, shown.rows, device=subject.device)
        except InputError as error:
            section.absent.append(f"{name}: {error}.")
            continue
        rollout = attention_rollout(encoder, shown.cellset, shown.rows, device=subject.device)
        subject.keep_array(slug("attention", name), heads)
        subject.keep_array(slug("rollout", name), rollout)
        layers = [Layer("mean of heads", "shares", heads.mean(axis=1))]
        layers += [Layer(f"head {number + 1}", "shares", heads[:, number]) for number in range(heads.shape[1])]
        drawn = draw_grid(
            shown,
            [*layers, Layer("rollout", "shares", rollout)],
            subject.figures,
            slug("attention", name),
            alt=f"Attention of the class token of {name} on {len(shown.rows)} cells: {heads.shape[1]} heads and mean.",
            caption=f"Attention of the class token of {name} to the patches in its last block: the mean of its "
            f"{heads.shape[1]} heads, each head, and attention followed through all blocks (rollout). Dark is no "
            "attention, yellow the most that a patch of this picture gets, and at least three times an even share: "
            f"a picture of one colour attends everywhere alike. {_OWN_SCALE}{_channel(shown.cellset)}",
        )
        section.pictures.append(drawn)
    return section


def explain_patches(subject: Subject, *, foreground: bool) -> Section:
    """Principal components of patches as colours, of all encoders side by side."""
    shown = subject.shown
    layers, shares = [], []
    for name, encoder in subject.encoders.items():
        tokens = patch_tokens(encoder, shown.cellset, shown.rows, device=subject.device)
        found = patch_colours(tokens, foreground=foreground)
        subject.keep_array(slug("pca", name), found.colours)
        layers.append(Layer(name, "colours", found.colours))
        red, green, blue = (f"{100 * share:.0f}" for share in found.shares)
        shares.append(f"{name} {red}, {green} and {blue} %")
    kept = " White patches have a negative first component and were left out." if foreground else ""
    drawn = draw_grid(
        shown,
        layers,
        subject.figures,
        "pca",
        alt=f"Patches of {len(shown.rows)} cells coloured by principal components, by {', '.join(subject.encoders)}.",
        caption="The first three principal components of the patches of all these cells together, as red, green and "
        f"blue. A colour means one thing along a row and nothing from row to row. They show of the variance: "
        f"{'; '.join(shares)}.{kept}{_channel(shown.cellset)}",
    )
    return Section([drawn])


def explain_maps(
    subject: Subject, new: CellSet | None, *, patient: str | None, method: str, most: int, seed: int
) -> Section:
    """Maps of the whole set, with new cells placed into them; one or two figures an encoder."""
    section = Section()
    figures = subject.figures
    for name, encoder in subject.encoders.items():
        try:
            cells = lay_map(
                encoder,
                subject.shown.cellset,
                new,
                patient=patient,
                method=method,
                most=most,
                seed=seed,
                device=subject.device,
            )
        except InputError as error:
            section.absent.append(f"{name}: {error}.")
            continue
        subject.keep_table(slug("map", name), cells)
        section.pictures.append(draw_training_map(cells, name, method, figures))
        placed = draw_new_cells(cells, name, method, figures, patient=patient)
        if placed is not None:
            section.pictures.append(placed)
    return section


def _channel(cellset: CellSet) -> str:
    return "" if cellset.channels in (1, 3) else f" Cells are shown by their channel {cellset.info.channels[0]}."
