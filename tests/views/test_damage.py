import numpy as np
import skimage
import torch
from torchvision.transforms import v2

from leukoscope.views import damage
from leukoscope.views.random import normals


def test_erase_equals_torchvision() -> None:
    images = torch.rand(3, 2, 20, 30, generator=torch.Generator().manual_seed(0))
    boxes = torch.tensor([[0, 0, 30, 20], [3, 5, 10, 6], [29, 19, 30, 20]]).float()
    ours = damage.erase(images, boxes)
    for image, erased, (left, upper, right, lower) in zip(images, ours, boxes.int().tolist(), strict=True):
        mean = image.mean(dim=(1, 2), keepdim=True)
        expected = v2.functional.erase(image, upper, left, lower - upper, right - left, mean)
        torch.testing.assert_close(erased, expected)


def test_noise_equals_scikit_image_for_the_same_numbers() -> None:
    images = torch.rand(3, 1, 20, 30, generator=torch.Generator().manual_seed(0))
    numbers = torch.from_numpy(np.random.default_rng(0).standard_normal(images.shape)).float()
    expected = skimage.util.random_noise(images.numpy(), "gaussian", rng=np.random.default_rng(0), var=0.2**2)
    ours = damage.add_noise(images, numbers, torch.full((3,), 0.2))
    np.testing.assert_allclose(ours, expected, atol=1e-6)


def test_noise_has_each_cell_s_own_strength_and_stays_in_range() -> None:
    images = torch.full((2, 1, 100, 100), 0.5)
    numbers = normals(0, 0, torch.arange(2), 10_000).reshape(images.shape)
    noisy = damage.add_noise(images, numbers, torch.tensor([0.02, 1.0]))
    assert abs(float(noisy[0].std()) - 0.02) < 0.001
    assert noisy.min() == 0
    assert noisy.max() == 1
