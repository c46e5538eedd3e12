from collections.abc import Mapping

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from leukoscope.common.errors import InputError
from leukoscope.common.settings import Settings
from leukoscope.encoders.seeding import seeded_weights
from leukoscope.methods.crops import run_crops, split_crops
from leukoscope.methods.gather import gather
from leukoscope.methods.swav import projection_head
from leukoscope.scores.spectrum import spread
from leukoscope.training.method import Batched, Method, Progress

_UNKNOWN = -100  # of a cell that no epoch has shown yet; cross-entropy leaves it out


class DeepClusterSettings(Settings):
    """DeepCluster v2. Prototypes and k-means are those of the paper on screening; the rest is its authors'."""

    prototypes: tuple[int, ...] = Field(default=(500,), min_length=1)
    """Clusters, one number a clustering; the authors make three of 3,000 side by side."""
    iterations: int = Field(default=10, ge=1)
    """Steps of k-means before each epoch."""
    temperature: float = Field(default=0.1, gt=0)
    hidden: int = Field(default=2048, ge=1)
    dim: int = Field(default=128, ge=2)
    layers: int = Field(default=2, ge=2)


class DeepCluster(Method):
    r"""DeepCluster, version 2 (Caron et al. 2018, arXiv:1807.05520; as in 2020, arXiv:2006.09882, appendix).

    Before each epoch the projections that the last epoch left of all cells are clustered by spherical k-means; every
    view of a cell is then to be told as of its cluster, with the cluster's centroid as its class vector:
    :math:`L = -\log \frac{\exp(z \cdot c_y / \tau)}{\sum_k \exp(z \cdot c_k / \tau)}`.

    Args:
        backbone: ``(B, C, S, S)`` to features ``(B, num_features)``.
        settings: see :class:`DeepClusterSettings`.
        cells: the number of cells in the training set; two projections of each are kept, float32.
        seed: seed of the head's weights and of the first centroids.

    Raises:
        InputError: when there are fewer cells than clusters.
    """

    watched = ("top1",)
    views = (2, None)
    memory: Tensor
    seen: Tensor
    assigned: Tensor

    def __init__(self, backbone: nn.Module, settings: DeepClusterSettings, *, cells: int, seed: int) -> None:
        super().__init__()
        if max(settings.prototypes) > cells:
            raise InputError(f"prototypes {max(settings.prototypes)}: {cells} cells make no more clusters than cells")
        self.settings, self.encoder = settings, backbone
        with seeded_weights(seed):
            self.head = projection_head(backbone, settings.hidden, settings.dim, settings.layers)
        for number, clusters in enumerate(settings.prototypes):
            self.register_buffer(f"centroids{number}", torch.zeros(clusters, settings.dim))
        # Two global views, as the authors keep them; clusterings take them in turn.
        self.register_buffer("memory", torch.zeros(2, cells, settings.dim))
        self.register_buffer("seen", torch.zeros(cells, dtype=torch.bool))
        self.register_buffer("assigned", torch.full((len(settings.prototypes), cells), _UNKNOWN))

    def start_epoch(self, batches: Batched, progress: Progress) -> None:
        """Cluster the memory anew; before the first epoch, fill it.

        Raises:
            InputError: when the full batches show fewer cells than there are clusters.
        """
        if not self.seen.any():
            for views, cells in batches():
                self._remember(self._project(split_crops(views)[0][:2]), cells)
        rows = self.seen.nonzero().squeeze(1)
        if max(self.settings.prototypes) > len(rows):
            raise InputError(
                f"prototypes {max(self.settings.prototypes)}: the full batches of an epoch show {len(rows)} of "
                f"{len(self.seen)} cells, which make no more clusters than cells; give fewer, or a smaller --batch"
            )
        for number, clusters in enumerate(self.settings.prototypes):
            z = self.memory[number % 2, rows]
            rng = np.random.default_rng([progress.seed, progress.epoch, number])
            first = z[torch.from_numpy(rng.permutation(len(z))[:clusters]).to(z.device)]
            centroids, nearest = spherical_kmeans(z, first, self.settings.iterations)
            self._centroids(number).copy_(centroids)
            self.assigned[number, rows] = nearest

    def loss(self, views: list[Tensor], cells: Tensor, progress: Progress) -> tuple[Tensor, Mapping[str, Tensor]]:
        """Cross-entropy of every view against its cell's cluster; see :meth:`Method.loss`."""
        large, small = split_crops(views)
        z = self._project([*large, *small])
        losses, hits = [], []
        for number in range(len(self.settings.prototypes)):
            logits = torch.cat(z) @ self._centroids(number).T / self.settings.temperature
            clusters = self.assigned[number, cells].repeat(len(z))
            losses.append(F.cross_entropy(logits, clusters, ignore_index=_UNKNOWN))
            hits.append((logits.argmax(dim=1) == clusters).float().mean())
        self._remember([view.detach() for view in z[:2]], cells)
        numbers = {"top1": torch.stack(hits).mean()}
        if progress.logged:
            numbers["spread"] = spread(z[0])
        return torch.stack(losses).mean(), numbers

    def chance_loss(self) -> float:
        """The mean ``ln K``: every cluster is as likely as any other."""
        return float(torch.tensor(self.settings.prototypes).float().log().mean())

    def _project(self, views: list[Tensor]) -> list[Tensor]:
        return run_crops(lambda x: F.normalize(self.head(self.encoder(x)).float(), dim=1), views)

    @torch.no_grad()
    def _remember(self, views: list[Tensor], cells: Tensor) -> None:
        everyone = gather(cells)
        for place in range(2):
            self.memory[place, everyone] = gather(views[min(place, len(views) - 1)])
        self.seen[everyone] = True

    def _centroids(self, number: int) -> Tensor:
        return self.get_buffer(f"centroids{number}")


def spherical_kmeans(z: Tensor, centroids: Tensor, iterations: int) -> tuple[Tensor, Tensor]:
    """Centroids ``(K, dim)`` of unit length and each row's cluster ``(N,)``, by cosine similarity.

    An empty cluster keeps its centroid. As in the authors' code, the assignment follows the last step.

    Args:
        z: rows ``(N, dim)`` of unit length.
        centroids: where to begin, ``(K, dim)`` of unit length.
        iterations: steps of Lloyd's algorithm.
    """
    for _ in range(iterations):
        nearest = (z @ centroids.T).argmax(dim=1)
        counts = torch.bincount(nearest, minlength=len(centroids))
        sums = torch.zeros_like(centroids).index_add_(0, nearest, z)
        centroids = torch.where(counts[:, None] > 0, F.normalize(sums, dim=1), centroids)
    return centroids, (z @ centroids.T).argmax(dim=1)
