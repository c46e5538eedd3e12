import numpy as np
import pytest

from leukoscope.report.evaluation import Evaluation
from leukoscope.report.galleries import Magnification, draw_galleries, visible


def test_sixteen_bit_cells_are_not_black(make_cells):
    cellset = make_cells(channels=1, dtype="uint16", bit_depth=12)
    picture = visible(cellset.read([4])[0], cellset)
    assert picture.shape == (40, 40)
    assert picture.max() > 200
    assert len(np.unique(picture)) > 20


def test_contrast_is_the_sets_and_not_the_images(make_cells):
    cellset = make_cells(channels=1)
    dim = (cellset.read([0])[0] // 2).astype(np.uint8)
    bright = visible(cellset.read([0])[0], cellset)
    assert visible(dim, cellset).max() == pytest.approx(bright.max() / 2, abs=1)


def test_two_channels_stand_side_by_side_in_grey(cellset):
    picture = visible(cellset.read([0])[0], cellset)
    assert picture.shape == (40, 40 + 2 + 40)
    expected = cellset.info.intensity.scale(cellset.read([0])[0])
    np.testing.assert_allclose(picture[:, :40] / 255, expected[0], atol=0.003)
    np.testing.assert_allclose(picture[:, 42:] / 255, expected[1], atol=0.003)


def test_three_channels_are_colour(make_cells):
    cellset = make_cells(channels=3)
    picture = visible(cellset.read([0])[0], cellset)
    assert picture.shape == (40, 40, 3)
    np.testing.assert_array_equal(picture, cellset.read([0])[0].transpose(1, 2, 0))


def test_large_cells_are_shrunk_by_one_factor_and_the_scale_bar_with_them(make_cells):
    cellset = make_cells(n=20, side=160)
    assert visible(cellset.read([0])[0], cellset).shape == (80, 80)
    length, um = Magnification.of(cellset).bar
    assert length == round(um / (0.5 * 2))


@pytest.mark.parametrize(
    ("side", "enlarged", "pixels", "zoom"),
    [(160, 2, 160, 1), (160, 4, 160, 2), (92, 3, 92, 2), (400, 2, 160, 1), (20, 3, 20, 12)],
)
def test_enlarged_cells_show_their_own_pixels_first(make_cells, side, enlarged, pixels, zoom):
    cellset = make_cells(n=2, side=side)
    magnification = Magnification.of(cellset, enlarged=enlarged)
    assert visible(cellset.read([0])[0], cellset, enlarged=enlarged).shape == (pixels, pixels)
    assert (magnification.side, magnification.zoom) == (pixels, zoom)
    length, um = magnification.bar
    assert length == round(um / (0.5 * side / pixels / zoom))
    if pixels == side:
        assert f"an image pixel is {zoom} pixel" in magnification.words


def test_cells_stand_under_their_class_right_and_wrong_apart(run, cellset, tmp_path):
    evaluation = Evaluation.open(run)
    pair = ("moco", "mlp")
    galleries = draw_galleries(evaluation, pair, cellset, tmp_path, seed=0)
    counts = evaluation.confusion(pair)
    for index, gallery in enumerate(galleries):
        assert gallery.n_right == counts[index, index]
        assert gallery.n_wrong == counts[index].sum() - counts[index, index]
        assert all(cell.label == cell.predicted == gallery.name for cell in gallery.right)
        assert all(cell.label == gallery.name != cell.predicted for cell in gallery.wrong)
        certain = [cell.probability for cell in gallery.wrong]
        assert certain == sorted(certain, reverse=True)
