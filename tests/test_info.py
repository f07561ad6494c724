"""The features of the machine, and the missing ones."""
import json

import pytest
import torch

from fastgan import __version__, info
from fastgan.info import collect, describe
from fastgan.ops.dispatch import autotune


def test_the_facts_are_json_with_names():
    facts = json.loads(json.dumps(collect()))
    assert facts["fastgan"] == __version__
    assert facts["packages"]["torch"] == torch.__version__
    assert {"python", "platform", "device", "precision", "compile", "ops", "cache"} <= facts.keys()
    assert {"op", "implementation", "available", "reason"} == facts["ops"][0].keys()


def test_every_fact_is_described():
    facts = collect()
    text = describe(facts)
    for fact in (
        facts["python"],
        torch.__version__,
        facts["compile"],
        facts["cache"],
        "bias_act: reference is available",
    ):
        assert fact in text
    assert text.count("op ") == len(facts["ops"])


def test_what_is_missing_comes_with_its_remedy(monkeypatch):
    monkeypatch.setattr(info, "_version", lambda package: None)
    monkeypatch.setattr(info.shutil, "which", lambda program: None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    facts = collect()
    facts["ops"] = [
        {"op": "bias_act", "implementation": "cpu", "available": False, "reason": "it was not built: build it"}
    ]
    text = describe(facts)
    assert "nvidia-dali-cuda130 is not installed: pip install 'fastgan[dali]'" in text
    assert "tensorboard is not installed: pip install 'fastgan[tensorboard]'" in text
    assert "no C++ compiler: steps run eager" in text
    assert "bias_act: cpu is not used: it was not built: build it" in text


def test_the_operators_that_were_measured_are_listed_with_the_chosen_one(monkeypatch):
    assert "no operator has been measured on this machine yet" in info.describe_ops({})
    row = autotune.Times(
        "cpu",
        {"reference": [9.0, 10.0, 11.0], "cpu": [4.0, 5.0, 6.0]},
        {"reference": "wall clock", "cpu": "wall clock"},
    )
    monkeypatch.setattr(autotune, "table", lambda: {"deconv up on cpu": row})
    facts = json.loads(json.dumps(info.collect_ops()))
    assert info.describe_ops(facts) == "deconv up on cpu: cpu 5 us (chosen), reference 10 us"
    facts["deconv up on cpu"]["timed"]["cpu"] = "queue, for they cannot be recorded: no"
    assert info.describe_ops(facts).endswith("reference 10 us [cpu: queue, for they cannot be recorded: no]")


@pytest.mark.parametrize(("built_with", "reason"), [(None, "built without CUDA"), ("13.0", "no NVIDIA GPU or driver")])
def test_why_there_is_no_gpu(monkeypatch, built_with, reason):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", built_with)
    assert reason in collect()["device"]["no GPU"]


@pytest.mark.gpu
def test_a_gpu_is_described():
    device = collect()["device"]
    assert device["name"] == torch.cuda.get_device_name()
    assert device["memory GB"] > 0
