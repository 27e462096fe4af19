"""Do the windows of a sliding test cover the image?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from mmengine.config import Config

from .findings import Finding
from .settings import model_of


def sliding_windows(cfg: Config) -> Iterator[Finding]:
    """Compare ``stride`` with ``crop_size`` where ``test_cfg.mode`` is ``'slide'``: a longer stride leaves gaps."""
    test_cfg = model_of(cfg).get('test_cfg')
    if not isinstance(test_cfg, Mapping) or test_cfg.get('mode') != 'slide':
        return
    missing = [key for key in ('crop_size', 'stride') if not isinstance(test_cfg.get(key), (list, tuple))]
    if missing:
        yield Finding(
            "model.test_cfg.mode='slide' needs "
            + ' and '.join(f'model.test_cfg.{key}=(height, width)' for key in missing)
            + '.'
        )
        return
    crop, stride = tuple(test_cfg['crop_size']), tuple(test_cfg['stride'])
    if any(step > side for step, side in zip(stride, crop, strict=False)):
        yield Finding(
            f'model.test_cfg.stride={stride} is more than model.test_cfg.crop_size={crop}: sliding windows would leave '
            'gaps. Set the stride to the crop size or less; two thirds of it is usual.'
        )
