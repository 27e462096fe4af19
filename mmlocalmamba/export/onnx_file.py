"""Writing a model as an ONNX file, and comparing what ONNX Runtime makes of it."""

from __future__ import annotations

import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mmlocalmamba.ops.plain_scan import scan_form

EXPORTERS = ('torchscript', 'dynamo')


def export_onnx(
    module: nn.Module, image: Tensor, path: str | Path, exporter: str = 'torchscript', scan: str = 'scan'
) -> None:
    """Write a module as an ONNX file, with a free batch size and the height and width of ``image``.

    The file needs no operators but ONNX's own. Scan orders are constants in it.

    Args:
        module: Maps images to a tuple of tensors; in evaluation mode.
        image: Images (B, C, H, W) of the size wanted; B of 2 or more.
        path: The file.
        exporter: ``'torchscript'`` or ``'dynamo'`` (torch 2.6 or later): PyTorch's two exporters.
        scan: ``'scan'``: ONNX's operator ``Scan``; ``'chunked'``: plain operators, for runtimes without it.

    Raises:
        ModuleNotFoundError: If onnx or onnxscript is not installed.
        ValueError: If there is no such exporter or form, or there is a single image.
    """
    require('onnx', 'onnxscript')
    if exporter not in EXPORTERS:
        raise ValueError(f'exporter={exporter!r} is unknown: choose one of {EXPORTERS}')
    if image.shape[0] < 2:
        raise ValueError('export with 2 images or more: with one, an exporter takes the batch size for a constant')
    with torch.no_grad(), scan_form(scan), warnings.catch_warnings():
        warnings.simplefilter('ignore')  # an exporter's own, on the sizes that are fixed
        if exporter == 'torchscript':
            _by_torchscript(module, image, Path(path))
        else:
            _by_dynamo(module, image, Path(path))


def _by_torchscript(module: nn.Module, image: Tensor, path: Path) -> None:
    import onnx
    from onnx.inliner import inline_local_functions

    from .onnx_torchscript import OPSET, registered_symbolics

    names = [f'output{i}' for i in range(len(module(image)))]
    # Before torch 2.5 there was no other exporter behind this function, and no argument to choose one.
    choice: dict[str, Any] = {'dynamo': False} if torch.__version__ >= (2, 5) else {}  # type: ignore[operator]
    with registered_symbolics():
        torch.onnx.export(
            module,
            (image,),
            str(path),
            input_names=['image'],
            output_names=names,
            dynamic_axes={name: {0: 'batch'} for name in ['image', *names]},
            opset_version=OPSET,
            **choice,
        )
    onnx.save(inline_local_functions(onnx.load(path)), path)


def _by_dynamo(module: nn.Module, image: Tensor, path: Path) -> None:
    if torch.__version__ < (2, 6):  # type: ignore[operator]
        raise ValueError(f"exporter='dynamo' needs torch 2.6 or later, this is {torch.__version__}: use 'torchscript'")
    from .onnx_dynamo import translation_table

    program = torch.onnx.export(
        module,
        (image,),
        dynamo=True,
        input_names=['image'],
        output_names=[f'output{i}' for i in range(len(module(image)))],
        dynamic_shapes=({0: torch.export.Dim('batch', min=1)},),
        custom_translation_table=translation_table(),
        verbose=False,
    )
    program.save(str(path))  # type: ignore[union-attr]  # only without dynamo there may be none


def onnx_session(path: str | Path, threads: int = 0) -> Any:
    """Load a file into ONNX Runtime on the CPU.

    Args:
        path: The file.
        threads: Threads to use. Default: as many as there are cores.

    Raises:
        ModuleNotFoundError: If onnxruntime is not installed.
    """
    require('onnxruntime')
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(str(path), options, providers=['CPUExecutionProvider'])


def onnx_difference(path: str | Path, module: nn.Module, image: Tensor) -> float:
    """Give the largest absolute difference between ONNX Runtime's outputs and PyTorch's for images (B, C, H, W)."""
    got = onnx_session(path).run(None, {'image': image.numpy()})
    with torch.no_grad():
        want = module(image)
    return max(float((torch.from_numpy(a) - b).abs().max()) for a, b in zip(got, want, strict=True))


def require(*packages: str) -> None:
    """Raise a ModuleNotFoundError that says what to install, unless all packages are there."""
    missing = [name for name in packages if find_spec(name) is None]
    if missing:
        raise ModuleNotFoundError(f'exporting to ONNX needs {", ".join(missing)}: pip install {" ".join(missing)}')
