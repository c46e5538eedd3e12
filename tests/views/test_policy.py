from pathlib import Path

import pytest

from leukoscope.common.errors import InputError
from leukoscope.views.policy import Policy, policy_names


def test_the_named_policies_load() -> None:
    assert policy_names() == ["hcs", "ifc", "smear", "smear-small", "stained"]
    for name in policy_names():
        policy = Policy.load(name)
        assert policy.count == 2
        assert policy.description


def test_ifc_has_the_paper_s_four_operations_and_no_other() -> None:
    view = Policy.load("ifc").views[0]
    given = {key for key, value in view if value is not None} - {"count", "share"}
    assert given == {"rotation", "flip", "erosion", "blur"}


@pytest.mark.parametrize(
    ("name", "contrast", "shift", "zoom"),
    # hairy-cells-supcon, table 4.10, columns "Encoder/Projection Head" and "Classifier"; the latter is table 4.5 too.
    [("smear", 0.5, 0.1, 0.1), ("smear-small", 0.1, 0.05, 0.05)],
)
def test_smear_holds_the_numbers_of_the_tables(name: str, contrast: float, shift: float, zoom: float) -> None:
    view = Policy.load(name).views[0]
    assert view.contrast is not None
    assert view.contrast.factor == pytest.approx((1 - contrast, 1 + contrast))
    assert view.shift is not None
    assert view.shift.share == shift
    assert view.zoom is not None
    assert view.zoom.field == pytest.approx((1 - zoom, 1 + zoom))
    assert view.rotation is not None
    assert view.rotation.degrees == 0.5 * 360
    given = {key for key, value in view if value is not None} - {"count", "share"}
    assert given == {"contrast", "shift", "zoom", "rotation"}


def test_hcs_has_the_paper_s_five_operations_and_no_other() -> None:
    view = Policy.load("hcs").views[0]
    given = {key for key, value in view if value is not None} - {"count", "share"}
    assert given == {"flip", "shift", "zoom"}
    assert view.flip is not None
    assert all(p > 0 for _, p in view.flip)


def test_stained_keeps_the_colour_and_most_of_the_size() -> None:
    view = Policy.load("stained").views[0]
    assert view.hue is None
    assert view.saturation is None
    assert view.grey is None
    assert view.zoom is not None
    assert view.zoom.field == (0.7, 1.05)
    assert view.shift is not None
    assert view.shift.share == 0.1


def written(folder: Path, text: str) -> Path:
    path = folder / "mine.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_policy_of_one_s_own_may_have_many_kinds_of_views(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        "views:\n- {count: 2, crop: {area: [0.4, 1]}}\n- {count: 6, share: 0.43, crop: {area: [0.05, 0.4]}}\n",
    )
    policy = Policy.load(path)
    assert policy.count == 8
    assert [view.side(224) for view in policy.each] == [224, 224, *[96] * 6]
    assert Policy.load(str(path)) == policy


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("views: [{rotatoin: {degrees: 90}}]", "unknown key 'views.0.rotatoin'; did you mean 'rotation'?"),
        ("views: [{blur: {sigmas: [1, 2]}}]", "unknown key 'views.0.blur.sigmas'; did you mean 'sigma'?"),
        ("view: []", "unknown key 'view'; did you mean 'views'?"),
        ("description: nothing", "views: required, but not given"),
        (
            "views: [{zoom: {field: [1.1, 0.9]}}]",
            "views.0.zoom.field: a range goes from low to high, but 1.1 is above 0.9",
        ),
        ("views: [{erosion: {width: [4]}}]", "views.0.erosion.width.0: the width of a window is odd"),
        ("views: [{blur: {p: 1.5, sigma: [1, 2]}}]", "views.0.blur.p: input should be less than or equal to 1"),
        ("views: [{crop: {area: [0.5, 1.5]}}]", "views.0.crop.area.1: input should be less than or equal to 1"),
    ],
)
def test_a_mistake_names_the_file_the_key_and_what_was_meant(tmp_path: Path, text: str, message: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(InputError) as caught:
        Policy.load(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(
        InputError, match=r"policy 'smaer': no such policy; did you mean 'smear'\? Known: hcs, ifc, smear"
    ):
        Policy.load("smaer")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.yaml: cannot be read \(No such file or directory\)"):
        Policy.load(tmp_path / "none.yaml")
