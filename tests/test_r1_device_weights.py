"""The checksum that a GPU can compute: what it is, and that no damage escapes it. On a CPU here; the code knows no device."""

import pytest
import torch

from r1 import device_weights
from r1.device_weights import device_checksums, device_manifest, wrong_tensors

MASK = 2**64 - 1
TENSORS = [("a", torch.arange(6.0).view(2, 3)), ("b", torch.tensor([1, 2, 3])), ("c", torch.tensor([0.5], dtype=torch.bfloat16))]


def by_hand(content: bytes) -> int:
    """The definition in Python's own integers, which do not wrap."""
    words = [int.from_bytes(content[i : i + 8].ljust(8, b"\0"), "little") for i in range(0, len(content), 8)]
    total = len(content)
    for position, word in enumerate(words):
        mixed = (word + position * 0x9E3779B97F4A7C15) & MASK
        mixed = ((mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & MASK
        total += mixed
    return total & MASK


def content_of(tensor):
    return tensor.contiguous().view(-1).view(torch.uint8).numpy().tobytes()


@pytest.mark.parametrize("num_bytes", [1, 8, 63, 64, 200])
def test_the_checksum_is_its_definition_also_across_chunks_and_at_odd_addresses(monkeypatch, num_bytes):
    content = torch.randint(0, 256, (num_bytes + 5,), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    for chunk_words in (2**20, 3):
        monkeypatch.setattr(device_weights, "CHUNK_WORDS", chunk_words)
        # Cut out of a bucket at any byte.
        assert device_checksums([content[start : start + num_bytes] for start in range(6)]) == [
            by_hand(content_of(content[start : start + num_bytes])) for start in range(6)
        ]


def test_strides_do_not_matter_and_nothing_is_nothing():
    matrix = torch.arange(12.0).view(3, 4)
    assert device_checksums([matrix.T]) == device_checksums([matrix.T.contiguous()]) != device_checksums([matrix])
    assert device_checksums([]) == []
    assert device_checksums([torch.empty(0), torch.tensor(3)]) == [0, by_hand(content_of(torch.tensor(3)))]


def test_every_flipped_bit_and_every_swap_shows():
    words = torch.tensor([5, 5, 0, -1, 2**62, -(2**63), 7, 0, 1])
    [whole] = device_checksums([words])
    for index in range(len(words)):
        for bit in range(64):
            flipped = words.clone()
            flipped[index] ^= 1 << bit if bit < 63 else -(2**63)
            assert device_checksums([flipped]) != [whole]
        for other in range(index):
            swapped = words.clone()
            swapped[[index, other]] = words[[other, index]]
            assert (device_checksums([swapped]) == [whole]) == bool(words[index] == words[other])
    assert device_checksums([words[:-1]]) != device_checksums([torch.cat([words[:-1], torch.tensor([0])])])


def test_a_manifest_says_what_will_come_and_in_which_order():
    manifest = device_manifest(7, iter(TENSORS))
    assert (manifest.policy_version, manifest.path, manifest.checksum_kind) == (7, "", "device")
    assert [(spec.name, spec.dtype, spec.shape, spec.offset) for spec in manifest.tensors] == [
        ("a", "float32", (2, 3), 0),
        ("b", "int64", (3,), 24),
        ("c", "bfloat16", (1,), 48),
    ]
    assert manifest.num_bytes == 50
    assert [spec.checksum for spec in manifest.tensors] == [by_hand(content_of(tensor)) for _, tensor in TENSORS]


def test_wrong_tensors_are_named():
    specs = device_manifest(7, TENSORS).tensors
    (a, one), (b, two), (c, three) = TENSORS
    assert wrong_tensors(specs, TENSORS, verify=True) == []
    assert wrong_tensors(specs, [(a, one), (b, two + 1), (c, three)], verify=True) == ["checksum differs for b"]
    assert wrong_tensors(specs, [(a, one), (b, two + 1), (c, three)], verify=False) == []
    swapped = wrong_tensors(specs, [(b, two), (a, one), (c, three)], verify=False)
    assert swapped[0] == "expected a float32 (2, 3), got b int64 (3,)"
    assert len(swapped) == 2
    assert wrong_tensors(specs, [(a, one.T)], verify=True) == ["expected a float32 (2, 3), got a float32 (3, 2)"]
    assert wrong_tensors(specs[:2], TENSORS, verify=True) == ["1 tensors more than were published"]
