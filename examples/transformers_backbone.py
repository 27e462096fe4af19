"""A LocalVMamba as the backbone of a model of transformers: ``pip install transformers``.

``TimmBackbone`` wraps what timm builds. A configuration that takes a ``backbone_config``, such as Mask2Former's, takes
this one too.
"""

import torch
from transformers import Mask2FormerConfig, Mask2FormerForUniversalSegmentation, TimmBackboneConfig

import mmlocalmamba.timm  # noqa: F401  registers the models with timm


def main(backbone: str = 'local_vmamba_tiny', side: int = 128) -> tuple[int, ...]:
    """Run a small Mask2Former; returns the shape of its masks, (images, queries, height, width)."""
    torch.manual_seed(0)
    config = Mask2FormerConfig(
        backbone_config=TimmBackboneConfig(backbone=backbone, out_indices=[0, 1, 2, 3], use_pretrained_backbone=False),
        num_labels=3,
        num_queries=10,
        feature_size=32,
        mask_feature_size=32,
        hidden_dim=32,
        encoder_layers=1,
        decoder_layers=2,
        dim_feedforward=64,
        encoder_feedforward_dim=64,
        num_attention_heads=2,
    )
    model = Mask2FormerForUniversalSegmentation(config).eval()
    with torch.no_grad():
        output = model(torch.rand(1, 3, side, side))
    return tuple(output.masks_queries_logits.shape)


if __name__ == '__main__':
    print(main())
