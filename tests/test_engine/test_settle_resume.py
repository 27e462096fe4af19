import os
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.config import Config

from mmlocalmamba.engine.resume import settle_resume


@pytest.fixture(autouse=True)
def work_dir(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path('work').mkdir()
    return Path('work')


def save(name: str, time: int = 0, folder: str = 'work') -> Path:
    """Save a checkpoint that was made so many seconds after noon."""
    Path(folder).mkdir(exist_ok=True)
    path = Path(folder, name)
    torch.save({'meta': {'time': f'20260101_1200{time:02}'}, 'state_dict': {'weight': torch.arange(100.0)}}, path)
    os.utime(path, (0, 0))
    return path


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-300])


def settle(wanted: str | None = 'auto', **settings: Any) -> tuple[Config, str | None]:
    cfg = Config({'work_dir': 'work', 'load_from': None, 'resume': False, **settings})
    return cfg, settle_resume(cfg, wanted)


def test_nothing_happens_without_resume() -> None:
    save('epoch_1.pth')

    cfg, note = settle(None)

    assert (cfg.resume, cfg.load_from, note) == (False, None, None)


def test_a_file_of_the_users_choice_is_taken() -> None:
    cfg, note = settle('other.pth')

    assert (cfg.resume, cfg.load_from, note) == (True, 'other.pth', None)


def test_with_nothing_there_it_says_that_it_starts_from_the_beginning() -> None:
    cfg, note = settle(load_from='detector.pth')

    assert (cfg.resume, cfg.load_from) == (False, 'detector.pth')
    assert note == 'There is no checkpoint in work to resume from: the run starts from the beginning.'


@pytest.mark.parametrize('wanted', ['auto', None])
def test_the_newest_is_taken(wanted) -> None:
    save('epoch_9.pth', 1)
    newest = save('epoch_10.pth', 2)
    (Path('work') / 'last_checkpoint').write_text(str(newest))

    cfg, note = settle(wanted, resume=True)

    assert (cfg.resume, cfg.load_from, note) == (True, 'work/epoch_10.pth', None)


def test_a_name_is_not_newer_than_what_was_made_later() -> None:
    """A run that went back to an earlier epoch leaves files with higher numbers."""
    save('epoch_8.pth', 1)
    save('epoch_4.pth', 9)

    assert settle()[0].load_from == 'work/epoch_4.pth'


@pytest.mark.parametrize('last', [None, '', 'work/epoch_1.pth', 'work/epoch_0.pth'])
def test_last_checkpoint_does_not_decide(last) -> None:
    """It is missing, empty, or names an older file, which may be gone."""
    save('epoch_1.pth', 1)
    save('epoch_2.pth', 1)
    if last is not None:
        (Path('work') / 'last_checkpoint').write_text(last)

    cfg, note = settle()

    assert cfg.load_from == 'work/epoch_2.pth'
    assert note is not None
    assert 'the newest whole checkpoint is work/epoch_2.pth' in note
    assert (last or 'missing or empty') in note


def test_it_does_not_go_back_to_an_older_one_by_itself() -> None:
    save('epoch_1.pth', 1)
    cut(save('epoch_2.pth', 2))

    with pytest.raises(
        ValueError, match=r'work/epoch_2.pth: it is cut off after [\d,]+ bytes.*--resume work/epoch_1.pth$'
    ):
        settle()
    assert settle('work/epoch_1.pth')[0].resume


def test_a_changed_bit_in_the_newest_is_told() -> None:
    save('iter_1.pth', 1)
    newest = save('iter_2.pth', 2)
    value = torch.tensor(57.0).numpy().tobytes()
    newest.write_bytes(newest.read_bytes().replace(value, torch.tensor(58.0).numpy().tobytes()))

    with pytest.raises(ValueError, match=r'work/iter_2.pth: its part .* differs from its checksum'):
        settle()


def test_a_newer_one_that_is_gone_is_told() -> None:
    save('epoch_1.pth', 1)
    (Path('work') / 'last_checkpoint').write_text('work/epoch_2.pth')

    with pytest.raises(ValueError, match=r'work/epoch_2.pth, which work/last_checkpoint names, is gone.*epoch_1.pth$'):
        settle()


def test_it_does_not_start_anew_beside_damaged_ones() -> None:
    cut(save('epoch_1.pth'))

    with pytest.raises(ValueError, match=r'no checkpoint in work is whole \(work/epoch_1.pth: it is cut off'):
        settle()


def test_a_copied_work_dir_is_resumed_itself() -> None:
    """``last_checkpoint`` still names the file in the old place."""
    old = save('epoch_1.pth', folder='old')
    save('epoch_1.pth')
    (Path('work') / 'last_checkpoint').write_text(str(old.resolve()))

    assert settle()[0].load_from == 'work/epoch_1.pth'


def test_files_beside_checkpoints_do_not_count() -> None:
    save('epoch_1.pth', 1)
    for name in ('best_mIoU_epoch_2.pth', 'epoch_2.pth.partial', 'non_finite_iter_2_rank0.pth'):
        save(name, 2)

    assert settle()[0].load_from == 'work/epoch_1.pth'


def test_the_hooks_own_folder_and_names_are_known() -> None:
    save('epoch_1.pth', 1)
    Path('elsewhere').mkdir()
    newest = save('model-2.pth', 2, folder='elsewhere/work')
    hook = {'out_dir': 'elsewhere', 'filename_tmpl': 'model-{}.pth'}

    assert settle(default_hooks={'checkpoint': hook})[0].load_from == str(newest)
