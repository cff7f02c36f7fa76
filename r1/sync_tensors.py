"""A model's weights on their way to an engine and back: under the names, and in the shapes, of the family's checkpoints."""

import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from transformers.core_model_loading import revert_weight_conversion
from transformers.utils import logging

from r1.lora import merged


def _as_it_is(tensor: torch.Tensor) -> torch.Tensor:
    return tensor


@torch.no_grad()
def sync_tensors(model: Any, *, whole: Callable[[torch.Tensor], torch.Tensor] = _as_it_is) -> Iterator[tuple[str, torch.Tensor]]:
    """The weights under the names, and in the shapes, of the family's checkpoints: what vLLM's `load_weights` reads.

    transformers keeps some weights in another form than the files do: the experts of a mixture are one [E, 2I, D] and one
    [E, D, I] parameter here and 3 E matrices there. `revert_weight_conversion` is what `save_pretrained` uses, so a sync and
    an export agree. It copies the experts' [E, 2I, D], and goes layer by layer here so that one of them exists at a time.

    whole: gathers a sharded tensor, e.g. `r1.ranks.whole`; a shard of fused experts cannot be taken apart. All ranks then
        iterate together.
    An adapter (`r1.lora`) goes out merged, so that names and shapes are those of the model without it.
    Parameters and persistent buffers (DeepSeek-V3's routing bias), a tied weight once, under its first name: vLLM takes
    the output head from the embedding.
    """
    seen: set[int] = set()
    layers: dict[str, dict[str, torch.Tensor]] = {}
    for name, tensor in model.state_dict(keep_vars=True).items():
        if id(tensor) not in seen:
            seen.add(id(tensor))
            layer = re.match(r".*?\.\d+\.", name)  # "model.layers.3."
            layers.setdefault(layer.group() if layer else "", {})[name] = tensor.detach()
    for named in layers.values():
        plain = dict(merged(model, {name: whole(tensor) for name, tensor in named.items()}))
        yield from revert_weight_conversion(model, plain).items()


@torch.no_grad()
def load_sync_tensors(model: Any, tensors: Iterable[tuple[str, torch.Tensor]]) -> None:
    """Copy what `sync_tensors` of the same model elsewhere gave into this one; raises ValueError unless the names agree.

    A second model is built around the tensors for a moment, since only a load turns checkpoint names into parameters.
    """
    given = dict(tensors)
    other = given.keys() ^ {name for name, _ in sync_tensors(model)}
    if other:
        raise ValueError(f"{len(other)} tensors are missing or unknown: {', '.join(sorted(other)[:3])}")
    bars = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()  # one per sync would fill the run's log
    try:
        loaded = type(model).from_pretrained(None, config=model.config, state_dict=given, dtype=model.dtype)
    finally:
        if bars:
            logging.enable_progress_bar()
    model.load_state_dict(loaded.state_dict())
