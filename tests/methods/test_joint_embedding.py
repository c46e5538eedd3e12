"""SimCLR, Barlow Twins, VICReg and LeJEPA against their papers' definitions, in values and gradients."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from torch import Tensor, nn

from leukoscope.methods.registry import entry
from leukoscope.training.method import JointEmbedding, Progress

START = Progress(seed=0, step=0, steps=10, epoch=0)
CELLS = torch.arange(0)  # these losses do not ask which cell is which


class Flat(nn.Module):
    num_features = 12

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1)[:, :12]


def method(name: str, **settings: object) -> JointEmbedding:
    kind = entry(name)
    built = kind.method(Flat(), kind.settings.parse(settings, "test"), cells=100, seed=0)
    assert isinstance(built, JointEmbedding)
    return built


def nt_xent(z: Tensor) -> Tensor:
    """SimCLR, equation 1 and algorithm 1, term by term."""
    rows, n = torch.cat([z[0], z[1]]), z.shape[1]
    terms = []
    for i in range(2 * n):
        similar = [torch.exp(torch.cosine_similarity(rows[i], rows[k], dim=0) / 0.5) for k in range(2 * n)]
        others = sum(value for k, value in enumerate(similar) if k != i)
        terms.append(-torch.log(similar[(i + n) % (2 * n)] / others))
    return torch.stack(terms).mean()


def cross_correlation(z: Tensor) -> Tensor:
    """Barlow Twins, algorithm 1, standardised as batch norm does it in the authors' code."""
    n, d = z[0].shape
    a, b = ((view - view.mean(0)) / (view.var(0, correction=0) + 1e-5).sqrt() for view in z)
    c = a.T @ b / n
    difference = (c - torch.eye(d)) ** 2
    return torch.where(torch.eye(d, dtype=torch.bool), difference, 5e-3 * difference).sum()


def three_terms(z: Tensor) -> Tensor:
    """VICReg as its authors' code has it (facebookresearch/vicreg)."""
    x, y = z
    n, d = x.shape
    invariance = ((x - y) ** 2).mean()
    x, y = x - x.mean(0), y - y.mean(0)
    variance = sum(torch.relu(1 - torch.sqrt(v.var(0) + 1e-4)).mean() / 2 for v in (x, y))
    covariance = sum(((v.T @ v / (n - 1)) * (1 - torch.eye(d))).pow(2).sum() / d for v in (x, y))
    return 25 * invariance + 25 * variance + covariance


@pytest.mark.parametrize(
    ("name", "settings", "definition"),
    [
        ("simclr", {"dim": 6}, nt_xent),
        ("barlow_twins", {"dim": 6, "hidden": 8}, cross_correlation),
        ("vicreg", {"dim": 6, "hidden": 8}, three_terms),
    ],
)
def test_the_loss_is_the_papers(name: str, settings: dict[str, object], definition: Callable[[Tensor], Tensor]) -> None:
    drawn = torch.Generator().manual_seed(0)
    z = torch.randn(2, 9, 6, generator=drawn)
    if name == "simclr":
        z = nn.functional.normalize(z, dim=-1)
    found = []
    for loss_of in (lambda x: method(name, **settings).compare(x, CELLS, START)[0], definition):
        x = z.clone().requires_grad_()
        loss = loss_of(x)
        loss.backward()
        found.append((loss, x.grad))
    assert torch.allclose(found[0][0], found[1][0], rtol=1e-5)
    assert torch.allclose(found[0][1], found[1][1], rtol=1e-4, atol=1e-6)


def test_lejepas_loss_is_the_papers_with_the_integral_solved_exactly() -> None:
    drawn = torch.Generator().manual_seed(0)
    ours = method("lejepa", dim=5, hidden=8, slices=7, knots=401, tradeoff=0.3)
    views = [torch.randn(6, 1, 4, 4, generator=drawn) for _ in range(3)]
    z = ours.project(views, START)
    torch.manual_seed(1)
    loss, numbers = ours.compare(z, CELLS, START)
    torch.manual_seed(1)
    directions = nn.functional.normalize(torch.randn(5, 7), dim=0)

    def epps_pulley(x: np.ndarray) -> float:
        """Distance of the characteristic function of ``x`` from the normal one, weighted by a window (section 4)."""

        def error(t: float) -> float:
            return float(abs(np.exp(1j * t * x).mean() - math.exp(-(t**2) / 2)) ** 2 * math.exp(-(t**2) / 2))

        return len(x) * quad(error, -3, 3)[0]

    projected = (z.detach() @ directions).numpy()  # (V, B, slices)
    sigreg = np.mean([epps_pulley(projected[view, :, k]) for view in range(3) for k in range(7)])
    invariance = ((z.mean(0) - z) ** 2).mean().item()
    assert numbers["sigreg"].item() == pytest.approx(sigreg, rel=1e-4)
    assert loss.item() == pytest.approx(0.3 * sigreg + 0.7 * invariance, rel=1e-4)


def test_lejepa_draws_local_views_to_the_mean_of_the_global_ones() -> None:
    ours = method("lejepa", dim=5, hidden=8, tradeoff=0.0)
    views = [torch.randn(6, 1, side, side) for side in (4, 6, 6, 4, 4)]
    z = ours.project(views, START)
    loss, _ = ours.compare(z, CELLS, START)
    # Projections come with the global views first.
    assert loss.item() == pytest.approx(((z[:2].mean(0) - z) ** 2).mean().item(), rel=1e-5)
    # Batch norm sees the two global views together: so do these.
    both = ours.head(ours.encoder(torch.cat([views[1], views[2]]))).chunk(2)
    assert torch.allclose(z[0], both[0], atol=1e-5)
    assert torch.allclose(z[1], both[1], atol=1e-5)


def test_simclr_counts_the_views_that_find_their_other() -> None:
    ours = method("simclr", dim=4)
    z = torch.eye(4)[None].repeat(2, 1, 1)
    assert ours.compare(z, CELLS, START)[1]["top1"] == 1
    z[1] = z[1].roll(1, dims=0)  # every cell's other view lies at another cell's
    assert ours.compare(z, CELLS, START)[1]["top1"] == 0
    assert ours.chance_loss() == pytest.approx(math.log(7))


def test_simclrs_head_can_be_that_of_the_leukaemia_paper() -> None:
    """512 to 512 to 64, without batch norm (aml-ssl-mil, section 4.2)."""
    head = method("simclr", hidden=512, dim=64, head_norm=False).head
    assert [tuple(layer.weight.shape) for layer in head.layers if isinstance(layer, nn.Linear)] == [
        (512, 12),
        (64, 512),
    ]
    assert not any(isinstance(layer, nn.BatchNorm1d) for layer in head.layers)
