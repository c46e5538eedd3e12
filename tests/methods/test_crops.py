import torch
from torch import Tensor, nn

from leukoscope.methods.crops import run_crops, split_crops


def views() -> list[Tensor]:
    drawn = torch.Generator().manual_seed(0)
    return [torch.randn(4, 3, side, side, generator=drawn) for side in (6, 8, 6, 8)]


def test_the_largest_views_are_the_global_ones() -> None:
    x = views()
    large, small = split_crops(x)
    assert [view is expected for view, expected in zip(large, (x[1], x[3]), strict=True)] == [True, True]
    assert [view.shape[-1] for view in small] == [6, 6]


def test_views_of_one_size_pass_as_one_batch_and_come_back_in_order() -> None:
    norm = nn.BatchNorm2d(3)
    found = run_crops(lambda x: norm(x).amax(dim=(2, 3)), views())
    assert norm.num_batches_tracked == 2
    x = views()
    for first, second in ((0, 2), (1, 3)):
        both = torch.cat([x[first], x[second]])
        expected = ((both - both.mean((0, 2, 3), True)) / both.std((0, 2, 3), correction=0, keepdim=True)).amax((2, 3))
        assert torch.allclose(torch.cat([found[first], found[second]]), expected, atol=1e-3)
