"""The parts of the measurement of a GPU. Each is a generator of rows, so that it can be stopped after any of them."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from gpu_problems import Size, draw, largest_error, passes
from mmlocalmamba.models import ClassificationHead, LocalVim, LocalVMamba
from mmlocalmamba.ops import available_backends, backend_for, tuning
from mmlocalmamba.ops.backends import load_backend
from mmlocalmamba.ops.backends.self_check import self_check
from rates import Rates

Row = dict[str, Any]

TOLERANCES = {torch.float32: 1e-4, torch.bfloat16: 3e-2, torch.float16: 4e-3}
"""Largest errors allowed in checks, relative to the largest value."""


@dataclass(frozen=True)
class Plan:
    """What is measured.

    Attributes:
        device: Where.
        dry: Whether everything is tiny, to see that it runs.
        rates: What the GPU can do per second; None where its data sheet is not known.
        missing: Packages that are not installed.
    """

    device: str
    dry: bool
    rates: Rates | None = None
    missing: tuple[str, ...] = ()

    @property
    def precisions(self) -> tuple[str, ...]:
        """Precisions of models, the most important first."""
        return ('bf16', 'fp32') if self.dry else ('bf16', 'tf32', 'fp32', 'fp16')

    @property
    def side(self) -> int:
        """Side of classified images in pixels."""
        return 32 if self.dry else 224


@contextmanager
def precision(name: str, device: str) -> Iterator[None]:
    """Compute in ``'fp32'``, ``'tf32'`` (matrix products alone), or under autocast to ``'bf16'`` or ``'fp16'``."""
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = name != 'fp32'
    dtype = torch.float16 if name == 'fp16' else torch.bfloat16
    try:
        with torch.autocast(device, dtype, enabled=name in ('bf16', 'fp16')):
            yield
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


def milliseconds(run: Callable[[], Any], device: str, at_least: float) -> float:
    """Time a function: the median of its runs, of which there are three or more and as many as fit ``at_least`` s."""
    synchronize = torch.cuda.synchronize if device == 'cuda' else (lambda: None)
    for _ in range(2):
        run()
    times: list[float] = []
    while len(times) < 3 or sum(times) < at_least:
        synchronize()
        start = time.perf_counter()
        run()
        synchronize()
        times.append(time.perf_counter() - start)
    return 1e3 * statistics.median(times)


def checks(plan: Plan) -> Iterator[Row]:
    """Check every back end of the scan, and every operation at sizes of the models, against float64."""
    for name, reason in available_backends(plan.device).items():
        if reason is None:
            reason = self_check(load_backend(name), torch.device(plan.device)) or 'agrees with the reference'
        yield {'checked': f'scan by {name}', 'size': '', 'dtype': '', 'error': None, 'outcome': reason}
    size = Size(1, 3, 4, 8) if plan.dry else Size(2, 28, 29, 96)
    for dtype, allowed in TOLERANCES.items():
        for name, problem in draw(size, dtype).items():
            error = largest_error(problem, plan.device)
            outcome = 'agrees' if error <= allowed else f'WRONG: more than {allowed:g}'
            kind = str(dtype).removeprefix('torch.')
            yield {'checked': name, 'size': str(size), 'dtype': kind, 'error': error, 'outcome': outcome}


def tune(plan: Plan) -> Iterator[Row]:
    """Let every kernel be tuned at the sizes that are measured later."""
    for batch in (1,) if plan.dry else (128, 32, 1):
        for name in ('LocalVMamba-T', 'LocalVim-T'):
            before = time.perf_counter()
            model = build(name, plan, (plan.side, plan.side))
            with precision('bf16', plan.device):
                training_step(model, images(plan, batch, plan.side, plan.side))()
            yield {'tuned for': f'{name}, batch {batch}', 'seconds': time.perf_counter() - before}
    yield {'tuned for': f'all of it, of which timing and compiling took {tuning.spent():.1f} s', 'seconds': None}


def operations(plan: Plan) -> Iterator[Row]:
    """Time every operation beside what its bytes and exponentials need at least; the scan by every fast back end."""
    sizes = [Size(1, 3, 4, 8)] if plan.dry else [Size(32, 56, 56, 192), Size(32, 14, 14, 768), Size(2, 200, 336, 192)]
    usable = available_backends(plan.device)
    fast = [name for name in ('triton', 'cuda') if usable[name] is None]
    backends: list[str | None] = [*fast] if fast else [None]
    for size in sizes:
        for dtype in (torch.bfloat16, torch.float32):
            for backend in backends:
                for name, problem in draw(size, dtype, backend).items():
                    if backend not in (None, backends[0]) and name != 'selective_scan':
                        continue
                    forward, backward, *moved = passes(problem, plan.device)
                    row = {'operation': name, 'back end': backend or backend_for(plan.device), 'size': str(size)}
                    for phase, run, count in zip(('forward', 'backward'), (forward, backward), moved, strict=True):
                        found = milliseconds(run, plan.device, 0.0 if plan.dry else 0.1)
                        bound = None
                        if plan.rates is not None:
                            bound = max(plan.rates.bounds(problem.exponentials, count).values())
                        kind = str(dtype).removeprefix('torch.')
                        ratio = None if bound is None else found / bound
                        yield row | {'dtype': kind, 'pass': phase, 'ms': found, 'bound ms': bound, 'ms / bound': ratio}


OURS: dict[str, tuple[type[LocalVMamba] | type[LocalVim], str]] = {
    'LocalVMamba-T': (LocalVMamba, 'tiny'),
    'LocalVMamba-S': (LocalVMamba, 'small'),
    'LocalVim-T': (LocalVim, 'tiny'),
    'LocalVim-S': (LocalVim, 'small'),
}
TIMM = {
    'Swin-T': 'swin_tiny_patch4_window7_224',
    'DeiT-T': 'deit_tiny_patch16_224',
    'ConvNeXt-T': 'convnext_tiny',
    'ResNet-50': 'resnet50',
}

_ONES = (1, 1, 1, 1)
_DRY: dict[str, dict[str, Any]] = {
    'Swin-T': dict(embed_dim=16, depths=_ONES, num_heads=_ONES, window_size=1),
    'DeiT-T': dict(depth=1),
    'ConvNeXt-T': dict(depths=_ONES, dims=(8, 8, 8, 8)),
    'ResNet-50': dict(layers=_ONES),
}
"""What makes timm's models tiny."""


def build(name: str, plan: Plan, size: tuple[int, int], maps: bool = False) -> nn.Module:
    """Build a model by its name: a classifier, or with ``maps`` a backbone for dense tasks."""
    if name in TIMM:
        return _timm_model(name, plan, size, maps)
    cls, arch = OURS[name]
    arch = 'micro' if plan.dry else arch
    if cls is LocalVMamba:
        if maps:
            return LocalVMamba(arch).to(plan.device)
        vmamba = LocalVMamba(arch, out_indices=(3,), out_norm=False)
        return nn.Sequential(vmamba, ClassificationHead(vmamba.dims[-1])).to(plan.device)
    if maps:
        return LocalVim(arch, img_size=min(size), out_indices=(-1,)).to(plan.device)
    vim = LocalVim(arch, img_size=min(size), out_indices=(-1,), out_type='residual', out_norm=False)
    head = ClassificationHead(vim.pos_embed.shape[-1], norm='RMSNorm')
    return nn.Sequential(vim, head).to(plan.device)


def _timm_model(name: str, plan: Plan, size: tuple[int, int], maps: bool) -> nn.Module:
    import timm

    options: dict[str, Any] = {}
    if name in ('Swin-T', 'DeiT-T'):
        options['img_size'] = size
        if name == 'Swin-T':
            options['strict_img_size'] = False
    if maps and name == 'DeiT-T':
        options |= dict(num_classes=0, global_pool='')
    elif maps:
        options['features_only'] = True
    if plan.dry:
        options |= _DRY[name]
    return timm.create_model(TIMM[name], **options).to(plan.device)


def images(plan: Plan, batch: int, height: int, width: int) -> torch.Tensor:
    """Draw images."""
    return torch.randn(batch, 3, height, width, device=plan.device)


def training_step(model: nn.Module, image: torch.Tensor) -> Callable[[], None]:
    """Return a function that runs forward and backward, from random gradients of the outputs."""
    model.train()
    grads: list[torch.Tensor] = []

    def run() -> None:
        model.zero_grad(set_to_none=True)
        outputs = model(image)
        outputs = [outputs] if isinstance(outputs, torch.Tensor) else list(outputs)
        if not grads:
            grads.extend(torch.randn_like(x) for x in outputs)
        torch.autograd.backward(outputs, grads)

    return run


def inference(plan: Plan) -> Iterator[Row]:
    """Measure the throughput of classifiers in inference."""
    for batch in (1, 2) if plan.dry else (128, 32, 1):
        for name in [*OURS, *TIMM]:
            yield from _model_rows(plan, name, batch, (plan.side, plan.side), training=False)


def training(plan: Plan) -> Iterator[Row]:
    """Measure the throughput of classifiers in training: forward and backward, without an optimizer."""
    for batch in (2,) if plan.dry else (128, 32, 1):
        for name in [*OURS, *TIMM]:
            yield from _model_rows(plan, name, batch, (plan.side, plan.side), training=True)


def dense(plan: Plan) -> Iterator[Row]:
    """Measure training steps of backbones at the sizes of segmentation and detection."""
    for batch, size in ((1, (32, 64)),) if plan.dry else ((16, (512, 512)), (2, (800, 1280))):
        for name in [*OURS, *TIMM]:
            yield from _model_rows(plan, name, batch, size, training=True, maps=True)


def _model_rows(
    plan: Plan, name: str, batch: int, size: tuple[int, int], training: bool, maps: bool = False
) -> Iterator[Row]:
    height, width = size
    base: Row = {'model': name, 'batch': batch, 'size': f'{height} x {width}'}
    empty = dict.fromkeys(('precision', 'ms', 'images/s', 'peak MiB'))
    if name in TIMM and 'timm' in plan.missing:
        yield base | empty | {'note': 'skipped: timm is not installed'}
        return
    for kind in plan.precisions:
        row = base | empty | {'precision': kind, 'note': ''}
        try:
            yield row | _measure(plan, name, batch, size, kind, training, maps)
        except Exception as error:  # out of memory, mostly: the other rows are measured all the same
            yield row | {'note': f'failed: {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ""}'}
        if plan.device == 'cuda':
            torch.cuda.empty_cache()


def _measure(
    plan: Plan, name: str, batch: int, size: tuple[int, int], kind: str, training: bool, maps: bool
) -> dict[str, float | None]:
    on_gpu = plan.device == 'cuda'
    if on_gpu:
        torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated() if on_gpu else 0
    model = build(name, plan, size, maps)
    image = images(plan, batch, *size)
    with precision(kind, plan.device):
        if training:
            run: Callable[[], Any] = training_step(model, image)
        else:
            model.eval()
            run = torch.inference_mode()(lambda: model(image))
        found = milliseconds(run, plan.device, 0.0 if plan.dry else 0.3)
    peak = (torch.cuda.max_memory_allocated() - before) / 2**20 if on_gpu else None
    return {'ms': found, 'images/s': 1e3 * batch / found, 'peak MiB': peak}
