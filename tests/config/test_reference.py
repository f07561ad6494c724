"""Options in words: the page of docs/options.md, and values as --set takes them."""
from pathlib import Path

import pytest

from fastgan.config import OPTIONS, Config, override, value_of
from fastgan.config.overrides import in_words
from fastgan.config.presets import PRESETS
from fastgan.config.reference import describe_options, page

DOCS = Path(__file__).parents[2] / "docs"


def test_the_page_of_options_is_current():
    assert (DOCS / "options.md").read_text() == page(), "python -m fastgan.config.reference > docs/options.md"


def test_every_option_has_a_sentence_of_help():
    assert all(option.help and not option.help.endswith(".") for option in OPTIONS.values())


@pytest.mark.parametrize("name", PRESETS)
def test_a_value_in_words_is_what_set_takes(name):
    for key in OPTIONS:
        value = value_of(PRESETS[name], key)
        assert value_of(override(Config(), f"{key}={in_words(value)}"), key) == value


def test_options_of_other_networks_are_left_out():
    names = [line.split()[0] for line in describe_options(PRESETS["stylegan2"])]
    assert "model.w_dim" in names
    assert "model.ngf" not in names
