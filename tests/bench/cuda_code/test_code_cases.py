"""The cases whose CUDA code is generated."""
import pytest

from fastgan.bench.cuda_code.code_cases import MOST_IMAGES, family, make_code_case, with_combo_kernels
from fastgan.config.presets import PRESETS
from fastgan.errors import UserError


def test_the_family_has_every_preset_its_augmentations_and_conditional_forms():
    cases = family()
    assert {case.config.preset for case in cases} == set(PRESETS)
    assert {case.words for case in cases} == {"", "diff", "ada", "conditional"}
    assert all(case.config.run.batch_gpu is None for case in cases)
    assert all(case.config.run.batch_size <= MOST_IMAGES for case in cases)


def test_a_case_says_how_it_differs_from_its_preset():
    case = make_code_case("dcgan", batch_size=128, augment="ada")
    assert (case.words, case.config.augment.kind, case.config.run.batch_size) == ("ada", "ada", 128)
    assert with_combo_kernels(case).words == "ada combo"
    assert with_combo_kernels(case).config.run.combo_kernels


def test_samples_have_no_size():
    with pytest.raises(UserError, match="makes samples"):
        make_code_case("gaussian1d", resolution=32)
