import hashlib
import random
from pathlib import Path

import pytest
import torch

from mmlocalmamba.models.weights.damage import damage
from mmlocalmamba.models.weights.files import read_state_dict


@pytest.fixture
def checkpoint(tmp_path) -> Path:
    path = tmp_path / 'model.pth'
    torch.save({'state_dict': {'a': torch.arange(200.0), 'b': torch.ones(3, dtype=torch.int64)}}, path)
    return path


def content(path: Path) -> list[torch.Tensor]:
    return list(torch.load(path, weights_only=True)['state_dict'].values())


def test_a_whole_file_passes(checkpoint) -> None:
    assert damage(checkpoint) is None


def test_a_file_that_is_cut_off_anywhere_is_told(checkpoint) -> None:
    whole = checkpoint.read_bytes()
    for size in range(4, len(whole) - 1, 50):
        checkpoint.write_bytes(whole[:size])
        assert damage(checkpoint) == f'it is cut off after {size:,} bytes'
    checkpoint.write_bytes(b'')
    assert damage(checkpoint) == 'it is empty'


def test_a_flipped_bit_is_told_or_changes_nothing(checkpoint) -> None:
    whole, wanted = bytearray(checkpoint.read_bytes()), content(checkpoint)
    told = 0
    draw = random.Random(0)
    positions = range(0, len(whole), 3)
    for position in positions:
        changed = whole.copy()
        changed[position] ^= 1 << draw.randrange(8)
        checkpoint.write_bytes(changed)
        if damage(checkpoint) is not None:
            told += 1
            continue
        try:
            got = content(checkpoint)
        except Exception:  # torch tells itself
            continue
        assert all(torch.equal(a, b) for a, b in zip(got, wanted, strict=True)), position
    assert told > 800 / 3  # the bytes of the tensors alone


def test_the_old_format_has_no_checksums(checkpoint) -> None:
    torch.save({'a': torch.ones(3)}, checkpoint, _use_new_zipfile_serialization=False)

    assert damage(checkpoint) is None


def test_damaged_weights_are_not_read(checkpoint) -> None:
    whole = checkpoint.read_bytes()
    value = torch.tensor(57.0).numpy().tobytes()
    checkpoint.write_bytes(whole.replace(value, torch.tensor(58.0).numpy().tobytes()))

    with pytest.raises(ValueError, match=r'model.pth is damaged: its part .*data/\d differs from its checksum'):
        read_state_dict(checkpoint)


def test_a_hash_in_the_name_is_compared(checkpoint) -> None:
    digest = hashlib.sha256(checkpoint.read_bytes()).hexdigest()
    for count in (8, 12, 64):
        assert damage(checkpoint.rename(checkpoint.with_name(f'a-{digest[:count]}.pth'))) is None
        checkpoint = checkpoint.with_name(f'a-{digest[:count]}.pth')
    wrong = checkpoint.rename(checkpoint.with_name('a-0123abcd.pth'))
    assert damage(wrong).startswith(f'its SHA-256 starts with {digest[:8]}, but its name says 0123abcd')
    with pytest.raises(ValueError, match='its name says 0123abcd'):
        read_state_dict(wrong)


@pytest.mark.parametrize('name', ['a-20240131.pth', 'a-0123abc.pth', 'a_0123abcd.pth', 'a-0123ABCD.pth', 'a-12.34.pth'])
def test_what_is_no_hash_is_not_compared(checkpoint, name) -> None:
    assert damage(checkpoint.rename(checkpoint.with_name(name))) is None
