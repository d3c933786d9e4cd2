"""Fashion-MNIST: found on this machine or downloaded once, and verified by its SHA-256 hashes.

The hashes are those of the decompressed files, because every packager compresses them differently.
"""

from __future__ import annotations

import gzip
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from neurai_core.errors import DataError, MissingExtra
from neurai_datasets import FASHION_CLASSES, FashionMnistConfig
from neurai_datasets.idx_files import FILES, Array, dataset, find, find_all, parse, read_stream

if TYPE_CHECKING:
    from neurai_core.data import Dataset

FOLDER_VARIABLE = "NEURAI_DATA"
SUBFOLDER = "fashion-mnist"
DEBIAN = Path("/usr/share/datasets/fashion-mnist")
UPSTREAM = "https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion"
SHA256 = {
    "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
}
TIMEOUT = 30  # seconds to wait without receiving a byte


def build(config: FashionMnistConfig, **context: Any) -> Dataset:
    """Fashion-MNIST as float32 (N, 28, 28, 1) in [0, 1]: 60000 training and 10000 test images, as published.

    Raises:
        DataError: the files are not found and cannot be downloaded, or a file is not the published one.
        MissingExtra: the files are not found and pooch, which downloads them, is not installed.
    """
    folder = locate() or _download(allowed=config.download)
    paths = find_all(folder)
    arrays = {name: _verified(name, path) for name, path in paths.items()}
    packing = "unpack_into" in context
    return dataset("fashion-mnist", arrays, paths, classes=FASHION_CLASSES, license="MIT", keep_bytes=packing)


def locate() -> Path | None:
    """The folder that holds the four files, or None; opens none of them and never downloads."""
    return next((folder for folder in _folders() if len(find(folder)) == len(FILES)), None)


def _folders() -> Iterator[Path]:
    """Folders to search, in this order; the cache comes last, since only pooch knows it."""
    given = os.environ.get(FOLDER_VARIABLE)
    if given:
        folder = Path(os.path.expanduser(given))
        yield from (folder / SUBFOLDER, folder)
    yield DEBIAN
    cache = _cache()
    if cache is not None:
        yield cache


def _cache() -> Path | None:
    """Where downloads are stored; None without pooch, which determines the place."""
    try:
        import pooch
    except ImportError:
        return None
    return Path(pooch.os_cache("neurai")) / SUBFOLDER


def _download(*, allowed: bool) -> Path:
    folder = _cache()
    if not allowed:
        raise DataError(f"Fashion-MNIST was not found and download=False; looked in {_looked()}.", _how_to_get())
    if folder is None:
        raise MissingExtra(
            f"Fashion-MNIST was not found, and downloading it needs pooch; looked in {_looked()}.",
            f"python -m pip install 'neurai[download]'  Or: {_how_to_get()}",
        )
    for name in FILES:
        _fetch(name, folder)
    return folder


def _fetch(name: str, folder: Path) -> None:
    """Download one file into the folder unless it is already there; keep it only if its hash is right."""
    import pooch

    url = f"{UPSTREAM}/{name}.gz"
    try:
        pooch.retrieve(url, f"sha256:{SHA256[name]}", fname=name, path=folder, downloader=_decompressing)
    except Exception as error:  # no network, refused, cut off, wrong bytes: the remedy is the same
        reason = (str(error) or type(error).__name__).splitlines()[0].rstrip(".")
        raise DataError(
            f"Fashion-MNIST was not found in {_looked()}, and downloading {url} failed: {reason}.",
            _how_to_get(),
        ) from error


def _decompressing(url: str, output_file: str, pooch_object: Any) -> None:
    """A pooch downloader that keeps the stream inside a gzip file, so that pooch checks the hash of that."""
    import pooch

    pooch.HTTPDownloader(timeout=TIMEOUT)(url, output_file, pooch_object)
    path = Path(output_file)
    path.write_bytes(gzip.decompress(path.read_bytes()))


def _verified(name: str, path: Path) -> Array:
    stream = read_stream(path)
    found = hashlib.sha256(stream).hexdigest()
    if found != SHA256[name]:
        raise DataError(
            f"{path} is not the published file: the SHA-256 of its decompressed stream is {found}, "
            f"expected {SHA256[name]}.",
            f"Delete it and fetch it again, or read other data with the data set idx. {_how_to_get()}",
        )
    return parse(stream, path)


def _looked() -> str:
    """The folders that were searched, with the missing files of those that hold only some."""
    unset = "" if os.environ.get(FOLDER_VARIABLE) else f" (${FOLDER_VARIABLE} is not set)"
    return ", ".join(f"{folder}{_lacking(find(folder))}" for folder in _folders()) + unset


def _lacking(found: dict[str, Path]) -> str:
    return f" (lacks {', '.join(name for name in FILES if name not in found)})" if found else ""


def _how_to_get() -> str:
    """How to get the files, for every error here."""
    return (
        f"Put {', '.join(f'{name}.gz' for name in FILES)} into a folder and set {FOLDER_VARIABLE} to it; "
        f"they are in Debian's package dataset-fashion-mnist, which puts them into {DEBIAN}, and "
        f"at {UPSTREAM}."
    )
