"""Read zip files of images in folders, one per class, without unpacking them."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import numpy as np

from ...errors import DataError, pluralize
from .archives import ArchiveImages
from .image_decoding import EXTENSIONS
from .labeled_images import LabeledImages, describe_loose, labels_of_folders, load_labeled_images
from .raw_dataset import RawDataset, ReadOptions

_ENCRYPTED = 1


def read_zip(path: Path, options: ReadOptions) -> RawDataset:
    """Read a zip file with one folder per class, or with folders train, val and test of such folders.

    Raises DataError for a file that is no complete zip file, or has no folders of images.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = [info for info in archive.infolist() if not info.is_dir()]
    except (zipfile.BadZipFile, ValueError, EOFError, NotImplementedError) as error:
        raise DataError(
            f"{path}: not a complete zip file ({error}).", "Copy or download it again.", path=path
        ) from error
    images = [info for info in members if os.path.splitext(info.filename)[1].lower() in EXTENSIONS]
    folders = labels_of_folders([info.filename for info in images])
    if not folders.rows:
        raise DataError(
            f"{path}: {pluralize(len(images), 'image')}, but no folder that could be a class.",
            "Put the images into one folder per class before they are packed: cat/1.jpg, dog/1.jpg, …",
            path=path,
            value=len(images),
        )
    selected = [images[row] for row in folders.rows]
    encoded = ArchiveImages(
        path,
        members=[info.filename for info in selected],
        offset=np.array([info.header_offset for info in selected], np.int64),
        size=np.array([info.file_size for info in selected], np.int64),
        collection=os.path.realpath(path),
        packed=np.array([info.compress_size for info in selected], np.int64),
        method=np.array([-1 if info.flag_bits & _ENCRYPTED else info.compress_type for info in selected], np.int64),
        crc=np.array([info.CRC for info in selected], np.int64),
    )
    warnings = describe_loose(folders.num_loose, path)
    source = LabeledImages("zip file", path, encoded, folders.labels, folders.splits, warnings=warnings)
    return load_labeled_images(source, options)
