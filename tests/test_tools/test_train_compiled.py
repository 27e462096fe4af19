"""``compile=`` of MMEngine through tools/train.py. The back ends without code generation keep these tests short."""

import re
from pathlib import Path

import pytest
from mmengine.config import Config
from mmengine.runner import Runner

from mmlocalmamba.datasets.shapes import write_shapes

DEMO = Path(__file__).resolve().parents[2] / 'configs/demo'
CLASSIFIER = DEMO / 'textures_fixed.py'
SHORT = dict(
    train_cfg=dict(_delete_=True, type='IterBasedTrainLoop', max_iters=2),
    val_cfg=None,
    val_dataloader=None,
    val_evaluator=None,
    default_hooks=dict(logger=dict(interval=1)),
    log_processor=dict(by_epoch=False),
)


def short_config(base: Path, **settings) -> Path:
    """Write a config with two iterations."""
    lines = [f'{key} = {value!r}' for key, value in {**SHORT, **settings}.items()]
    path = Path('short.py')
    path.write_text('\n'.join([f"_base_ = '{base}'", *lines]))
    return path


def losses(tool, config: Path, *options: str) -> list[float]:
    """Train, and give the loss of each iteration."""
    folder = Path('_'.join(['run', *options]))
    # Without a name of its own, a run that starts in the same second writes into the log of the one before.
    tool('train').main(
        [str(config), '--work-dir', str(folder), '--cfg-options', f'experiment_name={folder.name}', *options]
    )
    return logged_losses(folder)


def logged_losses(folder: Path) -> list[float]:
    """Read the loss of each iteration from a run's log."""
    (log,) = folder.glob('*/*.log')
    return [float(loss) for loss in re.findall(r' loss: ([\d.]+)', log.read_text())]


@pytest.mark.slow
def test_compiled_classifier_trains_to_the_same_losses(tool) -> None:
    config = short_config(CLASSIFIER)

    want, got = losses(tool, config), losses(tool, config, 'compile.backend=aot_eager')

    assert len(want) == 2
    assert got == pytest.approx(want, abs=2e-4)  # logs have four digits


@pytest.mark.slow
def test_compiled_mask_rcnn_trains_to_the_same_losses(tool) -> None:
    pytest.importorskip('mmdet')
    write_shapes(Path('data/shapes'), {'train': 2, 'val': 1}, seed=0)
    data = dict(batch_size=2, num_workers=0, persistent_workers=False)
    config = short_config(
        DEMO / 'mask_rcnn_localvmamba_micro_shapes.py',
        train_dataloader=data,
        train_cfg=dict(_delete_=True, type='IterBasedTrainLoop', max_iters=1),
    )

    want, got = losses(tool, config), losses(tool, config, 'compile.backend=eager')

    assert len(want) == 1
    assert got == pytest.approx(want, rel=1e-3)


@pytest.mark.slow
def test_backbone_is_compiled_alone() -> None:
    cfg = Config.fromfile(short_config(CLASSIFIER))
    cfg.work_dir = 'alone'

    runner = Runner.from_cfg(cfg)
    runner.model.backbone.compile(dynamic=True, backend='aot_eager')
    runner.train()

    assert len(logged_losses(Path('alone'))) == 2
