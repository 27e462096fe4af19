"""Stand-in for mmcv's compiled operators (``mmcv._ext``) on torchvision: NMS and RoIAlign, all that R-CNNs need.

Python loads this file under the name ``mmcv._ext`` where no compiled one exists (:mod:`mmlocalmamba.compat.finder`).
The functions keep the signatures that ``mmcv/ops/nms.py`` and ``mmcv/ops/roi_align.py`` call, in mmcv 2.1 and
onedl-mmcv 2.3: results go into the output tensors they are given. Every other operator exists, because mmcv asks for
all of them by name when it is imported, and raises when it is called.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, NoReturn

import torch
from torch import Tensor
from torchvision.ops import nms as torchvision_nms
from torchvision.ops import roi_align as torchvision_roi_align

HOW_TO_GET_FULL_MMCV = (
    'Build mmcv with its operators (needs a C++ compiler, and nvcc for CUDA; tens of minutes): '
    'MMCV_WITH_OPS=1 pip install --no-build-isolation --no-binary :all: --no-deps --force-reinstall onedl-mmcv '
    '(or mmcv==2.1.0 for the original packages).'
)

_AVERAGE = 1  # mmcv's code of pool_mode='avg'

logging.getLogger('mmlocalmamba').warning(
    "mmcv's compiled operators (mmcv._ext) are not installed: torchvision's nms and roi_align stand in for them."
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


def __getattr__(name: str) -> Callable[..., NoReturn]:
    if name.startswith('__'):
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')

    def missing_operator(*args: Any, **kwargs: Any) -> NoReturn:
        raise NotImplementedError(
            f"mmcv's compiled operator {name!r} is not installed, and the torchvision stand-in of mmlocalmamba has "
            f'nms and roi_align only. {HOW_TO_GET_FULL_MMCV}'
        )

    return missing_operator
