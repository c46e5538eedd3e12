"""DeepCluster v2 against the clustering and the loop of its authors (facebookresearch/swav), written out."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from leukoscope.common.errors import InputError
from leukoscope.methods.deepcluster_v2 import DeepCluster, DeepClusterSettings, spherical_kmeans
from leukoscope.training.method import Progress


class Flat(nn.Module):
    num_features = 16

    def forward(self, x: Tensor) -> Tensor:
        return F.adaptive_avg_pool2d(x, 4).flatten(1)


def at(step: int) -> Progress:
    return Progress(seed=0, step=step, steps=6, epoch=step // 2, per_epoch=2)


def deepcluster(cells: int = 14, **settings: object) -> DeepCluster:
    chosen = {"prototypes": [4, 3], "hidden": 8, "dim": 5, **settings}
    return DeepCluster(Flat(), DeepClusterSettings.parse(chosen, "test"), cells=cells, seed=0)


def batches(epoch: int) -> list[tuple[list[Tensor], Tensor]]:
    """Two batches of six of fourteen cells: every epoch leaves two out."""
    drawn = torch.Generator().manual_seed(epoch)
    order = torch.randperm(14, generator=drawn)[:12]
    sides = (8, 8, 4)
    return [([torch.randn(6, 1, side, side, generator=drawn) for side in sides], part) for part in order.split(6)]


def test_kmeans_is_lloyds_by_cosine() -> None:
    drawn = torch.Generator().manual_seed(0)
    z = F.normalize(torch.randn(40, 3, generator=drawn), dim=1)
    # The last centroid lies opposite to all rows' mean, so that its cluster may be empty.
    first = torch.cat([z[:4], -F.normalize(z.mean(0, keepdim=True), dim=1)])
    centroids, nearest = spherical_kmeans(z, first, 6)
    expected = first.numpy().copy()
    for _ in range(6):
        told = [int(np.argmax([row @ centre for centre in expected])) for row in z.numpy()]
        for k in range(5):
            mine = z.numpy()[[i for i, t in enumerate(told) if t == k]]
            if len(mine):
                expected[k] = mine.mean(0) / np.linalg.norm(mine.mean(0))
    np.testing.assert_allclose(centroids.numpy(), expected, atol=1e-6)
    assert nearest.tolist() == [int(np.argmax([row @ centre for centre in expected])) for row in z.numpy()]


def test_epochs_equal_the_authors_loop() -> None:
    """Memory, clusters and losses over three epochs, with two clusterings, which take the two global views in turn."""
    ours = deepcluster()
    sgd = torch.optim.SGD(ours.parameters(), lr=0.3)
    memory: dict[int, list[Tensor]] = {}

    def project(views: list[Tensor]) -> list[Tensor]:
        large, small = ours.head(ours.encoder(torch.cat(views[:2]))), ours.head(ours.encoder(views[2]))
        return [F.normalize(z, dim=1) for z in (*large.chunk(2), small)]

    def remember(views: list[Tensor], cells: Tensor) -> None:
        memory.update({int(cell): [views[0][i].detach(), views[1][i].detach()] for i, cell in enumerate(cells)})

    for epoch in range(3):
        with torch.no_grad():
            ours.start_epoch(lambda epoch=epoch: iter(batches(epoch)), at(2 * epoch))
            if not memory:
                for views, cells in batches(epoch):
                    remember(project(views), cells)
        known = sorted(memory)
        assigned = torch.full((2, 14), -100)
        for k in range(2):
            z = torch.stack([memory[cell][k] for cell in known])
            assigned[k, known] = (z @ ours.get_buffer(f"centroids{k}").T).argmax(1)
            # They are where Lloyd's algorithm stands after ten steps: one more hardly moves them.
            again, _ = spherical_kmeans(z, ours.get_buffer(f"centroids{k}"), 1)
            assert (again * ours.get_buffer(f"centroids{k}")).sum(1).min() > 0.99
        assert torch.equal(ours.assigned, assigned)
        for number, (views, cells) in enumerate(batches(epoch)):
            z = project(views)
            terms = []
            for k in range(2):
                logits = torch.cat(z) @ ours.get_buffer(f"centroids{k}").T / 0.1
                terms.append(F.cross_entropy(logits, assigned[k, cells].repeat(3), ignore_index=-100))
            loss, _ = ours.loss(views, cells, at(2 * epoch + number))
            assert torch.allclose(loss, sum(terms) / 2, rtol=1e-5)
            sgd.zero_grad()
            loss.backward()
            sgd.step()
            remember(z, cells)


def test_the_settings_of_the_screening_paper_are_the_defaults() -> None:
    """500 prototypes, 10 iterations of k-means, layers of 2,048 (hcs-quality-control, section 3.2)."""
    ours = deepcluster(cells=600, **DeepClusterSettings().model_dump())
    assert ours.get_buffer("centroids0").shape == (500, 128)
    assert ours.settings.iterations == 10
    assert ours.head.layers[0].out_features == 2048
    assert ours.chance_loss() == pytest.approx(math.log(500))


def test_memory_and_clusters_travel_with_the_checkpoint() -> None:
    assert {"memory", "seen", "assigned", "centroids0", "centroids1"} <= set(deepcluster().state_dict())


def test_more_clusters_than_cells_are_refused() -> None:
    with pytest.raises(InputError, match="prototypes 20: 14 cells make no more clusters"):
        deepcluster(prototypes=[3, 20])


def test_more_clusters_than_cells_in_full_batches_are_refused() -> None:
    """Of fourteen cells two batches of six show twelve."""
    ours = deepcluster(prototypes=[13])
    with pytest.raises(InputError, match="prototypes 13: the full batches of an epoch show 12 of 14 cells"):
        ours.start_epoch(lambda: iter(batches(0)), at(0))
