"""What is said, as text: Whisper's decoder in plain torch over the encoder of whisper.py, for whatever reads words.

Radford et al. 2022, "Robust speech recognition via large-scale weak supervision", section 2: the decoder is told the
language and the task, and writes one token after the other, the likeliest each time. What it must not write stands in
the weights' own config.json. A clip is followed by silence up to `fill` seconds: it was taught on thirty, and writes
nearly the same after less (LOG.md, "speech as text"), at a fraction of the cost.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from habitue.core.errors import SettingsError
from habitue.encode import weights
from habitue.encode.samples import Samples, decoded
from habitue.encode.speech import DIMENSIONS, LONGEST, RATE
from habitue.encode.things import check
from habitue.encode.vectors import Refusal, refusals

MANY = 51_865  # tokens of the vocabulary of many languages; that of English alone has fewer
TOKENS_A_SECOND, FEWEST_TOKENS, MOST_TOKENS = 12, 12, 224
DOUBTFUL = -1.5  # mean log-probability of a token below which nothing that makes sense was heard
SILENCE = 0.6  # probability of "no speech" from which, with doubt, nothing was said


@dataclass(frozen=True)
class Config:
    """How speech becomes text. Raises SettingsError for settings that make no sense."""

    size: str = "base"  # 99 languages; "tiny-en" is English alone, a third of the cost
    language: str = ""  # "en", "de", "zh", ...; nothing = it is heard
    seconds: float = 30.0  # of a longer sound only the start is heard
    fill: float = 10.0  # silence behind a shorter clip, up to so many seconds in all
    workers: int = 2  # threads that decode

    def __post_init__(self) -> None:
        """Refuse settings that would hear nothing."""
        if self.size not in DIMENSIONS or not 0 < self.seconds <= LONGEST or not 0 <= self.fill <= LONGEST:
            raise SettingsError(
                "encode.transcript.Config",
                found=f"size '{self.size}', seconds {self.seconds}, fill {self.fill}",
                consequence="No speech could be written down",
                remedy=f"Give a size of {', '.join(DIMENSIONS)}, and seconds and fill up to {LONGEST:.0f}",
            )


@dataclass(frozen=True)
class Transcripts:
    """What was said in each thing, and why there is none of some."""

    texts: pl.DataFrame  # id, text, language, sure (mean log-probability of a token, 0 = certain); ids in order
    refused: pl.DataFrame  # id, code, sentence


def told(things: pl.DataFrame, config: Config | None = None) -> Transcripts:
    """Write down what is said in each thing (id and path or bytes); about 0.4 s of one core a second of sound (base).

    A sound that is broken, silent, too short or none gets a reason (samples.py), so does one in which nothing is said
    (`no_speech`). Raises MissingExtraError without the extra "sound", ModelError without the weights, SettingsError for
    a language the weights do not know.
    """
    config = config or Config()
    check(things, of=("path", "bytes"), where="encode.transcript")
    schema = {"id": pl.String, "text": pl.String, "language": pl.String, "sure": pl.Float64}
    if not things.height:
        return Transcripts(pl.DataFrame(schema=schema), refusals([]))
    writer = _writer(weights.path(f"speech-whisper-{config.size}"))
    writer.language(config.language)  # refuse one it does not know before anything is decoded
    ids, found, why = things["id"].to_list(), [], []
    seen = decoded(things, np.ascontiguousarray, rate=RATE, seconds=config.seconds, workers=config.workers)
    for place, made in seen:
        if isinstance(made, Refusal):
            why.append((place, ids[place], made.code, made.sentence))
            continue
        text, language, sure, quiet = writer(made, config)
        if not text or (quiet > SILENCE and sure < DOUBTFUL / 2) or sure < DOUBTFUL:
            why.append((place, ids[place], "no_speech", "Nobody says anything in it that can be understood."))
        else:
            found.append((place, ids[place], text, language, sure))
    table = pl.DataFrame([row[1:] for row in sorted(found)], schema=schema, orient="row")
    return Transcripts(table, refusals([row[1:] for row in sorted(why)]))


class Writer:
    """Encoder, decoder and vocabulary of one set of weights."""

    def __init__(self, path: Path) -> None:
        import torch

        from habitue.encode import whisper

        self.torch, self.whisper = torch, whisper
        self.hear = whisper.Encoder(path)
        stored = whisper.tensors(path)
        self.heads = int(stored["decoder/num_heads"])
        self.state = {
            name.removeprefix("decoder/"): torch.from_numpy(values.astype(np.float32))
            for name, values in stored.items()
            if name.startswith("decoder/") and values.ndim and not name.endswith("alignment_heads")
        }
        self.layers = sum(name.endswith("/ffn/linear_0/weight") for name in self.state)
        told = json.loads((path.parent / "config.json").read_text(encoding="utf-8"))
        vocabulary = json.loads((path.parent / "tokenizer.json").read_text(encoding="utf-8"))
        added = {token["content"]: token["id"] for token in vocabulary["added_tokens"]}
        self.words = {place: token for token, place in vocabulary["model"]["vocab"].items() if token not in added}
        self.start, self.end = added["<|startoftranscript|>"], added["<|endoftext|>"]
        known = set(told.get("lang_ids") or []) if len(self.state[TABLE]) >= MANY else set()
        self.languages: dict[int, str] = {code: name[2:-2] for name, code in added.items() if code in known}
        self.task = [added["<|transcribe|>"]] if self.languages else []
        self.plain = added["<|notimestamps|>"]
        self.quiet = added.get("<|nospeech|>", added.get("<|nocaptions|>", self.plain - 1))
        self.never = torch.tensor(sorted({*told["suppress_ids"], *range(self.plain, len(self.state[TABLE]))}))
        self.first = torch.tensor(told["suppress_ids_begin"])

    def __call__(self, sound: Samples, config: Config) -> tuple[str, str, float, float]:
        """Return text, language, mean log-probability of a token and probability that nothing is said."""
        torch = self.torch
        seconds = sound.size / RATE
        filled = np.pad(sound, (0, max(0, round(config.fill * RATE) - sound.size, RATE - sound.size)))
        with torch.inference_mode():
            heard = torch.from_numpy(self.hear(self.whisper.log_mel(filled)))
            memory = [self._shown(heard, f"layer_{n}/attention/linear_1") for n in range(self.layers)]
            past: list[Any] = [None] * self.layers
            scores = self._read([self.start], memory, past)
            quiet = float(torch.softmax(scores, 0)[self.quiet])
            spoken = self.language(config.language)
            if spoken is None and self.languages:
                codes = torch.tensor(sorted(self.languages))
                spoken = int(codes[scores[codes].argmax()])
            prompt = [*([spoken] if spoken is not None else []), *self.task, self.plain]
            scores = self._read(prompt, memory, past)
            scores[self.first] = -torch.inf
            tokens: list[int] = []
            total = 0.0
            for _ in range(min(MOST_TOKENS, FEWEST_TOKENS + math.ceil(TOKENS_A_SECOND * seconds))):
                scores[self.never] = -torch.inf
                likely = torch.log_softmax(scores, 0)
                token = int(likely.argmax())
                total += float(likely[token])
                if token == self.end:
                    break
                tokens.append(token)
                scores = self._read([token], memory, past)
        text = _bytes("".join(self.words.get(token, "") for token in tokens)).decode("utf-8", "replace").strip()
        return text, self.languages.get(spoken or 0, "en"), total / (len(tokens) + 1), quiet

    def language(self, name: str) -> int | None:
        """Return the token of a language; None = it is heard, or there is but one. Raises SettingsError."""
        codes: dict[str, int] = {told: code for code, told in self.languages.items()}
        if not name or (not codes and name == "en"):
            return None
        if name not in codes:
            raise SettingsError(
                "encode.transcript, setting 'language'",
                found=f"the weights know no language '{name}'",
                consequence="Speech would be written down as another one",
                remedy=f"Write one of {', '.join(sorted(codes) or ['en'])}, or leave it out",
            )
        return codes[name]

    def _read(self, tokens: list[int], memory: list[Any], past: list[Any]) -> Any:
        """Return the scores of the next token, and add these to what was read, `past`."""
        torch, place = self.torch, 0 if past[0] is None else past[0][0].shape[2]
        x = self.state[TABLE][torch.tensor(tokens)] + self.state[PLACES][place : place + len(tokens)]
        for n in range(self.layers):
            name = f"layer_{n}/self_attention"
            query, key, value = self._heads(self._linear(self._norm(x, name), f"{name}/linear_0"), 3)
            if past[n] is not None:
                key, value = (torch.cat([old, new], dim=2) for old, new in zip(past[n], (key, value), strict=True))
            past[n] = (key, value)
            sees = torch.ones(len(tokens), key.shape[2], dtype=torch.bool).tril(key.shape[2] - len(tokens))
            x = x + self._linear(self._look(query, key, value, sees), f"{name}/linear_1")
            name = f"layer_{n}/attention"
            (query,) = self._heads(self._linear(self._norm(x, name), f"{name}/linear_0"), 1)
            x = x + self._linear(self._look(query, memory[n][0], memory[n][1], None), f"{name}/linear_2")
            name = f"layer_{n}/ffn"
            wide = torch.nn.functional.gelu(self._linear(self._norm(x, name), f"{name}/linear_0"))
            x = x + self._linear(wide, f"{name}/linear_1")
        return self.state[TABLE] @ self._norm(x[-1:], "")[0]

    def _shown(self, heard: Any, name: str) -> tuple[Any, Any]:
        key, value = self._heads(self._linear(heard, name), 2)
        return key, value

    def _heads(self, x: Any, parts: int) -> Any:
        return [part.view(1, len(x), self.heads, -1).transpose(1, 2) for part in x.chunk(parts, dim=-1)]

    def _look(self, query: Any, key: Any, value: Any, sees: Any) -> Any:
        seen = self.torch.nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=sees)
        return seen.transpose(1, 2).reshape(query.shape[2], -1)

    def _norm(self, x: Any, name: str) -> Any:
        place = f"{name}/layer_norm" if name else "layer_norm"
        gamma, beta = self.state[f"{place}/gamma"], self.state[f"{place}/beta"]
        return self.torch.nn.functional.layer_norm(x, x.shape[-1:], gamma, beta)

    def _linear(self, x: Any, name: str) -> Any:
        return self.torch.nn.functional.linear(x, self.state[f"{name}/weight"], self.state[f"{name}/bias"])


TABLE, PLACES = "embeddings/weight", "position_encodings/encodings"


def _bytes(tokens: str) -> bytes:
    """Return the bytes that a byte-level vocabulary's letters stand for (Radford et al. 2019, section 2.2)."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    letters = {chr(code): code for code in plain}
    letters |= {chr(256 + n): code for n, code in enumerate(sorted(set(range(256)) - set(plain)))}
    return bytes(letters[letter] for letter in tokens if letter in letters)


@lru_cache(maxsize=1)
def _writer(path: Path) -> Writer:
    return Writer(path)
