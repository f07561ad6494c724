"""Images of any source as uint8 batches on the device.

The order of use: open_source -> Source.read -> ImageSet -> a feed. The names are loaded on first
use, so that code which only decodes images (`fastgan pack` and its processes) does not wait for the
second that torch takes to load.
"""
import importlib

_PUBLIC = {
    "Batch": "fastgan.data.feeds.feed",
    "Feed": "fastgan.data.feeds.feed",
    "GaussianFeed": "fastgan.data.feeds.synthetic",
    "ImageSet": "fastgan.data.image_set",
    "ResidentFeed": "fastgan.data.feeds.resident",
    "Source": "fastgan.data.source",
    "classes_of": "fastgan.data.classes",
    "open_fields": "fastgan.data.tensors.fields",
    "open_source": "fastgan.data.sources.opening",
}
__all__ = [
    "Batch", "Feed", "GaussianFeed", "ImageSet", "ResidentFeed", "Source", "classes_of", "open_fields", "open_source",
]  # fmt: skip


def __getattr__(name: str):
    if name not in _PUBLIC:
        raise AttributeError(f"module 'fastgan.data' has no attribute {name!r}")
    return getattr(importlib.import_module(_PUBLIC[name]), name)
