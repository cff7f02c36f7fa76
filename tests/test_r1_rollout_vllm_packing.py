import pytest
import torch

from r1.rollout.vllm_packing import PROBE_COLUMNS, PROBE_PRODUCTS, columns_by_layer, part_checksums
from r1.shm_weights import checksum


def test_a_small_model_is_probed_whole_in_every_sync():
    numels = {"a": 1000, "b": 2000, "lm_head": 5000}
    for first in range(3):
        assert columns_by_layer(numels, first) == (dict.fromkeys(numels, PROBE_COLUMNS), first)


@pytest.mark.parametrize("big", [PROBE_PRODUCTS // 20, PROBE_PRODUCTS, 3 * PROBE_PRODUCTS])
def test_a_large_model_is_probed_in_turn_and_no_layer_is_left_out(big):
    numels = {f"layer {i}": big // (1 + i % 3) for i in range(40)}
    seen, first = set(), 0
    for _ in range(len(numels)):
        columns, first = columns_by_layer(numels, first)
        assert columns
        seen |= columns.keys()
    assert seen == numels.keys()


def test_parts_have_the_checksums_that_they_were_published_with():
    query, key = torch.randn(4, 3), torch.randn(2, 3)
    fused = torch.cat([query, key, torch.zeros(2, 3)])  # an embedding's padding
    published = [checksum(part.view(-1).view(torch.uint8)) for part in (query, key)]
    assert part_checksums(fused, [4, 2]) == published
    fused[5, 2] = torch.nextafter(fused[5, 2], torch.tensor(10.0))
    assert part_checksums(fused, [4, 2])[0] == published[0]
    assert part_checksums(fused, [4, 2])[1] != published[1]
