import math

import pytest
import torch

from leukoscope.scores.spectrum import feature_spread, rankme


def test_rankme_counts_equal_directions() -> None:
    assert rankme(torch.eye(64)[:, :16].repeat(4, 1)) == pytest.approx(16, rel=1e-3)


def test_rankme_follows_its_equation() -> None:
    features = torch.randn(50, 8, generator=torch.Generator().manual_seed(0)) * torch.arange(1, 9)
    sigma = torch.linalg.svdvals(features.double())
    shares = sigma / sigma.sum() + 1e-7
    assert rankme(features) == pytest.approx(math.exp(-(shares * shares.log()).sum().item()), rel=1e-4)


def test_rankme_of_collapsed_features_is_one() -> None:
    assert rankme(torch.ones(100, 32)) == pytest.approx(1, abs=0.01)
    assert math.isfinite(rankme(torch.zeros(10, 4)))


def test_spread_is_one_for_isotropic_and_zero_for_collapsed_features() -> None:
    isotropic = torch.randn(5000, 64, generator=torch.Generator().manual_seed(1))
    assert feature_spread(isotropic) == pytest.approx(1, abs=0.02)
    assert feature_spread(torch.rand(64).repeat(100, 1)) == pytest.approx(0, abs=1e-5)
    # Scale is no spread: the features are normalised first.
    assert feature_spread(torch.rand(64).repeat(100, 1) * torch.rand(100, 1)) == pytest.approx(0, abs=1e-5)
