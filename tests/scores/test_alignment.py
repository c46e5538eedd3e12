import pytest
import torch

from leukoscope.scores.alignment import alignment, uniformity


def test_alignment_is_the_mean_squared_distance_on_the_sphere():
    a = torch.tensor([[2.0, 0.0], [0.0, 1.0]])
    b = torch.tensor([[0.0, 3.0], [0.0, 5.0]])
    assert alignment(a, b) == pytest.approx(1.0)  # distances squared: 2 and 0


def test_uniformity_of_one_point_is_zero_and_of_a_sphere_lower():
    assert uniformity(torch.ones(5, 3)) == pytest.approx(0.0, abs=1e-6)
    spread = torch.randn(200, 64, generator=torch.Generator().manual_seed(0))
    # Distant directions in many dimensions are orthogonal: exp(-2 * 2).
    assert uniformity(spread) == pytest.approx(-4.0, abs=0.2)
