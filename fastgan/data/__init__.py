"""From whatever holds images to uint8 batches on the device: open_source -> Source.read -> ImageSet -> a feed."""
from fastgan.data.feed import Feed
from fastgan.data.image_set import ImageSet
from fastgan.data.resident import ResidentFeed
from fastgan.data.source import Source
from fastgan.data.sources import open_source
from fastgan.data.synthetic import GaussianFeed

__all__ = ["Feed", "GaussianFeed", "ImageSet", "ResidentFeed", "Source", "open_source"]
