"""Checks that a backbone which skips padding can tell it from image."""

from __future__ import annotations

from mmengine.config import Config

_KEYS = ('pad_value', 'pad_val')
"""What MMEngine's and MMDetection's preprocessors call the value that they pad with, and what MMSegmentation's do."""


def check_padding_value(cfg: Config) -> None:
    """Check that a config pads with zeros, if its backbone skips padding: it takes nothing else for padding.

    Raises:
        ValueError: If images are padded with another value. The message names the key.
    """
    model = cfg.get('model', {})
    preprocessor = model.get('data_preprocessor') or cfg.get('data_preprocessor') or {}
    if (model.get('backbone') or {}).get('padding') != 'skip':
        return
    for key in _KEYS:
        if preprocessor.get(key, 0) != 0:
            raise ValueError(
                f"model.backbone.padding is 'skip', which leaves out zeros, but model.data_preprocessor.{key} is "
                f"{preprocessor[key]}: set it to 0, or model.backbone.padding='scan'"
            )
