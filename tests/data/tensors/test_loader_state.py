"""States of loaders as JSON."""
import json
import random

import numpy as np
import pytest
import torch

from fastgan.data.tensors.loader_state import decode, encode


def test_a_nested_state_comes_back_as_it_was():
    state = {
        "numbers": [1, 2.5, None, True, "text"],
        3: (1, (2, 3)),
        "bytes": b"\x00\xff",
        "generator": torch.Generator().manual_seed(3).get_state(),
        "array": np.arange(6, dtype=np.int16).reshape(2, 3),
        "python": random.Random(1).getstate(),
        "empty": {},
    }
    found = decode(json.loads(json.dumps(encode(state))))
    assert found.keys() == state.keys()
    assert torch.equal(found["generator"], state["generator"])
    assert np.array_equal(found["array"], state["array"])
    assert found["array"].dtype == np.int16
    for name in ("numbers", 3, "bytes", "python", "empty"):
        assert found[name] == state[name]
        assert type(found[name]) is type(state[name])


@pytest.mark.parametrize("state", [object(), {"deep": [print]}, np.array([object()])])
def test_what_json_cannot_hold_is_a_type_error(state):
    with pytest.raises(TypeError):
        encode(state)
