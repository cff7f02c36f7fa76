"""The vLLM engine: with its neighbours `r1.rollout.vllm_*`, the only file that imports vllm.

vLLM runs inside this process (no engine subprocess), so a rollout worker is one process to place, kill and
clean up; with tensor parallelism it has children that compute, and die with it. Weights come in through vLLM's
weight-transfer API, with transports of our own or its own with checks added.
"""

import os
import time
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import torch

# All read by vllm or torch._dynamo when they are imported, so they stand before the import of vllm.
# In-process: ready in 4-6 s and 2.4 GB instead of 20-60 s and 3.5 GB.
os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
# Every good reload warns "ParallelLMHead: Failed to load weights".
os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
if not torch.cuda.is_available():
    # Even an eager engine compiles some sampler helpers. On a CPU that costs 15-25 s at the first request of every
    # process and gains nothing: 4.4k tokens/s compiled, 5.1k eager (tiny model, one core).
    os.environ.setdefault("TORCHDYNAMO_DISABLE", "1")

from transformers import AutoConfig, AutoTokenizer
from vllm import LLM, RequestOutput, SamplingParams
from vllm.config import WeightTransferConfig
from vllm.outputs import CompletionOutput
from vllm.sampling_params import RequestOutputKind

from r1.errors import RunError, SyncError
from r1.rollout.engine import (
    COLOCATED_GPU_SHARE,
    GPU_SHARE,
    MIN_BATCHED_TOKENS,
    EngineOptions,
    SleepingPart,
    check_version,
)
from r1.rollout.kv_cache import cpu_cache_bytes
from r1.rollout.tokens import eos_token_ids, text_of
from r1.rollout.vllm_device_weights import IpcWeightTransfer, NcclWeightTransfer
from r1.rollout.vllm_parallel import leave_nothing_behind, parallel_options
from r1.rollout.vllm_weights import ShmWeightTransfer, WorkerExtension
from r1.seeds import sample_seed
from r1.types import Completion, FinishedGroup, GroupRequest, RolloutGroup, WeightManifest
from r1.weight_transport import BUCKET_BYTES

BLOCK_SIZE = 32
"""Tokens per key-value block. The default of 128 never shares a prefix between short prompts."""


class VllmEngine:
    """A `RolloutEngine` on vLLM (CPU or GPU)."""

    def __init__(self, options: EngineOptions) -> None:
        self.policy_version = 0
        self._options = options
        self._tokenizer = AutoTokenizer.from_pretrained(options.model_path, trust_remote_code=False)
        self._eos_token_ids = eos_token_ids(options.model_path, self._tokenizer)
        config = AutoConfig.from_pretrained(options.model_path, trust_remote_code=False).get_text_config()
        self.vocab_size = config.vocab_size
        self._manifest: WeightManifest | None = None
        self._unfinished: dict[int, _Unfinished] = {}
        self._asleep: set[SleepingPart] = set()
        max_model_len = options.max_prompt_tokens + options.max_completion_tokens
        self._llm = LLM(
            model=options.model_path,
            trust_remote_code=False,
            load_format="safetensors",  # the default takes pickled weights as well
            dtype=options.dtype,
            max_model_len=max_model_len,
            max_num_seqs=options.max_num_seqs,
            enforce_eager=True,  # torch.compile: 80-110 s of start for 5 % of speed on a CPU
            block_size=BLOCK_SIZE,
            enable_prefix_caching=True,
            # A seeded request whose prompt is split kills the engine on a CPU ("CPU Generator does not use offset").
            enable_chunked_prefill=False,
            max_num_batched_tokens=max(max_model_len, MIN_BATCHED_TOKENS),
            **_memory_options(options, config),
            **parallel_options(options),
            **_kernel_options(config),
            # The default returns log-probabilities at temperature 1, whatever the sampling temperature is.
            logprobs_mode="processed_logprobs",
            weight_transfer_config=WeightTransferConfig(backend=ShmWeightTransfer.NAME),
            worker_extension_cls=f"{WorkerExtension.__module__}.{WorkerExtension.__qualname__}",
            disable_log_stats=True,
        )
        self._llm.llm_engine.set_weight_version("0")
        self._transport = ShmWeightTransfer.NAME
        self._is_updating = False
        self.devices: tuple[str, ...] = tuple(filter(None, self._llm.collective_rpc("device_id")))
        if options.tensor_parallel_size > 1:
            leave_nothing_behind(self._llm)

    def add(self, request: GroupRequest) -> None:
        """Every sample is a request of its own, with its own seed."""
        check_version(request, self.policy_version)
        if not self._unfinished:
            # So that what is sampled does not depend on what was sampled before: a resumed run repeats it bitwise.
            self._llm.reset_prefix_cache()
        self._unfinished[request.ticket] = _Unfinished(request)
        for sample_id in range(request.group_size):
            seed = sample_seed(request.seed, request.step, request.prompt.group_id, sample_id)
            prompt = {"prompt_token_ids": list(request.prompt.token_ids)}
            params = self._sampling_params(seed, request.prompt.stop)
            self._llm.llm_engine.add_request(f"{request.ticket}/{sample_id}", prompt, params)

    def step(self) -> list[FinishedGroup]:
        """One token for each running sample."""
        finished = []
        for output in self._llm.llm_engine.step():
            assert isinstance(output, RequestOutput)
            ticket, sample_id = map(int, output.request_id.split("/"))
            unfinished = self._unfinished[ticket]
            sample_s = time.monotonic() - unfinished.started_s
            unfinished.completions[sample_id] = self._completion(unfinished.request, sample_id, output.outputs[0], sample_s)
            if len(unfinished.completions) == unfinished.request.group_size:
                del self._unfinished[ticket]
                completions = tuple(unfinished.completions[i] for i in range(unfinished.request.group_size))
                group = RolloutGroup(prompt=unfinished.request.prompt, completions=completions)
                finished.append(FinishedGroup(ticket=ticket, group=group))
        return finished

    @property
    def num_unfinished(self) -> int:
        return len(self._unfinished)

    def abort(self, tickets: Collection[int] | None = None) -> None:
        dropped = [ticket for ticket in self._unfinished if tickets is None or ticket in tickets]
        running = [
            f"{ticket}/{sample_id}"
            for ticket in dropped
            for sample_id in range(self._unfinished[ticket].request.group_size)
            if sample_id not in self._unfinished[ticket].completions
        ]
        self._llm.llm_engine.abort_request(running)
        for ticket in dropped:
            del self._unfinished[ticket]

    def sleep(self) -> None:
        """On a GPU only; a CPU's memory is large enough for both.

        Level 2 drops the weights: whatever the learner does meanwhile, also when it fails, a sync brings others before the
        next token. Level 1 would copy them to the CPU and back.
        """
        assert not self._unfinished, "the pool lets everything be finished first"
        if self._options.colocated and torch.cuda.is_available() and not self._asleep:
            self._llm.sleep(level=2)
            self._asleep = {"weights", "kv_cache"}

    def wake_up(self, part: SleepingPart) -> None:
        if part in self._asleep:
            self._llm.wake_up(tags=[part])
            self._asleep.discard(part)

    def join_transfer(self, meeting_point: str, world_size: int, rank_offset: int) -> None:
        self._refuse_parts()
        self._use(NcclWeightTransfer.NAME)
        meeting = urlsplit(meeting_point)
        self._llm.init_weight_transfer_engine(
            {
                "init_info": {
                    "master_address": meeting.hostname,
                    "master_port": meeting.port,
                    "rank_offset": rank_offset,
                    "world_size": world_size,
                    "packed": True,
                    "packed_buffer_size_bytes": BUCKET_BYTES,
                }
            }
        )

    def receive_bucket(self, manifest: WeightManifest, index: int, bucket: dict[str, Any], *, verify: bool) -> None:
        self._use(IpcWeightTransfer.NAME)
        if index == 0:
            self._refuse_parts()
        self._update(manifest, verify=verify, bucket=bucket)

    def receive_weights(self, manifest: WeightManifest, *, verify: bool) -> None:
        if manifest.path:
            self._use(ShmWeightTransfer.NAME)
        self._update(manifest, verify=verify)

    def _refuse_parts(self) -> None:
        if self._is_updating:
            raise RunError("an earlier weight sync ended half-way, and this engine holds parts of two policies")

    def _use(self, transport: str) -> None:
        if transport != self._transport:
            self._llm.collective_rpc("use_transport", args=(transport,))
            self._transport = transport

    def _update(self, manifest: WeightManifest, **what: Any) -> None:
        self._manifest = manifest
        if not self._is_updating:
            self._llm.start_weight_update()
        self._is_updating = False  # vLLM ends an update in which something is raised
        self._llm.update_weights({"update_info": {"manifest": manifest, **what}})
        self._is_updating = True

    def load_weights(self) -> None:
        assert self._manifest is not None, "receive_weights comes first"
        self._is_updating = False
        self._llm.finish_weight_update(str(self._manifest.policy_version))
        self.policy_version = self._manifest.policy_version

    def reset_prefix_cache(self) -> None:
        # Running samples keep their tokens, and compute their keys and values anew under the new weights.
        if not self._llm.llm_engine.reset_prefix_cache(reset_running_requests=bool(self._unfinished)):
            raise SyncError(f"weight sync, version {self.policy_version}: vLLM did not reset its prefix cache")

    def verify_weights(self) -> None:
        assert self._manifest is not None, "receive_weights comes first"
        if self._llm.get_weight_version() != str(self._manifest.policy_version):
            raise SyncError(
                f"weight sync: vLLM reports version {self._llm.get_weight_version()}, not {self._manifest.policy_version}"
            )
        for stale in self._llm.collective_rpc("stale_weights", args=(self._manifest,)):
            if stale:
                raise SyncError(
                    f"weight sync, phase verify, version {self.policy_version}: {len(stale)} layers compute with other weights "
                    f"than the published ones: {', '.join(stale[:3])}"
                )

    def close(self) -> None:
        self._llm.llm_engine.engine_core.shutdown()

    def _sampling_params(self, seed: int, stop: tuple[str, ...]) -> SamplingParams:
        return SamplingParams(
            temperature=self._options.temperature,
            max_tokens=self._options.max_completion_tokens,
            seed=seed,
            logprobs=0,  # of the sampled token alone
            detokenize=bool(stop),  # once, at the end, is cheaper than token by token
            stop=list(stop),
            skip_special_tokens=False,  # or a stop such as <|im_end|> would not be seen
            stop_token_ids=list(self._eos_token_ids),
            output_kind=RequestOutputKind.FINAL_ONLY,
        )

    def _completion(self, request: GroupRequest, sample_id: int, output: CompletionOutput, sample_s: float) -> Completion:
        token_ids = tuple(output.token_ids)
        assert output.logprobs is not None
        logprobs = tuple(step[token].logprob for token, step in zip(token_ids, output.logprobs, strict=True))
        reason = output.finish_reason
        first, *later = [(int(span.version), span.start) for span in output.weight_versions or ()] or [(self.policy_version, 0)]
        return Completion(
            group_id=request.prompt.group_id,
            sample_id=sample_id,
            token_ids=token_ids,
            rollout_logprobs=logprobs,
            text=text_of(self._tokenizer, token_ids, self._eos_token_ids, request.prompt.stop),
            finish_reason=reason if reason in ("stop", "length") else "abort",
            policy_version=first[0],
            later_versions=tuple(later),
            sample_s=sample_s,
        )


@dataclass
class _Unfinished:
    request: GroupRequest
    completions: dict[int, Completion] = field(default_factory=dict)
    """sample_id -> what is finished already"""
    started_s: float = field(default_factory=time.monotonic)


def _memory_options(options: EngineOptions, config: Any) -> dict[str, Any]:
    if torch.cuda.is_available():
        if options.colocated:
            return {"gpu_memory_utilization": COLOCATED_GPU_SHARE, "enable_sleep_mode": True}
        return {"gpu_memory_utilization": GPU_SHARE}
    return {"kv_cache_memory_bytes": cpu_cache_bytes(config, options, BLOCK_SIZE)}


def _kernel_options(config: Any) -> dict[str, Any]:
    """Multi-head latent attention (DeepSeek) on a CPU goes without vLLM's rotary kernel, which turns its queries wrongly.

    Seen in vLLM 0.32: 3-D queries of more than one head, |d| 3.6 on standard normal input; mean |d log-prob| 0.4.
    And without its AMX attention, which empties a weight that the layerwise reload then copies into (read in its source; not
    seen, for want of such a CPU).
    """
    if torch.cuda.is_available() or not hasattr(config, "kv_lora_rank"):
        return {}
    return {"compilation_config": {"custom_ops": ["-rotary_embedding"]}, "attention_backend": "CPU_MLA"}
