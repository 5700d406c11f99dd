"""Texts through any sentence encoder of the Hugging Face hub's layout: a name fetched before, or a folder.

Only safetensors weights, configuration and tokenizer files are read; code that a model brings is never run. Tokens are
averaged, or the first is taken where the model's `1_Pooling/config.json` says so (Reimers and Gurevych 2019).
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from habitue.core.errors import InputError, ModelError, SettingsError, UsageError
from habitue.core.extras import need
from habitue.core.runtime import models_folder
from habitue.encode import weights, wheels
from habitue.encode.things import NO_TEXT, check, texts
from habitue.encode.vectors import Dense, Encoder, Vectors, assemble, refusals, unit

PREFIX = "hub:"
OWNER_NAME = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)?")
FILES = ("*.json", "*.safetensors", "*.txt", "*.model")  # configuration, weights, vocabularies; never code or pickles


@dataclass(frozen=True)
class Config:
    """Which model, and how texts become vectors. Raises SettingsError for settings that make no sense."""

    model: str = "hub:intfloat/multilingual-e5-small"  # hub:OWNER/NAME, weights known by name, or a folder
    before: str = ""  # put before every text, as some models want: "passage: "
    characters: int = 10_000  # of a longer text only the start is read
    tokens: int = 256  # of a longer text only the start is read

    def __post_init__(self) -> None:
        """Refuse settings that would encode nothing."""
        if not self.model or min(self.characters, self.tokens) < 1:
            raise SettingsError(
                "encode.hub.Config",
                found=f"model '{self.model}', characters {self.characters}, tokens {self.tokens}",
                consequence="No text could be encoded",
                remedy="Name a model and give numbers from 1",
            )


def encoder(config: Config) -> Encoder:
    """Return what decides a vector beside its text. Reads every file of the model."""
    folder = _folder(config.model)
    settings = {"before": config.before, "characters": config.characters, "tokens": config.tokens}
    return Encoder("text.hub@1", _settings(folder)["hidden_size"], settings, _digest(folder))


def encode(things: pl.DataFrame, config: Config | None = None) -> Vectors:
    """Return one unit row per thing (id, text); float32[I, D]. A text of nothing but blanks gets a reason.

    One text at a time, so that a vector is the same in any company. Raises MissingExtraError without the extra "hub",
    ModelError when the model is not on this machine or cannot be read.
    """
    config = config or Config()
    check(things, of=("text",), where="encode.hub")
    places, lines = texts(things, characters=config.characters)
    ids = things["id"].to_list()
    refused = refusals([(ids[i], *NO_TEXT) for i in sorted(set(range(len(ids))) - set(places))])
    by = encoder(config)
    rows = np.zeros((len(lines), by.dimension), dtype=np.float32)
    if lines:
        folder = _folder(config.model)
        cutter, network = _load(folder, by.weights)
        for row, line in enumerate(lines):
            rows[row] = _vector(cutter, network, config.before + line, config, first=_takes_first(folder))
    return assemble(ids, by, np.array(places, dtype=np.intp), unit(rows), refused)


def fetch(name: str) -> bool:
    """Bring the model hub:OWNER/NAME to this machine, through the hub's own client; False when it is there.

    Raises UsageError for a name that is none, ModelError offline and for a model without safetensors.
    """
    wanted = name.removeprefix(PREFIX)
    if not OWNER_NAME.fullmatch(wanted):
        raise UsageError(
            f"habitue models fetch {name}",
            found=f"'{wanted}' is no name of a model",
            consequence="Nothing was fetched",
            remedy="Write it as hub:OWNER/NAME",
        )
    target = _place(name)
    if (target / weights.MANIFEST).is_file():
        return False
    client = need("huggingface_hub", extra="hub", purpose="models fetch")
    try:
        with _quiet():
            source = Path(client.snapshot_download(wanted, allow_patterns=list(FILES)))
    except Exception as error:  # the client raises its own, requests' and the system's errors
        raise ModelError(
            f"habitue models fetch {name}",
            found=f"the hub did not give it ({type(error).__name__}): it is offline, or has no such model for you",
            consequence="Nothing was fetched",
            remedy="Go online, check the name, or give a folder with the model as encode.hub.Config(model=FOLDER)",
        ) from error
    _check_layout(source, name)
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".hub.") as unfinished:
        folder = Path(unfinished) / target.name
        files = [path for pattern in FILES for path in source.rglob(pattern) if path.is_file()]
        for path in files:
            copy = folder / path.relative_to(source)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)
        sums = {str(path.relative_to(source)): wheels.sha256(path) for path in files}
        about = {"name": name, "revision": source.name, "files": sums}
        (folder / weights.MANIFEST).write_text(json.dumps(about, indent=1), encoding="utf-8")
        folder.replace(target)
    return True


def _place(name: str) -> Path:
    return models_folder() / f"hub--{name.removeprefix(PREFIX).replace('/', '--')}"


def _folder(model: str) -> Path:
    """Return where the files of a model lie; it is one that can be read."""
    if model in weights.known():
        folder = weights.path(model).parent
    elif model.startswith(PREFIX):
        folder = _place(model)
        if not (folder / weights.MANIFEST).is_file():
            raise ModelError(
                f"encode.hub '{model}'",
                found="the model is not on this machine",
                consequence="What it encodes cannot be encoded; nothing is downloaded unasked",
                remedy=f"Fetch it with: habitue models fetch {model}",
            )
    else:
        folder = Path(model)
    _check_layout(folder, model)
    return folder


def _check_layout(folder: Path, model: str) -> None:
    missing = [name for name in ("config.json", "tokenizer.json") if not (folder / name).is_file()]
    if not list(folder.glob("*.safetensors")):
        missing.append("*.safetensors")
    if missing:
        raise InputError(
            f"encode.hub '{model}'",
            found=f"{folder} has no {', '.join(missing)}",
            consequence="Weights in pickles and code of strangers are never run, so it cannot be read",
            remedy="Take a model that is published as safetensors with a tokenizer.json",
        )
    if not isinstance(_settings(folder).get("hidden_size"), int):
        raise InputError(
            f"encode.hub '{model}'",
            found="its config.json is no JSON with a whole number as hidden_size",
            consequence="The length of its vectors is unknown",
            remedy="Take a text encoder, such as intfloat/multilingual-e5-small",
        )


def _settings(folder: Path) -> dict[str, Any]:
    try:
        read = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except ValueError:
        return {}
    return read if isinstance(read, dict) else {}


def _takes_first(folder: Path) -> bool:
    pooling = folder / "1_Pooling/config.json"
    return pooling.is_file() and bool(json.loads(pooling.read_text(encoding="utf-8")).get("pooling_mode_cls_token"))


def _digest(folder: Path) -> str:
    """SHA-256 over the names and bytes of the files that decide a vector."""
    files = sorted(path for pattern in FILES for path in folder.rglob(pattern) if path.name != weights.MANIFEST)
    state = hashlib.sha256()
    for path in files:
        changed = path.stat()
        state.update(f"{path.relative_to(folder)} {_sha256(path, changed.st_mtime_ns, changed.st_size)}\n".encode())
    return state.hexdigest()


@lru_cache(maxsize=64)
def _sha256(path: Path, changed_ns: int, length: int) -> str:  # noqa: ARG001 - a changed file is another key
    return wheels.sha256(path)


@lru_cache(maxsize=1)
def _load(folder: Path, digest: str) -> tuple[Any, Any]:  # noqa: ARG001 - other files are another model
    transformers = need("transformers", extra="hub", purpose="encode.hub")
    try:
        with _quiet():
            only = {"local_files_only": True, "trust_remote_code": False}
            cutter = transformers.AutoTokenizer.from_pretrained(folder, **only)
            network = transformers.AutoModel.from_pretrained(folder, use_safetensors=True, **only)
    except Exception as error:  # whatever a strange file makes transformers raise
        raise ModelError(
            f"encode.hub '{folder}'",
            found=f"transformers cannot read it ({type(error).__name__})",
            consequence="Nothing can be encoded with it",
            remedy="Fetch it again, or take a model that runs without code of its own",
        ) from error
    return cutter, network.eval()


def _vector(cutter: Any, network: Any, line: str, config: Config, *, first: bool) -> Dense:
    import torch

    cut = cutter(line, truncation=True, max_length=config.tokens, return_tensors="pt")
    with torch.inference_mode():
        tokens = network(**cut).last_hidden_state[0]
    vector: Dense = (tokens[0] if first else tokens.mean(dim=0)).float().numpy()
    return vector


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the loggers and bars of the two packages off the screen."""
    import warnings

    loggers = [logging.getLogger(name) for name in ("transformers", "huggingface_hub")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
