"""An engine for whole runs of which exactly one, whichever is first, keeps its old output head in one sync."""

import os

from r1.rollout import vllm_weights
from r1.rollout.vllm_engine import VllmEngine

MARKER = "R1_TEST_FAULT_MARKER"
"""Environment variable: the file that the faulty one makes."""
FAULTY_VERSION = 2


class FaultyEngine(VllmEngine):
    def load_weights(self):
        if self._manifest.policy_version != FAULTY_VERSION or not self._is_chosen():
            super().load_weights()
            return
        repack, vllm_weights.repack_tied_output_heads = vllm_weights.repack_tied_output_heads, lambda model: None
        super().load_weights()
        vllm_weights.repack_tied_output_heads = repack

    def _is_chosen(self):
        try:
            os.close(os.open(os.environ[MARKER], os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return False
        return True
