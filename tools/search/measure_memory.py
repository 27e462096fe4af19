"""Measure what one training step of a direction search takes: all branches of a block computed, or a few drawn.

    python tools/search/measure_memory.py [--backbone LocalVim] [--candidates 8 32 128] [--draw all 1 2 4] [--out FILE]

The supernets have the widths and depths of configs/search. What counts is the peak over the second step of AdamW: on a
GPU of what PyTorch has allocated, on the CPU of what its tensors hold.
"""

import mmlocalmamba  # isort: skip  # before any mm package: puts the stand-in for mmcv._ext in place

import argparse
import gc
import json
import time
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from mmlocalmamba.directions import CANDIDATES
from mmlocalmamba.models import LocalVim, LocalVMamba
from mmlocalmamba.search import set_num_sampled

VIM_DIM, VIM_DEPTH = 128, 20
VMAMBA_DIMS, VMAMBA_DEPTHS = (32, 64, 128, 256), (2, 2, 9, 2)
MIB = 2**20


class Setting(NamedTuple):
    """What one row measures.

    Attributes:
        backbone: ``'LocalVMamba'`` or ``'LocalVim'``.
        candidates: Candidate directions per block.
        drawn: Branches computed per block and step; None for all.
        size: Side of the images in pixels.
        batch: Images per step.
        blocks: Number of LocalVim's blocks; LocalVMamba always has 15.
        device: ``'cpu'`` or ``'cuda'``.
    """

    backbone: str
    candidates: int
    drawn: int | None
    size: int
    batch: int
    blocks: int
    device: str


class Measurement(NamedTuple):
    """What a row found.

    Attributes:
        weights: Bytes of the weights and of AdamW's moments, which are there between steps.
        step: Bytes that the step adds at its peak: activations and gradients.
        seconds: Time of the step.
    """

    weights: int
    step: int
    seconds: float


class TensorMemory(TorchDispatchMode):
    """Counts the bytes that tensors hold while it is entered; each storage counts once, until it is freed.

    Args:
        tensors: Those that exist before.
    """

    def __init__(self, tensors: Sequence[Tensor]) -> None:
        super().__init__()
        self.current = self.peak = 0
        self._sizes: dict[int, int] = {}
        for tensor in tensors:
            self._add(tensor)

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run an operator and count what it returns."""
        outputs = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(outputs):
            if isinstance(tensor, Tensor):
                self._add(tensor)
        return outputs

    def _add(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key not in self._sizes:
            self._sizes[key] = storage.nbytes()
            self.current += storage.nbytes()
            self.peak = max(self.peak, self.current)
            weakref.finalize(storage, self._remove, key)

    def _remove(self, key: int) -> None:
        self.current -= self._sizes.pop(key)


def candidate_names(count: int) -> list[str]:
    """Name candidates: the paper's eight; otherwise h, v and windows of 2, 3, 4, ... with their flips.

    Raises:
        ValueError: If ``count`` is no even number from 4.
    """
    if count < 4 or count % 2:
        raise ValueError(f'{count} candidates cannot be made of h, v and windows with their flips: want 4, 6, 8, ...')
    if count == len(CANDIDATES):
        return list(CANDIDATES)
    paths = ['h', 'v', *(f'w{window}' for window in range(2, count // 2))]
    return [f'{path}{flip}' for path in paths for flip in ('', '_flip')]


def build(setting: Setting) -> nn.Module:
    """Build the supernet of a setting."""
    names = candidate_names(setting.candidates)
    model: LocalVim | LocalVMamba
    if setting.backbone == 'LocalVim':
        arch = dict(embed_dim=VIM_DIM, depth=setting.blocks, directions=[names] * setting.blocks)
        model = LocalVim(arch=arch, img_size=setting.size, out_indices=(-1,), search=True)
    else:
        arch = dict(dims=VMAMBA_DIMS, depths=VMAMBA_DEPTHS, directions=[names] * sum(VMAMBA_DEPTHS))
        model = LocalVMamba(arch=arch, out_indices=(-1,), search=True)
    set_num_sampled(model, setting.drawn)
    return model.to(setting.device)


def step(model: nn.Module, optimizer: torch.optim.Optimizer, setting: Setting) -> None:
    """Take one training step on random images."""
    images = torch.randn(setting.batch, 3, setting.size, setting.size, device=setting.device)
    model(images)[-1].square().mean().backward()
    optimizer.step()
    optimizer.zero_grad()


def measure(setting: Setting) -> Measurement:
    """Measure one setting."""
    gc.collect()
    torch.manual_seed(0)  # which branches are drawn decides what LocalVim pads them to
    model = build(setting)
    optimizer = torch.optim.AdamW(model.parameters())
    step(model, optimizer, setting)  # makes AdamW's moments
    kept = [*model.parameters(), *_moments(optimizer)]
    weights = sum(tensor.nbytes for tensor in kept)
    start = time.perf_counter()
    if setting.device == 'cuda':
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        step(model, optimizer, setting)
        torch.cuda.synchronize()
        added = torch.cuda.max_memory_allocated() - before
    else:
        with TensorMemory(kept) as memory:
            before = memory.current
            step(model, optimizer, setting)
        added = memory.peak - before
    return Measurement(weights, added, time.perf_counter() - start)


def _moments(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    return [value for state in optimizer.state.values() for value in state.values() if isinstance(value, Tensor)]


def format_row(setting: Setting, found: Measurement) -> str:
    """Write a row of the table; sizes in MiB."""
    computed = 'all' if setting.drawn is None else str(setting.drawn)
    sizes = (found.weights, found.step, found.weights + found.step)
    cells = '  '.join(f'{size / MIB:11.0f}' for size in sizes)
    return f'{setting.candidates:10d}  {computed:>8}  {cells}  {found.seconds:8.1f}'


HEADER = f'{"candidates":>10}  {"computed":>8}  {"weights":>11}  {"step":>11}  {"total":>11}  {"s / step":>8}'


def parse_args(arguments: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=f'Memory of a direction search (mmlocalmamba {mmlocalmamba.__version__})'
    )
    parser.add_argument(
        '--backbone', choices=['LocalVMamba', 'LocalVim'], default='LocalVMamba', help='default: LocalVMamba'
    )
    parser.add_argument('--candidates', type=int, nargs='+', default=[8, 32, 128], help='per block (default: 8 32 128)')
    parser.add_argument(
        '--draw', nargs='+', default=['all', '1', '2', '4'], help='branches computed per step (default: all 1 2 4)'
    )
    parser.add_argument('--size', type=int, default=256, help='side of the images in pixels (default: 256)')
    parser.add_argument('--batch', type=int, default=1, help='images per step (default: 1)')
    parser.add_argument('--blocks', type=int, default=VIM_DEPTH, help="LocalVim's blocks (default: 20)")
    device = 'cuda' if torch.cuda.is_available() else 'cpu'
    parser.add_argument('--device', choices=['cpu', 'cuda'], default=device, help='default: cuda if there is a GPU')
    parser.add_argument('--out', metavar='FILE', help='also write the rows, in bytes, to this JSON file')
    args = parser.parse_args(arguments)
    if not all(draw == 'all' or draw.isdecimal() for draw in args.draw):
        parser.error(f"--draw wants numbers of branches and 'all', got {' '.join(args.draw)}")
    return args


def main(arguments: list[str] | None = None) -> None:
    """Measure every row, print the table, and save it."""
    args = parse_args(arguments)
    blocks = f'{args.blocks} blocks' if args.backbone == 'LocalVim' else f'{sum(VMAMBA_DEPTHS)} blocks'
    print(f'{args.backbone}, {blocks}, {args.batch} x {args.size} x {args.size} pixels, float32, {args.device}, in MiB')
    print("weights: with AdamW's moments; step: what it adds at its peak, activations and gradients; total: both")
    print(HEADER)
    rows = []
    for count in args.candidates:
        for draw in args.draw:
            drawn = None if draw == 'all' else int(draw)
            setting = Setting(args.backbone, count, drawn, args.size, args.batch, args.blocks, args.device)
            found = measure(setting)
            print(format_row(setting, found), flush=True)
            rows.append({**setting._asdict(), **found._asdict()})
    if args.out:
        Path(args.out).write_text(json.dumps(rows, indent=2) + '\n', encoding='utf-8')


if __name__ == '__main__':
    main()
