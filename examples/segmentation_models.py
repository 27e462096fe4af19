"""A U-Net of segmentation_models.pytorch on a LocalVMamba: ``pip install segmentation-models-pytorch``.

``smp.Unet('tu-NAME')`` builds the encoder that timm knows by that name.
"""

import segmentation_models_pytorch as smp
import torch
import torch.nn.functional as F

import mmlocalmamba.timm  # noqa: F401  registers the models with timm


def main(encoder: str = 'local_vmamba_tiny', side: int = 128, steps: int = 3) -> list[float]:
    """Train a few steps to tell a bright square from its surroundings; returns the losses."""
    torch.manual_seed(0)
    model = smp.Unet(f'tu-{encoder}', encoder_weights=None, encoder_depth=5, in_channels=4, classes=2)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    images, masks = torch.rand(2, 4, side, side), torch.zeros(2, side, side, dtype=torch.long)
    masks[:, side // 4 : side // 2, side // 4 : side // 2] = 1
    images = images + masks[:, None]
    losses = []
    for _ in range(steps):
        loss = F.cross_entropy(model(images), masks)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


if __name__ == '__main__':
    print(main())
