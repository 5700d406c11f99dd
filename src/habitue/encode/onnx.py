"""ONNX Runtime as every encoder here uses it: on the CPU, with few threads, loaded once a process."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

from habitue.core.errors import ModelError
from habitue.core.extras import need


@lru_cache(maxsize=4)
def session(path: Path, *, threads: int, extra: str, strings: bool = False) -> Any:
    """Return an InferenceSession of the file `path`; `strings` adds the operators that cut text into word pieces.

    `extra` is the extra that the asking encoder belongs to. Raises MissingExtraError, and ModelError when the file is
    no model that ONNX Runtime can read.
    """
    ort = need("onnxruntime", extra=extra, purpose="encode")
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3  # errors only: warnings of a graph are not for whoever encodes
    if strings:
        extensions = need("onnxruntime_extensions", extra=extra, purpose="encode")
        options.register_custom_ops_library(extensions.get_library_path())
    try:
        return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's errors have no common class but this
        raise ModelError(
            str(path),
            found=f"ONNX Runtime cannot load it ({type(error).__name__})",
            consequence="Nothing can be encoded with it",
            remedy="Delete the file and run again; it is made again from the weights",
        ) from error
