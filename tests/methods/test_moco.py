import logging

import pytest
import torch
import torch.nn.functional as F
from lightly.loss import NTXentLoss
from torch import Tensor, nn

from leukoscope.common.errors import InputError
from leukoscope.methods.moco import MoCo, MoCoSettings, info_nce_logits
from leukoscope.training.method import Progress


def progress(step: int = 0, **more: object) -> Progress:
    return Progress(seed=0, step=step, steps=10, epoch=0, **more)


class Flat(nn.Module):
    """Pixels as features."""

    num_features = 12

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(12))

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1) * self.scale


def moco(backbone: nn.Module | None = None, cells: int = 1000, **settings: object) -> MoCo:
    chosen = MoCoSettings(**{"queue": 16, "dim": 6, "norm_groups": 1, **settings})
    return MoCo(backbone or Flat(), chosen, cells=cells, seed=0)


def official_loss(q: Tensor, k: Tensor, queue: Tensor, temperature: float) -> Tensor:
    """The definition: the forward pass of the authors' MoCo from normalised q and k on, with queue ``(dim, K)``."""
    l_pos = torch.einsum("nc,nc->n", [q, k]).unsqueeze(-1)
    l_neg = torch.einsum("nc,ck->nk", [q, queue.clone().detach()])
    logits = torch.cat([l_pos, l_neg], dim=1)
    logits /= temperature
    labels = torch.zeros(logits.shape[0], dtype=torch.long)
    return nn.CrossEntropyLoss()(logits, labels)


def test_the_loss_equals_the_authors_and_lightlys_in_values_and_gradients() -> None:
    torch.manual_seed(0)
    raw, k, queue = torch.randn(8, 6), F.normalize(torch.randn(8, 6), dim=1), F.normalize(torch.randn(20, 6), dim=1)
    lightly = NTXentLoss(temperature=0.07, memory_bank_size=(20, 6))
    lightly.memory_bank.bank = queue.clone()
    found = []
    for loss_of in (
        lambda q: F.cross_entropy(info_nce_logits(q, k, queue, 0.07), torch.zeros(8, dtype=torch.long)),
        lambda q: official_loss(q, k, queue.T, 0.07),
        lambda q: lightly(q, k),
    ):
        x = raw.clone().requires_grad_()
        loss = loss_of(F.normalize(x, dim=1))
        loss.backward()
        found.append((loss, x.grad))
    for loss, grad in found[1:]:
        assert torch.allclose(loss, found[0][0], atol=1e-6)
        assert torch.allclose(grad, found[0][1], atol=1e-6)


def test_steps_equal_the_authors_algorithm() -> None:
    """Queue, momentum encoder and losses over several steps, against algorithm 1 written out."""
    torch.manual_seed(0)
    ours = moco(momentum=0.9, temperature=0.2)
    q_net, k_net = (nn.Sequential(Flat(), nn.Linear(12, 12), nn.ReLU(), nn.Linear(12, 6)) for _ in range(2))
    for net in (q_net, k_net):
        net[1].load_state_dict(ours.head.layers[0].state_dict())
        net[3].load_state_dict(ours.head.layers[2].state_dict())
    queue = ours.queue.keys.clone()
    trained = [p for p in ours.parameters() if p.requires_grad]
    ours_sgd, sgd = torch.optim.SGD(trained, lr=0.5), torch.optim.SGD(q_net.parameters(), lr=0.5)
    for step in range(6):
        views = [torch.rand(4, 1, 3, 4) for _ in range(2)]
        cells = torch.arange(4) + 4 * step

        loss, _ = ours.loss(views, cells, progress(step))
        ours_sgd.zero_grad()
        loss.backward()
        ours_sgd.step()
        ours.after_step(progress(step))

        with torch.no_grad():
            k = F.normalize(k_net(views[1]), dim=1)
        expected = official_loss(F.normalize(q_net(views[0]), dim=1), k, queue.T, 0.2)
        sgd.zero_grad()
        expected.backward()
        sgd.step()
        with torch.no_grad():
            for a, b in zip(k_net.parameters(), q_net.parameters(), strict=True):
                a.mul_(0.9).add_(b, alpha=0.1)
        queue[(4 * step) % 16 : (4 * step) % 16 + 4] = k

        assert torch.allclose(loss, expected, atol=1e-5)
        assert torch.allclose(ours.queue.keys, queue, atol=1e-5)
    assert torch.equal(ours.queue.cells, torch.tensor([16, 17, 18, 19, 20, 21, 22, 23, *range(8, 16)]))


class Signature(nn.Module):
    """An encoder that sees nothing of a cell but what batch norm tells of the others: its answer to a black pixel."""

    num_features = 8

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(8)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x)[:, :, 0, 0]


@pytest.mark.parametrize(("groups", "shuffle", "leaks"), [(1, True, True), (4, False, True), (4, True, False)])
def test_batch_norm_tells_a_query_its_key_unless_split_and_shuffled(groups: int, shuffle: bool, leaks: bool) -> None:
    method = moco(Signature(), queue=256, dim=64, hidden=64, norm_groups=groups, shuffle=shuffle, temperature=0.1)
    draw = torch.Generator().manual_seed(0)
    hits = []
    for step in range(12):
        # Every cell has a black pixel and a texture; both views are the same picture.
        x = torch.randn(32, 8, 4, 4, generator=draw) * torch.rand(32, 8, 1, 1, generator=draw) * 3
        x += torch.randn(32, 8, 1, 1, generator=draw)
        x[:, :, 0, 0] = 0
        with torch.no_grad():
            _, numbers = method.loss([x, x.clone()], torch.arange(32) + 32 * step, progress(step))
        method.after_step(progress(step))
        hits.append(numbers["top1"].item())
    late = sum(hits[8:]) / 4  # the queue is full of other batches' keys by then
    assert late > 0.95 if leaks else late < 0.3


@pytest.mark.parametrize(("momentum", "warned"), [(0.9, True), (0.999, False)])
def test_a_queue_much_older_than_the_key_encoder_is_warned_of(
    momentum: float, warned: bool, caplog: pytest.LogCaptureFixture
) -> None:
    method = moco(queue=16, momentum=momentum)
    views = [torch.randn(4, 3, 2, 2), torch.randn(4, 3, 2, 2)]
    method.loss(views, torch.arange(4), progress())
    with caplog.at_level(logging.WARNING, logger="leukoscope"):
        method.after_step(progress())
    assert ("queue 16: its oldest keys are 4 steps old" in caplog.text) is warned


def test_keys_of_the_querys_own_cell_are_masked_where_the_queue_is_long(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="leukoscope"):
        long = moco(cells=20)
    assert "queue 16 is longer than half the set of 20 cells" in caplog.text
    caplog.clear()
    short = moco(cells=32)
    assert not caplog.text
    views, cells = [torch.rand(4, 1, 3, 4)] * 2, torch.arange(4)
    first = [method.loss(views, cells, progress())[0] for method in (long, short)]
    assert torch.equal(*first)  # nothing of these cells is queued yet
    for method in (long, short):
        method.after_step(progress())
    masked, unmasked = (method.loss(views, cells, progress(1))[0] for method in (long, short))
    kept = long.queue.keys[4:]
    with torch.no_grad():
        q = F.normalize(long.head(long.encoder(views[0])), dim=1)
        others = [long.queue.keys[[row for row in range(4) if row != own]] for own in range(4)]
        expected = [
            F.cross_entropy(
                info_nce_logits(q[own : own + 1], q[own : own + 1], torch.cat([others[own], kept]), 0.07),
                torch.zeros(1, dtype=torch.long),
            )
            for own in range(4)
        ]
    assert torch.allclose(masked, torch.stack(expected).mean(), atol=1e-5)
    assert unmasked > masked


def test_a_queue_longer_than_the_set_is_legal() -> None:
    method = moco(cells=4, queue=64)
    for step in range(20):
        loss, _ = method.loss([torch.rand(4, 1, 3, 4)] * 2, torch.arange(4), progress(step))
        method.after_step(progress(step))
        assert torch.isfinite(loss)


def test_momentum_may_rise_to_its_end_by_a_cosine() -> None:
    method = moco(momentum=0.9, momentum_end=1.0)
    values = [method.momentum_at(progress(step)) for step in range(10)]
    assert values[0] == pytest.approx(0.9)
    assert values[-1] == pytest.approx(1.0)
    assert values == sorted(values)
    assert moco(momentum=0.9).momentum_at(progress(9)) == 0.9


def test_only_queries_learn() -> None:
    method = moco(head_norm=True, norm_groups=2)
    loss, _ = method.loss([torch.rand(4, 1, 3, 4)] * 2, torch.arange(4), progress())
    loss.backward()
    learning = {name for name, p in method.named_parameters() if p.grad is not None}
    assert learning == {name for name, _ in method.named_parameters() if name.startswith(("encoder.", "head."))}


def test_spread_is_measured_where_it_is_logged() -> None:
    method = moco()
    args = [torch.rand(4, 1, 3, 4)] * 2, torch.arange(4)
    assert set(method.loss(*args, progress())[1]) == {"top1"}
    assert set(method.loss(*args, progress(logged=True))[1]) == {"top1", "spread"}


def test_a_batch_smaller_than_its_groups_is_refused() -> None:
    with pytest.raises(InputError, match="norm_groups 8: a batch of 4 cells on one device does not split"):
        moco(norm_groups=8).loss([torch.rand(4, 1, 3, 4)] * 2, torch.arange(4), progress())
