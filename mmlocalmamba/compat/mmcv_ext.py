"""Stand-in for mmcv's compiled operators (``mmcv._ext``) on torchvision: NMS and RoIAlign, all that R-CNNs need.

Multi-scale deformable attention is there too, on mmcv's own PyTorch version of it.

Python loads this file under the name ``mmcv._ext`` where no compiled one exists (:mod:`mmlocalmamba.compat.finder`);
``MMLOCALMAMBA_MMCV_EXT=0`` in the environment switches that off. The functions keep the signatures that ``mmcv/ops``
calls, in mmcv 2.1 and onedl-mmcv 2.3: results go into the output tensors they are given. Other operators are missing:
``hasattr`` says so, and using one raises (:mod:`mmlocalmamba.compat.mmcv_ops`).
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import sys
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torchvision.ops import nms as torchvision_nms
from torchvision.ops import roi_align as torchvision_roi_align

from mmlocalmamba.compat.mmcv_ops import HOW_TO_GET_FULL_MMCV, MissingOperatorError, is_loading, mark, missing

_AVERAGE = 1  # mmcv's code of pool_mode='avg'

_RANKS = ('RANK', 'SLURM_PROCID', 'OMPI_COMM_WORLD_RANK')
"""Variables that launchers tell a process its rank by, the first that is set counts."""


def _speaks_for_all() -> bool:
    """Tell whether this is the first process of its job: not another rank, and no worker of a data loader."""
    rank = next((os.environ[name] for name in _RANKS if name in os.environ), '0')
    return rank == '0' and multiprocessing.parent_process() is None


if _speaks_for_all():
    logging.getLogger('mmlocalmamba').warning(
        "mmcv's compiled operators (mmcv._ext) are not installed: torchvision's nms and roi_align stand in for them "
        '(MMLOCALMAMBA_MMCV_EXT=0 in the environment switches this off).'
    )


def nms(boxes: Tensor, scores: Tensor, iou_threshold: float, offset: int) -> Tensor:
    """Greedy non-maximum suppression.

    Args:
        boxes: (N, 4) x1, y1, x2, y2 in pixels.
        scores: (N,).
        iou_threshold: A box is dropped if its IoU with a better one is above this.
        offset: 0, or 1 for the old convention in which a box's width is x2 - x1 + 1.

    Returns:
        (M,) int64, indices of the kept boxes, best first.
    """
    if boxes.numel() == 0:
        return boxes.new_zeros(0, dtype=torch.long)
    if offset:
        boxes = torch.cat([boxes[:, :2], boxes[:, 2:] + offset], dim=1)
    boxes = _single(boxes)
    return torchvision_nms(boxes, scores.to(boxes.dtype), iou_threshold)


def roi_align_forward(
    input: Tensor,
    rois: Tensor,
    output: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """Average RoIAlign.

    Args:
        input: (B, C, H, W) feature map.
        rois: (R, 5) image index, x1, y1, x2, y2 in pixels of the image.
        output: (R, C, aligned_height, aligned_width), receives the result.
        argmax_y: Belongs to max pooling; not used.
        argmax_x: Belongs to max pooling; not used.
        aligned_height: Rows of the output.
        aligned_width: Columns of the output.
        spatial_scale: Pixels of the feature map per pixel of the image.
        sampling_ratio: Samples per bin and axis; 0 takes as many as the bin has pixels.
        pool_mode: 1 for the average.
        aligned: Whether pixels' centres lie half a pixel inside (True) or at whole numbers (the old convention).

    Raises:
        NotImplementedError: If ``pool_mode`` is 0 (max).
    """
    _check_pool_mode(pool_mode)
    size = (aligned_height, aligned_width)
    features = _single(input)
    output.copy_(torchvision_roi_align(features, rois.to(features), size, spatial_scale, sampling_ratio, aligned))


def roi_align_backward(
    grad_output: Tensor,
    rois: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    grad_input: Tensor,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """Gradient of :func:`roi_align_forward` with respect to its input, written into ``grad_input``.

    Args:
        grad_output: (R, C, aligned_height, aligned_width).
        rois: As given to the forward.
        argmax_y: Belongs to max pooling; not used.
        argmax_x: Belongs to max pooling; not used.
        grad_input: (B, C, H, W), receives the result.
        aligned_height: As given to the forward.
        aligned_width: As given to the forward.
        spatial_scale: As given to the forward.
        sampling_ratio: As given to the forward.
        pool_mode: As given to the forward.
        aligned: As given to the forward.

    Raises:
        NotImplementedError: If ``pool_mode`` is 0 (max).
    """
    _check_pool_mode(pool_mode)
    grad = _single(grad_output)
    grad_input.copy_(
        torch.ops.torchvision._roi_align_backward(
            grad,
            rois.to(grad),
            spatial_scale,
            aligned_height,
            aligned_width,
            *grad_input.shape,
            sampling_ratio,
            aligned,
        )
    )


def ms_deform_attn_forward(
    value: Tensor,
    spatial_shapes: Tensor,
    level_start_index: Tensor,
    sampling_locations: Tensor,
    attention_weights: Tensor,
    im2col_step: int,
) -> Tensor:
    """Multi-scale deformable attention (Deformable DETR, equation 3).

    Args:
        value: (B, S, heads, C), the features of all levels.
        spatial_shapes: (levels, 2) height and width of each level, whose products add up to S.
        level_start_index: (levels,) first feature of each level; it follows from the shapes.
        sampling_locations: (B, Q, heads, levels, points, 2) x, y in [0, 1].
        attention_weights: (B, Q, heads, levels, points).
        im2col_step: Images per step of the compiled operator; not used.

    Returns:
        (B, Q, heads * C).
    """
    from mmcv.ops import multi_scale_deform_attn

    return multi_scale_deform_attn.multi_scale_deformable_attn_pytorch(
        value, spatial_shapes, sampling_locations, attention_weights
    )


def ms_deform_attn_backward(
    value: Tensor,
    spatial_shapes: Tensor,
    level_start_index: Tensor,
    sampling_locations: Tensor,
    attention_weights: Tensor,
    grad_output: Tensor,
    grad_value: Tensor,
    grad_sampling_loc: Tensor,
    grad_attn_weight: Tensor,
    im2col_step: int,
) -> None:
    """Gradients of :func:`ms_deform_attn_forward`, written into the last three tensors.

    Args:
        value: As given to the forward, as are the next four.
        spatial_shapes: See the forward.
        level_start_index: See the forward.
        sampling_locations: See the forward.
        attention_weights: See the forward.
        grad_output: (B, Q, heads * C).
        grad_value: Shaped like ``value``, receives its gradient.
        grad_sampling_loc: Shaped like ``sampling_locations``, receives their gradient.
        grad_attn_weight: Shaped like ``attention_weights``, receives their gradient.
        im2col_step: Not used.
    """
    inputs = [tensor.detach().requires_grad_() for tensor in (value, sampling_locations, attention_weights)]
    with torch.enable_grad():
        output = ms_deform_attn_forward(inputs[0], spatial_shapes, level_start_index, inputs[1], inputs[2], im2col_step)
    gradients = torch.autograd.grad(output, inputs, grad_output)
    for target, gradient in zip((grad_value, grad_sampling_loc, grad_attn_weight), gradients, strict=True):
        target.copy_(gradient)


def get_compiler_version() -> str:
    """Return what mmcv's environment report prints as its compiler."""
    return 'none (torchvision stand-in of mmlocalmamba)'


def get_compiling_cuda_version() -> str:
    """Return what mmcv's environment report prints as the CUDA version of its operators."""
    return 'none (torchvision stand-in of mmlocalmamba)'


def _single(tensor: Tensor) -> Tensor:
    """Widen half precision: torchvision has none of it on the CPU, and no bfloat16 anywhere."""
    return tensor if tensor.dtype == torch.float64 else tensor.float()


def _check_pool_mode(pool_mode: int) -> None:
    if pool_mode != _AVERAGE:
        raise NotImplementedError(
            "RoIAlign with pool_mode='max' needs mmcv's compiled operators; the torchvision stand-in has 'avg' only. "
            + HOW_TO_GET_FULL_MMCV
        )


def __getattr__(name: str) -> Callable[..., Any]:
    """Say that an operator is missing, except to ``mmcv.ops``, which asks for all of them when it is imported."""
    if name.startswith('__'):
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    if not is_loading():
        raise MissingOperatorError(missing(name))
    mark(sys._getframe(1))
    return _placeholder


def _placeholder(*args: Any, **kwargs: Any) -> None:
    raise MissingOperatorError(HOW_TO_GET_FULL_MMCV)
