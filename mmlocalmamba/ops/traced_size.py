"""Letting a traced model refuse images of another size than it was traced at.

``torch.jit.trace`` records what one image makes a model do. Scan orders, padding and position tables depend on the size
of the image, so the recording is wrong at another one, and where the number of tokens is the same it would run.
"""

import torch
from torch import Tensor


# PyTorch 2.4 takes the types of a custom op as they are: this file must not postpone their evaluation.
@torch.library.custom_op('mmlocalmamba::of_traced_size', mutates_args=())
def _of_traced_size(image: Tensor, height: int, width: int) -> Tensor:
    if image.shape[-2:] != (height, width):
        raise ValueError(
            f'this model was traced at {height} x {width} pixels, and the image is {image.shape[-2]} x '
            f'{image.shape[-1]}: trace it at that size, or use torch.export, which takes any size '
            '(tools/export.py --format torch)'
        )
    return image.clone()


@_of_traced_size.register_fake
def _(image: Tensor, height: int, width: int) -> Tensor:
    return torch.empty_like(image)


def _pass_on(ctx: object, grad: Tensor) -> tuple[Tensor, None, None]:
    return grad, None, None


_of_traced_size.register_autograd(_pass_on)


def of_traced_size(image: Tensor) -> Tensor:
    """Give the image (..., H, W); while a model is traced, record that later images must have its height and width.

    Any batch size may follow. Outside of ``torch.jit.trace`` this does nothing.
    """
    if not torch.jit.is_tracing():
        return image
    return _of_traced_size(image, int(image.shape[-2]), int(image.shape[-1]))
