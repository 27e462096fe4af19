"""The search run by MMEngine's runner: log, resuming, checkpoint, export."""

import copy
import json
import math
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from mmengine.config import Config
from mmengine.runner import Runner

from mmlocalmamba.engine import main_process
from mmlocalmamba.models import LocalVim
from mmlocalmamba.search import DirectionSearchHook, probabilities
from mmlocalmamba.search.hook import LOG_NAME, _forget_after, read_log, relative_entropy

CONFIG = Path(__file__).resolve().parents[2] / 'configs' / 'demo' / 'textures_search.py'


@pytest.fixture
def cfg(tmp_path):
    cfg = Config.fromfile(CONFIG)
    cfg.work_dir = str(tmp_path / 'work')
    for loader in (cfg.train_dataloader, cfg.val_dataloader):
        loader.dataset.update(num_images=16, grid=4)
        loader.batch_size = 8
    cfg.model.backbone.img_size = 4
    cfg.train_cfg.max_epochs = 2
    cfg.default_hooks.checkpoint.interval = 1
    cfg.default_hooks.checkpoint.max_keep_ckpts = 2
    cfg.custom_hooks[0].interval = 2
    return cfg


def run(cfg, name, **changes):
    cfg = copy.deepcopy(cfg)
    cfg.experiment_name = name
    cfg.update(changes)
    runner = Runner.from_cfg(cfg)
    runner.train()
    return runner


def test_the_log_has_the_probabilities_over_time(cfg):
    runner = run(cfg, 'log')
    records = read_log(Path(cfg.work_dir) / LOG_NAME)
    assert [record['iter'] for record in records] == [0, 2, 4]
    assert records[-1]['probabilities'] == probabilities(runner.model)
    assert records[0]['probabilities'] != records[-1]['probabilities']


def test_resuming_goes_on_with_the_log(cfg):
    run(cfg, 'first')
    whole = (Path(cfg.work_dir) / LOG_NAME).read_text()
    run(cfg, 'second', resume=True, load_from=str(Path(cfg.work_dir) / 'epoch_1.pth'))
    resumed = (Path(cfg.work_dir) / LOG_NAME).read_text()
    assert [json.loads(line)['iter'] for line in resumed.splitlines()] == [0, 2, 4]
    assert resumed.splitlines()[:2] == whole.splitlines()[:2]


def test_resuming_drops_a_line_that_a_killed_run_wrote_half(cfg):
    run(cfg, 'first')
    file = Path(cfg.work_dir) / LOG_NAME
    whole = file.read_text()
    file.write_text(whole + whole.splitlines()[-1][:40])
    run(cfg, 'second', resume=True, load_from=str(Path(cfg.work_dir) / 'epoch_1.pth'))
    assert [record['iter'] for record in read_log(file)] == [0, 2, 4]


def test_a_broken_line_in_the_middle_stops_every_process(cfg, monkeypatch):
    run(cfg, 'first')
    file = Path(cfg.work_dir) / LOG_NAME
    lines = file.read_text().splitlines(keepends=True)
    broken = ''.join([lines[0], '{"iter": 2, "pro\n', *lines[1:]])
    file.write_text(broken)
    runner = SimpleNamespace(work_dir=cfg.work_dir, iter=2, model=run(cfg, 'model', work_dir=f'{cfg.work_dir}2').model)
    runner.logger = SimpleNamespace(info=lambda text: None)

    with pytest.raises(ValueError, match='line 2, is not valid JSON'):
        DirectionSearchHook().before_train(runner)
    assert file.read_text() == broken

    def hear_of_failure(outcome):
        outcome[:] = [None, 'ValueError: the log is broken']

    monkeypatch.setattr(main_process, 'is_main_process', lambda: False)
    monkeypatch.setattr(main_process, 'broadcast_object_list', hear_of_failure)
    with pytest.raises(RuntimeError, match='the main process failed: ValueError: the log is broken'):
        DirectionSearchHook().before_train(runner)


def test_the_old_log_stays_until_the_new_one_is_whole(tmp_path, monkeypatch):
    file = tmp_path / LOG_NAME
    file.write_text('{"iter": 1, "probabilities": []}\n{"iter": 2, "probabilities": []}\n')
    before = file.read_text()
    monkeypatch.setattr('os.replace', lambda *paths: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        _forget_after(file, 1)
    assert file.read_text() == before


def test_the_hook_turns_sampling_on(cfg):
    cfg.custom_hooks[0].num_sampled = 2
    runner = run(cfg, 'sampled')
    assert {layer.mixer.merge.num_sampled for layer in runner.model.backbone.layers} == {2}


def test_a_model_that_does_not_search_is_refused(cfg):
    cfg.model.backbone.search = False
    with pytest.raises(ValueError, match='search=True'):
        run(cfg, 'refused')


def test_an_interval_of_zero_is_refused():
    with pytest.raises(ValueError, match='interval must be a positive'):
        DirectionSearchHook(interval=0)


def test_a_runners_checkpoint_starts_a_backbone(cfg, tmp_path):
    """What classification saves, averaged weights included, is what a detector's backbone takes."""
    cfg.custom_hooks = [dict(type='EMAHook', ema_type='ExponentialMovingAverage', momentum=0.5)]
    cfg.model.backbone.update(search=False)
    run(cfg, 'classifier')
    file = tmp_path / 'work' / 'epoch_2.pth'
    averaged = torch.load(file, weights_only=False)['state_dict']
    settings = {key: value for key, value in cfg.model.backbone.items() if key not in ('type', 'out_type', 'out_norm')}
    settings.update(out_indices=(0, 1), init_cfg=dict(type='Pretrained', checkpoint=str(file)))
    backbone = LocalVim(**settings)
    backbone.init_weights()
    loaded = backbone.state_dict()
    assert all(
        torch.equal(loaded[name], averaged[f'backbone.{name}'])
        for name in loaded
        if 'norm0' not in name and 'norm1' not in name
    )
    assert len(backbone(torch.randn(1, 1, 4, 4))) == 2


def test_broken_logs_are_refused(tmp_path):
    (tmp_path / 'log.jsonl').write_text('{"iter": 1, "probabilities": []}\nnonsense\n')
    with pytest.raises(ValueError, match='line 2, is not valid JSON'):
        read_log(tmp_path / 'log.jsonl')
    (tmp_path / 'log.jsonl').write_text('{"loss": 1}\n')
    with pytest.raises(ValueError, match='line 1, is no record'):
        read_log(tmp_path / 'log.jsonl')
    (tmp_path / 'log.jsonl').write_text('{"iter": 1, "probabilities": []}\n{"iter": 2,\n')
    with pytest.raises(ValueError, match='line 2, is not valid JSON'):
        read_log(tmp_path / 'log.jsonl')
    with pytest.raises(FileNotFoundError, match='DirectionSearchHook writes'):
        read_log(tmp_path / 'other.jsonl')


def test_an_incomplete_last_line_is_left_out(tmp_path):
    line = b'{"iter": 1, "probabilities": []}'
    for rest in (b'{"iter": 2, "prob', b'\0\0\0', b'{"\xc3'):
        (tmp_path / 'log.jsonl').write_bytes(line + b'\n' + rest)
        assert [record['iter'] for record in read_log(tmp_path / 'log.jsonl')] == [1]
    (tmp_path / 'log.jsonl').write_bytes(line)  # only the end of the line is missing
    assert [record['iter'] for record in read_log(tmp_path / 'log.jsonl')] == [1]


def test_relative_entropy():
    assert math.isnan(relative_entropy([dict(h=math.nan, v=math.nan), dict(h=0.5, v=0.5)]))
    assert relative_entropy([dict(h=0.5, v=0.5)]) == pytest.approx(1)
    assert relative_entropy([dict(h=1.0, v=0.0)]) == 0
    assert relative_entropy([dict(h=1.0)]) == 0
