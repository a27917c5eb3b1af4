"""The named datasets: where their official files are, and the checksums that verify them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class RemoteFile:
    """An official file: its name, size in bytes and checksums in hex. SHA-256 is verified where known, else MD5."""

    name: str
    size: int
    md5: str
    sha256: str | None = None


@dataclass(frozen=True)
class NamedDataset:
    """A dataset that can be loaded by name.

    Attributes:
        name: The name.
        description: What it shows, by whom, from when.
        num_images: Number and size of the images, for people.
        classes: Names of the classes, by label.
        license: License of the images.
        files: The official files; empty for a dataset that is installed with a package.
        base_url: Address in front of the names of the files, or of the archive.
        archive: File that contains `files`, if they are not published one by one.
        folders: Folders below THALWEG_DATA or the cache that may contain the files.
        is_handwriting: See `ImageDataset`.
        split_method: "hash" or "stratified", see `splits.py`. Datasets that runs were published for keep "hash", so
            that the runs' fingerprints and validation images stay the same.
    """

    name: str
    description: str
    num_images: str
    classes: tuple[str, ...]
    license: str
    files: tuple[RemoteFile, ...] = ()
    base_url: str = ""
    archive: RemoteFile | None = None
    folders: tuple[str, ...] = ()
    is_handwriting: bool = False
    split_method: str = "stratified"


DIGIT_CLASSES = tuple("0123456789")

_DATASETS = (
    NamedDataset(
        name="digits",
        split_method="hash",
        description="handwritten digits of 43 people (Alpaydin, Kaynak 1998); comes with scikit-learn",
        num_images="1,797 of 8 x 8, gray",
        classes=DIGIT_CLASSES,
        license="CC BY 4.0",
        is_handwriting=True,
    ),
    NamedDataset(
        name="mnist",
        split_method="hash",
        description="handwritten digits (LeCun, Cortes, Burges 1998)",
        num_images="60,000 + 10,000 of 28 x 28, gray",
        classes=DIGIT_CLASSES,
        license="CC BY-SA 3.0",
        files=(
            RemoteFile(
                "train-images-idx3-ubyte.gz",
                9_912_422,
                "f68b3c2dcbeaaa9fbdd348bbdeb94873",
                "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
            ),
            RemoteFile(
                "train-labels-idx1-ubyte.gz",
                28_881,
                "d53e105ee54ea40749a09fcbcd1e9432",
                "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
            ),
            RemoteFile(
                "t10k-images-idx3-ubyte.gz",
                1_648_877,
                "9fb629c4189551a2d022fa330f9573f3",
                "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
            ),
            RemoteFile(
                "t10k-labels-idx1-ubyte.gz",
                4_542,
                "ec29112dd5afa0611ce80d1b7f02629c",
                "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
            ),
        ),
        base_url="https://ossci-datasets.s3.amazonaws.com/mnist/",
        folders=("mnist", "MNIST", "MNIST/raw"),
        is_handwriting=True,
    ),
    NamedDataset(
        name="fashion-mnist",
        split_method="hash",
        description="images of clothes in MNIST's format (Xiao, Rasul, Vollgraf 2017; arXiv:1708.07747)",
        num_images="60,000 + 10,000 of 28 x 28, gray",
        classes=(
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
        ),
        license="MIT",
        files=(
            RemoteFile("train-images-idx3-ubyte.gz", 26_421_880, "8d4fb7e6c68d591d4c3dfef9ec88bf0d"),
            RemoteFile("train-labels-idx1-ubyte.gz", 29_515, "25c81989df183df01b3e8a0aad5dffbe"),
            RemoteFile("t10k-images-idx3-ubyte.gz", 4_422_102, "bef4ecab320f06d8554ea6380940ec79"),
            RemoteFile("t10k-labels-idx1-ubyte.gz", 5_148, "bb300cfdad3c16e7a12a480ee83cd310"),
        ),
        base_url="http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        folders=("fashion-mnist", "fashion_mnist", "FashionMNIST", "FashionMNIST/raw"),
    ),
    NamedDataset(
        name="cifar10",
        split_method="hash",
        description="small photographs of ten kinds of things (Krizhevsky 2009)",
        num_images="50,000 + 10,000 of 32 x 32, RGB",
        classes=("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
        license="none stated; free for research with citation",
        files=(
            RemoteFile(
                "data_batch_1",
                31_035_704,
                "c99cafc152244af753f735de768cd75f",
                "54636561a3ce25bd3e19253c6b0d8538147b0ae398331ac4a2d86c6d987368cd",
            ),
            RemoteFile(
                "data_batch_2",
                31_035_320,
                "d4bba439e000b95fd0a9bffe97cbabec",
                "766b2cef9fbc745cf056b3152224f7cf77163b330ea9a15f9392beb8b89bc5a8",
            ),
            RemoteFile(
                "data_batch_3",
                31_035_999,
                "54ebc095f3ab1f0389bbae665268c751",
                "0f00d98ebfb30b3ec0ad19f9756dc2630b89003e10525f5e148445e82aa6a1f9",
            ),
            RemoteFile(
                "data_batch_4",
                31_035_696,
                "634d18415352ddfa80567beed471001a",
                "3f7bb240661948b8f4d53e36ec720d8306f5668bd0071dcb4e6c947f78e9682b",
            ),
            RemoteFile(
                "data_batch_5",
                31_035_623,
                "482c414d41f54cd18b22e5b47cb7c3cb",
                "d91802434d8376bbaeeadf58a737e3a1b12ac839077e931237e0dcd43adcb154",
            ),
            RemoteFile(
                "test_batch",
                31_035_526,
                "40351d587109b95175f43aff81a1287e",
                "f53d8d457504f7cff4ea9e021afcf0e0ad8e24a91f3fc42091b8adef61157831",
            ),
            RemoteFile(
                "batches.meta",
                158,
                "5ff9c542aee3614f3951f8cda6e48888",
                "f962466ef690d46b226450fb9aadc74ba4bc64a76aa526b5827fe4bc5c7125cb",
            ),
        ),
        base_url="https://www.cs.toronto.edu/~kriz/",
        archive=RemoteFile("cifar-10-python.tar.gz", 170_498_071, "c58f30108f718f92721af3b95e74349a"),
        folders=("cifar10", "cifar-10-batches-py", "cifar10/cifar-10-batches-py", "cifar-10"),
    ),
)

NAMED_DATASETS = {dataset.name: dataset for dataset in _DATASETS}
