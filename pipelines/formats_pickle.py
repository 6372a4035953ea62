"""Pickles read without trust: numpy arrays, plain containers and CPU tensors, and nothing else."""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pipelines.store import InputRejected


class _ArraysOnly(pickle.Unpickler):
    """Admits numpy arrays, plain containers and CPU tensors; anything else in the file is refused by name."""

    _numpy = {"_reconstruct", "ndarray", "dtype", "scalar", "_frombuffer"}

    def find_class(self, module: str, name: str) -> Any:
        root = module.split(".")[0]
        if root == "numpy" and name in self._numpy:
            return super().find_class(module, name)
        if (module, name) in {("collections", "OrderedDict"), ("_codecs", "encode"), ("torch._utils", "_rebuild_tensor_v2")}:
            return super().find_class(module, name)
        if (module, name) == ("torch.storage", "_load_from_bytes"):
            return lambda data: torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
        raise InputRejected(f"pickle refers to {module}.{name}; only numpy arrays, plain containers and CPU tensors are read")


def load_pickle_arrays(path: Path) -> Any:
    """A `.pkl`, or an object `.npy`, that holds only arrays and containers; InputRejected for anything else."""
    with path.open("rb") as stream:
        if stream.read(6) == b"\x93NUMPY":
            version = np.lib.format.read_magic(_rewound(stream))
            read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            _, _, dtype = read_header(stream)
            if not dtype.hasobject:
                return np.load(path, allow_pickle=False)
        else:
            stream.seek(0)
        try:
            value = _ArraysOnly(stream, encoding="latin1").load()
        except (pickle.UnpicklingError, EOFError, AttributeError, ImportError, IndexError) as error:
            raise InputRejected(f"{path}: not a readable pickle of arrays ({error})") from error
    return value.item() if isinstance(value, np.ndarray) and value.shape == () and value.dtype == object else value


def _rewound(stream: Any) -> Any:
    stream.seek(0)
    return stream
