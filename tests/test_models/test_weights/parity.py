"""Small models whose weights are drawn by the published code's tensor names, and what is compared of them.

Nothing is stored of weights and inputs: every tensor is drawn by NumPy's legacy generator, whose stream is fixed for
good, from a seed that is a hash of its name. ``tests/data`` holds the results, which ``make_parity.py`` there makes.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmlocalmamba.models import ImageClassifier
from mmlocalmamba.registry import MODELS

DATA = Path(__file__).resolve().parents[2] / 'data'
STEPS, CLASSES = 4, 10
Shapes = dict[str, tuple[int, ...]]


class Case(NamedTuple):
    """A model, and the size of its images.

    Attributes:
        backbone: The backbone's config.
        norm: The head's norm.
        out_type: The backbone's output that the head takes, if there is a choice.
        size: Rows and columns of the images.
    """

    backbone: dict[str, Any]
    norm: str
    out_type: str | None
    size: tuple[int, int]

    @property
    def units(self) -> int:
        """How many maps there are."""
        arch = self.backbone['arch']
        return len(arch['dims']) if 'dims' in arch else arch['depth']


_VMAMBA = dict(
    type='mmlocalmamba.LocalVMamba',
    d_state=8,
    arch=dict(
        dims=[8, 16, 32],
        depths=[1, 1, 1],
        directions=[['h', 'v', 'w2_flip', 'w7'], ['h_flip', 'v_flip', 'w2', 'w7_flip'], ['h', 'h_flip', 'v', 'w2']],
    ),
)
_VIM = dict(
    type='mmlocalmamba.LocalVim',
    d_state=8,
    img_size=56,
    patch_size=8,
    arch=dict(embed_dim=16, depth=2, directions=[['h', 'v_flip', 'w7', 'w2_flip'], ['h_flip', 'v', 'w2', 'w7_flip']]),
)
CASES = {
    'local_vmamba_micro': Case(_VMAMBA, 'LN', None, (44, 36)),
    'local_vim_micro': Case(_VIM, 'RMSNorm', 'residual', (56, 56)),
    'local_vim_micro_resized': Case(_VIM, 'RMSNorm', 'residual', (72, 40)),
    'local_vim_micro_middle_cls': Case(dict(_VIM, rope=False, middle_cls_token=True), 'RMSNorm', 'cls_token', (56, 56)),
}


def draw(name: str, shape: Sequence[int]) -> Tensor:
    """Draw the float32 tensor of a name: numbers of mean 0 and variance 1."""
    generator = np.random.RandomState(zlib.crc32(name.encode()))
    return torch.from_numpy(generator.standard_normal(shape).astype(np.float32))


def draw_weight(name: str, shape: Sequence[int]) -> Tensor:
    """Draw a published tensor at a scale that is sane for its kind."""
    value = draw(name, shape)
    if 'A_log' in name:
        return torch.arange(1, shape[-1] + 1).log() + 0.2 * value
    if name.endswith('Ds') or '.D_' in name or ('norm' in name and name.endswith('weight')):
        return 1 + 0.2 * value
    if name.endswith('dt_projs_bias') or ('.dt_proj_' in name and name.endswith('bias')):
        return 1.5 * value - 4  # steps around softplus(-4) = 0.018
    if name.endswith('bias') or name in ('pos_embed', 'cls_token'):
        return 0.2 * value
    fan_in = shape[-1] if len(shape) < 4 else shape[1] * shape[2] * shape[3]
    return value * fan_in**-0.5


def draw_published(shapes: Shapes) -> dict[str, Tensor]:
    """Draw a state dict in published naming; LocalVim's rotary tables are left out, as they are computed."""
    return {name: draw_weight(name, shape) for name, shape in shapes.items() if not name.startswith('rope.')}


def published_shapes(backbone: dict[str, Any], classes: int = CLASSES) -> Shapes:
    """List the tensors of a model of the published code, with its head."""
    arch, d_state = backbone['arch'], backbone.get('d_state', 16)
    if 'dims' in arch:
        return _vmamba_shapes(arch, d_state, classes)
    dim, patch, middle = arch['embed_dim'], backbone['patch_size'], backbone.get('middle_cls_token', False)
    positions = (backbone['img_size'] // patch) ** 2
    shapes: Shapes = {'pos_embed': (1, positions + middle, dim)}
    if middle:
        shapes['cls_token'] = (1, 1, dim)
    else:
        shapes |= {'rope.freqs_cos': (positions, dim), 'rope.freqs_sin': (positions, dim)}
    shapes |= _affine('patch_embed.proj', (dim, 3, patch, patch))
    for i, directions in enumerate(arch['directions']):
        shapes |= _vim_block(f'layers.{i}.', dim, len(directions), d_state)
    return shapes | {'norm_f.weight': (dim,)} | _affine('head', (classes, dim))


def _vmamba_shapes(arch: dict[str, Any], d_state: int, classes: int) -> Shapes:
    dims, blocks = arch['dims'], iter(arch['directions'])
    shapes = _affine('patch_embed.0', (dims[0], 3, 4, 4)) | _affine('patch_embed.2', (dims[0],))
    for i, (dim, depth) in enumerate(zip(dims, arch['depths'], strict=True)):
        for j in range(depth):
            shapes |= _vmamba_block(f'layers.{i}.blocks.{j}.', dim, len(next(blocks)), d_state)
        if i < len(dims) - 1:
            shapes |= {f'layers.{i}.downsample.reduction.weight': (dims[i + 1], 4 * dim)}
            shapes |= _affine(f'layers.{i}.downsample.norm', (4 * dim,))
    return shapes | _affine('classifier.norm', (dims[-1],)) | _affine('classifier.head', (classes, dims[-1]))


def _vmamba_block(stem: str, dim: int, num: int, d_state: int) -> Shapes:
    inner, rank, op = 2 * dim, -(-dim // 16), stem + 'op.'
    shapes = (
        _affine(stem + 'norm', (dim,)) | _affine(op + 'out_norm', (inner,)) | _scattn(op + 'multi_scan.attn.', inner)
    )
    shapes |= {op + 'in_proj.weight': (2 * inner, dim), op + 'out_proj.weight': (dim, inner)}
    shapes |= _affine(op + 'conv2d', (inner, 1, 3, 3))
    shapes |= {op + 'x_proj_weight': (num, rank + 2 * d_state, inner)}
    shapes |= {op + 'dt_projs_weight': (num, inner, rank), op + 'dt_projs_bias': (num, inner)}
    return shapes | {op + 'A_logs': (num * inner, d_state), op + 'Ds': (num * inner,)}


def _vim_block(stem: str, dim: int, num: int, d_state: int) -> Shapes:
    inner, rank, mixer = 2 * dim, -(-dim // 16), stem + 'mixer.'
    shapes = {stem + 'norm.weight': (dim,), **_scattn(mixer + 'attn.', inner)}
    shapes |= {mixer + 'in_proj.weight': (2 * inner, dim), mixer + 'out_proj.weight': (dim, inner)}
    for k in range(num):
        shapes |= {mixer + f'A_log_{k}': (inner, d_state), mixer + f'D_{k}': (inner,)}
        shapes |= {mixer + f'x_proj_{k}.weight': (rank + 2 * d_state, inner)}
        shapes |= _affine(mixer + f'conv1d_{k}', (inner, 1, 4)) | _affine(mixer + f'dt_proj_{k}', (inner, rank))
    return shapes


def _scattn(stem: str, inner: int) -> Shapes:
    shapes = _affine(stem + 'norm', (inner,)) | _affine(stem + 'global_reduce', (inner // 8, inner))
    return shapes | _affine(stem + 'channel_select', (inner, inner // 8))


def _affine(layer: str, shape: tuple[int, ...]) -> Shapes:
    """Give a layer's weight, and a bias of the length of its first axis."""
    return {f'{layer}.weight': shape, f'{layer}.bias': shape[:1]}


def build_classifier(
    backbone: dict[str, Any], norm: str, out_type: str | None, state: dict[str, Tensor]
) -> ImageClassifier:
    """Build a classifier in evaluation mode with a published state dict, which has its head."""
    classes, width = state['head.weight' if 'head.weight' in state else 'classifier.head.weight'].shape
    choice = {} if out_type is None else dict(out_type=out_type)
    head = dict(type='mmlocalmamba.ClassificationHead', in_channels=width, num_classes=classes, norm=norm)
    model = ImageClassifier(dict(backbone, out_indices=(-1,), out_norm=False, **choice), head)
    model.load_state_dict(state)
    return model.eval()


def train(model: nn.Module, batches: Sequence[tuple[Tensor, Tensor]]) -> tuple[list[float], dict[str, Tensor]]:
    """Train with AdamW (learning rate 1e-3, weight decay 0.05), one step per batch of images and labels.

    Returns:
        The losses, and the gradients of all parameters in the first step.
    """
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.05)
    losses, grads = [], {}
    for images, labels in batches:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(images), labels)
        loss.backward()
        if not grads:
            grads = {name: parameter.grad.clone() for name, parameter in model.named_parameters()}
        optimizer.step()
        losses.append(loss.item())
    return losses, grads


def results(case: Case, state: dict[str, Tensor], dtype: torch.dtype) -> dict[str, Tensor]:
    """Compute what is compared: features, logits, losses of a few steps, and gradients of every parameter."""
    images = draw('images', (STEPS, 2, 3, *case.size)).to(dtype)
    labels = torch.arange(2 * STEPS).view(STEPS, 2) * 7 % CLASSES
    backbone = MODELS.build(dict(case.backbone, out_indices=tuple(range(case.units))))
    backbone.load_state_dict(state)
    backbone = backbone.to(dtype).eval()
    model = build_classifier(case.backbone, case.norm, case.out_type, state).to(dtype)
    with torch.no_grad():
        found = {f'feature/{i}': feature for i, feature in enumerate(backbone(images[0]))}
        found['logits'] = model(images[0])
    losses, grads = train(model, list(zip(images, labels, strict=True)))
    return found | {'losses': torch.tensor(losses)} | {f'grad/{name}': grad for name, grad in grads.items()}
