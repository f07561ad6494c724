"""The sets that are known by name: one row each."""
from dataclasses import dataclass

from fastgan.data.sources.download import RemoteFile

_FASHION_CLASSES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
_CIFAR10_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
_MNIST_HOST = "https://ossci-datasets.s3.amazonaws.com/mnist/"
_FASHION_HOST = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"
_CIFAR_HOST = "https://www.cs.toronto.edu/~kriz/"


@dataclass(frozen=True)
class KnownSet:
    """A set known by name.

    shape: [num_images, H, W] or [num_images, C, H, W], uint8. files: to download, images first;
    none for the embedded set.
    """

    shape: tuple[int, ...]
    class_names: tuple[str, ...]
    files: tuple[RemoteFile, ...] = ()


KNOWN_SETS = {
    "fashion-mnist-10k": KnownSet((10000, 28, 28), _FASHION_CLASSES),
    "mnist": KnownSet((60000, 28, 28), tuple("0123456789"), (
        RemoteFile(_MNIST_HOST + "train-images-idx3-ubyte.gz", "f68b3c2dcbeaaa9fbdd348bbdeb94873"),
        RemoteFile(_MNIST_HOST + "train-labels-idx1-ubyte.gz", "d53e105ee54ea40749a09fcbcd1e9432"))),
    "fashion-mnist": KnownSet((60000, 28, 28), _FASHION_CLASSES, (
        RemoteFile(_FASHION_HOST + "train-images-idx3-ubyte.gz", "8d4fb7e6c68d591d4c3dfef9ec88bf0d"),
        RemoteFile(_FASHION_HOST + "train-labels-idx1-ubyte.gz", "25c81989df183df01b3e8a0aad5dffbe"))),
    "cifar10": KnownSet((50000, 3, 32, 32), _CIFAR10_CLASSES, (
        RemoteFile(_CIFAR_HOST + "cifar-10-binary.tar.gz", "c32a1d4ab5d03f1284b67883e8d87530"),)),
}
