"""A backbone with a classification head, as a model of MMEngine."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from mmengine.model import BaseModel
from torch import Tensor

from mmlocalmamba.registry import MODELS

from ..weights.classifiers import classifier_from_published
from ..weights.files import find_state_dict


@MODELS.register_module()
class ImageClassifier(BaseModel):
    """Classify images.

    Args:
        backbone: Config of a backbone whose last output is not normalised (``out_norm=False``): the head does that.
        head: Config of a head.
        data_preprocessor: mmengine's.
        init_cfg: mmengine's.
    """

    def __init__(
        self,
        backbone: dict[str, Any],
        head: dict[str, Any],
        data_preprocessor: dict[str, Any] | None = None,
        init_cfg: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(data_preprocessor, init_cfg)
        self.backbone = MODELS.build(backbone)
        self.head = MODELS.build(head)

    def forward(self, inputs: Tensor, labels: Tensor | None = None, mode: str = 'tensor') -> Any:
        """Run the model in one of mmengine's modes.

        Args:
            inputs: Images (B, in_channels, H, W).
            labels: int64 (B,) classes, or float (B, num_classes) soft targets; needed by ``'loss'``.
            mode: ``'tensor'``: logits (B, num_classes); ``'loss'``: a dict with the cross-entropy; ``'predict'``: one
                dict per image with ``pred_scores`` (num_classes,) and, if known, ``gt_label``.

        Raises:
            ValueError: If the mode is unknown, or labels are missing.
        """
        logits = self.head(self.backbone(inputs))
        if mode == 'tensor':
            return logits
        if mode == 'loss':
            if labels is None:
                raise ValueError("mode='loss' needs labels")
            return dict(loss=F.cross_entropy(logits.float(), labels))
        if mode == 'predict':
            scores = logits.float().softmax(-1)
            truth = [None] * len(scores) if labels is None else labels
            return [dict(pred_scores=score, gt_label=label) for score, label in zip(scores, truth, strict=True)]
        raise ValueError(f"mode={mode!r} is unknown: choose 'tensor', 'loss' or 'predict'")

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *args: Any) -> None:
        """Take published files as they are, head included: ``load_from`` and ``tools/test.py`` end up here."""
        tensors = find_state_dict(state_dict)
        if tensors is not state_dict:  # a published file as it is
            state_dict.clear()
            state_dict.update({prefix + name: value for name, value in tensors.items()})
        given = {name.removeprefix(prefix): value for name, value in state_dict.items() if name.startswith(prefix)}
        for name in given:
            del state_dict[prefix + name]
        for name, value in classifier_from_published(self.backbone, given).items():
            state_dict[prefix + name] = value
        super()._load_from_state_dict(state_dict, prefix, *args)
