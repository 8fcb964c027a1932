"""A NumPy float32 forward pass of a Llama model in a GGUF file, for scoring given text.

Why not the runtime that generates: llama.cpp multiplies quantised activations, so its log-probabilities move with the
batch and attention settings (up to 0.8 nats were measured); here the same weights are dequantised once and a score
depends on its text alone. It is also faster at this: a continuation that is given is one matrix product per layer.

Left out: everything SmolLM2 does not have (biases, sliding windows, rope scaling, experts).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Layer:
    """Weights of one block; matrices are (out, in) as stored."""

    attention_norm: Floats
    query_key_value: Floats
    attention_output: Floats
    feed_forward_norm: Floats
    gate_up: Floats
    down: Floats


@dataclass(frozen=True)
class Llama:
    """Dequantised weights. `embeddings` also serve as the output matrix when the file ties them."""

    layers: list[Layer]
    embeddings: Floats
    output_norm: Floats
    output: Floats
    heads: int
    key_value_heads: int
    norm_epsilon: np.float32
    rope_base: float

    @property
    def head_size(self) -> int:
        return self.embeddings.shape[1] // self.heads


@dataclass(frozen=True)
class Cache:
    """Keys and values of one sequence: two arrays of shape (layers, key_value_heads, tokens_max, head_size)."""

    keys: Floats
    values: Floats


def load(path: Path) -> Llama:
    """Read and dequantise a GGUF file: about 3 s and 540 MB for SmolLM2-135M.

    Raises:
        ValueError: the file is not a Llama architecture.
    """
    # Imported here: the reader is needed once, and only by a process that scores.
    import gguf
    from gguf.quants import dequantize

    reader = gguf.GGUFReader(path)
    fields = {name: field for name, field in reader.fields.items() if not name.startswith("tokenizer.")}
    architecture = fields["general.architecture"].contents()
    if architecture != "llama":
        raise ValueError(f"{path.name} holds a {architecture} model, not a llama")
    tensors = {tensor.name: tensor for tensor in reader.tensors}

    def weights(*names: str) -> Floats:
        parts = [dequantize(tensors[f"{name}.weight"].data, tensors[f"{name}.weight"].tensor_type) for name in names]
        return np.ascontiguousarray(np.concatenate(parts), dtype=np.float32)

    embeddings = weights("token_embd")
    layers = [
        Layer(
            attention_norm=weights(f"blk.{i}.attn_norm"),
            query_key_value=weights(f"blk.{i}.attn_q", f"blk.{i}.attn_k", f"blk.{i}.attn_v"),
            attention_output=weights(f"blk.{i}.attn_output"),
            feed_forward_norm=weights(f"blk.{i}.ffn_norm"),
            gate_up=weights(f"blk.{i}.ffn_gate", f"blk.{i}.ffn_up"),
            down=weights(f"blk.{i}.ffn_down"),
        )
        for i in range(fields["llama.block_count"].contents())
    ]
    return Llama(
        layers=layers,
        embeddings=embeddings,
        output_norm=weights("output_norm"),
        output=weights("output") if "output.weight" in tensors else embeddings,
        heads=fields["llama.attention.head_count"].contents(),
        key_value_heads=fields["llama.attention.head_count_kv"].contents(),
        norm_epsilon=np.float32(fields["llama.attention.layer_norm_rms_epsilon"].contents()),
        rope_base=fields["llama.rope.freq_base"].contents(),
    )


def new_cache(model: Llama, tokens_max: int) -> Cache:
    """An empty cache; 46 kB a token for SmolLM2-135M."""
    shape = (len(model.layers), model.key_value_heads, tokens_max, model.head_size)
    return Cache(keys=np.empty(shape, np.float32), values=np.empty(shape, np.float32))


def extend(model: Llama, tokens: list[int], cache: Cache, *, start: int) -> Floats:
    """Run tokens that follow the first `start` cached ones, and write their keys and values behind those.

    Args:
        tokens: T token ids, T >= 1.
        cache: Its first `start` positions must hold this sequence's past; what lies behind is overwritten.

    Returns:
        Hidden states before the output norm, shape (T, width).
    """
    count, end = len(tokens), start + len(tokens)
    heads, key_heads, size = model.heads, model.key_value_heads, model.head_size
    rotation = _rotation(model, np.arange(start, end))
    # Of the `count` newest positions, each may look at itself and at older ones.
    future = np.triu(np.full((count, count), -np.inf, np.float32), k=1)
    hidden = model.embeddings[np.asarray(tokens)]
    for index, layer in enumerate(model.layers):
        mixed = _norm(hidden, layer.attention_norm, model.norm_epsilon) @ layer.query_key_value.T
        mixed = mixed.reshape(count, heads + 2 * key_heads, size)
        query = _rotate(mixed[:, :heads], rotation) * np.float32(size**-0.5)
        keys, values = cache.keys[index, :, :end], cache.values[index, :, :end]
        keys[:, start:] = _rotate(mixed[:, heads : heads + key_heads], rotation).transpose(1, 0, 2)
        values[:, start:] = mixed[:, heads + key_heads :].transpose(1, 0, 2)

        grouped = query.transpose(1, 0, 2).reshape(key_heads, -1, size)
        attention = (grouped @ keys.transpose(0, 2, 1)).reshape(heads, count, end)
        attention[:, :, start:] += future
        attention -= attention.max(axis=-1, keepdims=True)
        np.exp(attention, out=attention)
        attention /= attention.sum(axis=-1, keepdims=True)
        seen = (attention.reshape(key_heads, -1, end) @ values).reshape(heads, count, size)
        hidden = hidden + seen.transpose(1, 0, 2).reshape(count, -1) @ layer.attention_output.T

        gate, up = np.split(_norm(hidden, layer.feed_forward_norm, model.norm_epsilon) @ layer.gate_up.T, 2, axis=1)
        with np.errstate(over="ignore"):  # exp of a large number is infinite, and x / inf is the 0 we want
            gate = gate / (1 + np.exp(-gate)) * up
        hidden = hidden + gate @ layer.down.T
    return hidden


def log_probabilities(model: Llama, hidden: Floats, targets: list[int]) -> NDArray[np.float64]:
    """Log-probability in nats that each hidden state gives to its target, the token after it; shape (T,)."""
    logits = _norm(hidden, model.output_norm, model.norm_epsilon) @ model.output.T
    top = logits.max(axis=1)
    chosen = logits[np.arange(len(targets)), targets].astype(np.float64)
    logits -= top[:, None]
    np.exp(logits, out=logits)
    return chosen - top - np.log(logits.sum(axis=1, dtype=np.float64))


def _norm(hidden: Floats, weight: Floats, epsilon: np.float32) -> Floats:
    return hidden / np.sqrt((hidden * hidden).mean(axis=-1, keepdims=True) + epsilon) * weight


def _rotation(model: Llama, positions: NDArray[np.int64]) -> tuple[Floats, Floats]:
    """Cosine and sine per position and pair of coordinates, each of shape (T, 1, head_size / 2)."""
    pairs = np.arange(0, model.head_size, 2) / model.head_size
    angles = positions[:, None] * model.rope_base**-pairs
    return np.cos(angles)[:, None].astype(np.float32), np.sin(angles)[:, None].astype(np.float32)


def _rotate(vectors: Floats, rotation: tuple[Floats, Floats]) -> Floats:
    """Rotary positions on neighbouring coordinates: GGUF files store query and key weights in that order."""
    cosine, sine = rotation
    even, odd = vectors[..., 0::2], vectors[..., 1::2]
    turned = np.empty_like(vectors)
    turned[..., 0::2] = even * cosine - odd * sine
    turned[..., 1::2] = even * sine + odd * cosine
    return turned
