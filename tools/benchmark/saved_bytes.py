"""Count what the forward of each backbone keeps for the backward, for one image; no number is computed.

python tools/benchmark/saved_bytes.py                        on the GPU's path, of 512 x 512 pixels
python tools/benchmark/saved_bytes.py --backend cpu          on the path of the C++ library
python tools/benchmark/saved_bytes.py --dtype bfloat16       under autocast
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.func import functional_call
from torch.utils._pytree import tree_leaves, tree_map_only

from mmlocalmamba.analysis.text_table import align

MODELS = ('LocalVMamba-T', 'Swin-T', 'LocalVim-T', 'DeiT-T')


def saved_bytes(model: nn.Module, *inputs: Any, autocast: torch.dtype | None = None) -> int:
    """Run a model's forward on tensors without data, and count the bytes that autograd keeps.

    Every storage counts once and as a whole, as it does for the allocator. The model's parameters and buffers do not
    count, nor do its inputs.

    Args:
        model: The model, in training mode or not.
        inputs: What to call it with; tensors, also in tuples, give their shapes and dtypes.
        autocast: Type to run the forward in. Default: as the tensors are.
    """
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    own = [*model.named_parameters(), *model.named_buffers()]
    state: dict[str, Tensor] = {name: mode.from_tensor(tensor) for name, tensor in own}
    fake = tree_map_only(Tensor, mode.from_tensor, inputs)
    kept: dict[int, torch.UntypedStorage] = {}

    def keep(x: Tensor) -> Tensor:
        kept[x.untyped_storage()._cdata] = x.untyped_storage()
        return x

    context = nullcontext() if autocast is None else torch.autocast('cpu', autocast)
    with mode, context, torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
        outputs = functional_call(model, state, fake)
    del outputs
    for x in filter(torch.is_tensor, tree_leaves((state, fake))):
        kept.pop(x.untyped_storage()._cdata, None)
    return sum(storage.nbytes() for storage in kept.values())


def builders(side: int) -> dict[str, Callable[[], nn.Module]]:
    """Say how to build each of :data:`MODELS`: backbones as detectors use them, for a side in pixels."""
    from compared_models import Setup, deit, local_vmamba, swin
    from mmlocalmamba.models import LocalVim

    setup = Setup()
    return {
        'LocalVMamba-T': lambda: local_vmamba(setup, maps=True),
        'Swin-T': lambda: swin(setup, side, maps=True),
        'LocalVim-T': lambda: LocalVim('tiny', img_size=side, out_indices=(-1,)),
        'DeiT-T': lambda: deit(setup, side),
    }


def parse_args(arguments: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description='Count what the forward of each backbone keeps for the backward.')
    parser.add_argument('--side', type=int, default=512, help='of the image, in pixels (default: 512)')
    parser.add_argument('--backend', choices=('triton', 'cpu'), default='triton', help='default: triton')
    parser.add_argument('--dtype', choices=('float32', 'bfloat16'), default='float32', help='bfloat16: under autocast')
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> None:
    """Count and print a table."""
    args = parse_args(arguments)
    # Tensors without data get as far as the choice of a back end, which the interpreter takes anywhere.
    os.environ.update(MMLOCALMAMBA_BACKEND=args.backend, TRITON_INTERPRET='1')
    autocast = None if args.dtype == 'float32' else torch.bfloat16
    found = {}
    for name, build in builders(args.side).items():
        image = torch.zeros(1, 3, args.side, args.side)
        found[name] = saved_bytes(build(), image, autocast=autocast) / 2**20
    rows = [
        {'backbone': name, 'MiB': found[name], 'of the other': found[name] / found[other]}
        for name, other in zip(MODELS, ('Swin-T', 'LocalVMamba-T', 'DeiT-T', 'LocalVim-T'), strict=True)
    ]
    print(f'kept for the backward of one {args.side} x {args.side} image: {args.backend}, {args.dtype}')
    print(align(rows))


if __name__ == '__main__':
    main()
