import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from mmengine.fileio import get_file_backend
from mmengine.runner import save_checkpoint

from mmlocalmamba.engine import checkpoint_files
from mmlocalmamba.engine.checkpoint_files import WHOLE_FILES, write_whole


def test_a_file_and_its_folder_are_made(tmp_path) -> None:
    write_whole(tmp_path / 'new/file', b'content')

    assert (tmp_path / 'new/file').read_bytes() == b'content'
    assert os.listdir(tmp_path / 'new') == ['file']


@pytest.mark.parametrize('operation', ['fsync', 'replace'])
def test_the_old_file_stays_until_the_new_one_is_on_the_disk(operation, tmp_path, monkeypatch) -> None:
    path = tmp_path / 'file'
    path.write_bytes(b'old')

    def stop(*args) -> None:
        assert (tmp_path / 'file.partial').read_bytes() == b'new'
        assert path.read_bytes() == b'old'
        raise KeyboardInterrupt

    monkeypatch.setattr(checkpoint_files.os, operation, stop)
    with pytest.raises(KeyboardInterrupt):
        write_whole(path, b'new')
    assert path.read_bytes() == b'old'


def test_a_full_disk_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch) -> None:
    path = tmp_path / 'file'
    path.write_bytes(b'old')

    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(checkpoint_files.os, 'fsync', full)
    wanted = r'could not write .*file, which needs 1,000 bytes: No space left on device \([\d,]+ bytes are free there\)'
    with pytest.raises(OSError, match=wanted) as caught:
        write_whole(path, bytes(1000))

    assert caught.value.errno == errno.ENOSPC
    assert os.listdir(tmp_path) == ['file']
    assert path.read_bytes() == b'old'


LIMITED = """
import resource, sys
from mmlocalmamba.engine.checkpoint_files import write_whole
write_whole('file', b'old')
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
write_whole('file', bytes(10000))
"""


@pytest.mark.slow
def test_a_limit_on_the_size_of_files_is_named(tmp_path) -> None:
    done = subprocess.run([sys.executable, '-c', LIMITED], cwd=tmp_path, capture_output=True, text=True, timeout=120)

    assert 'which needs 10,000 bytes: File too large' in done.stderr
    assert 'ulimit -f' in done.stderr
    assert os.listdir(tmp_path) == ['file']
    assert (tmp_path / 'file').read_bytes() == b'old'


def test_mmengine_writes_through_it(tmp_path, monkeypatch) -> None:
    written: list[Path] = []
    monkeypatch.setattr(checkpoint_files, 'write_whole', lambda path, content: written.append(Path(path)))

    save_checkpoint({'a': torch.ones(1)}, str(tmp_path / 'a.pth'), backend_args={'backend': WHOLE_FILES})
    get_file_backend(backend_args={'backend': WHOLE_FILES}).put_text('b', tmp_path / 'b')

    assert written == [tmp_path / 'a.pth', tmp_path / 'b']
