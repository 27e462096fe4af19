"""Export a trained model to ONNX or as a program of torch.export: ``python tools/export.py CONFIG --format onnx``."""

import mmlocalmamba  # isort: skip  # before any mm package: puts the stand-in for mmcv._ext in place

import argparse
from pathlib import Path

import torch
from mmengine.config import Config, DictAction
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import MODELS, init_default_scope
from torch import nn

from mmlocalmamba.compat.torch_load import refuse_unsafe_checkpoints
from mmlocalmamba.export.onnx_file import EXPORTERS, export_onnx, onnx_difference
from mmlocalmamba.export.parts import PARTS, exported_part, random_image
from mmlocalmamba.export.torch_program import IMPORTS, export_program, program_difference, save_program
from mmlocalmamba.inference.trained import load_model
from mmlocalmamba.ops.plain_scan import SCAN_FORMS

TOLERANCE = 1e-4
"""Largest absolute difference from PyTorch that is no error, as a share of the outputs' largest value where above 1."""


def parse_args(arguments: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=f'Export a model (mmlocalmamba {mmlocalmamba.__version__})')
    parser.add_argument('config', help='config file')
    parser.add_argument('--checkpoint', help='weights (default: those of construction, for trying it out)')
    parser.add_argument('--format', choices=['onnx', 'torch'], default='onnx', help='kind of file (default: onnx)')
    parser.add_argument('--out', help='the file (default: <name of the config>.onnx or .pt2)')
    parser.add_argument('--part', choices=PARTS, default='model', help='what to export (default: all of it)')
    parser.add_argument(
        '--size',
        type=int,
        nargs=2,
        default=[224, 224],
        metavar=('H', 'W'),
        help='pixels; an ONNX file takes no other size, a torch program takes any (default: 224 224)',
    )
    parser.add_argument('--exporter', choices=EXPORTERS, default=EXPORTERS[0], help="PyTorch's exporter to ONNX")
    parser.add_argument('--scan', choices=SCAN_FORMS, default=SCAN_FORMS[0], help='form of the scan in ONNX')
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, default={}, help='settings, as key=value')
    return parser.parse_args(arguments)


def build_model(args: argparse.Namespace) -> nn.Module:
    """Build the config's model, with the checkpoint's weights if there is one."""
    if not Path(args.config).is_file():
        raise FileNotFoundError(f'there is no config file {args.config!r} (relative paths start at {Path.cwd()})')
    cfg = Config.fromfile(args.config)
    cfg.merge_from_dict(args.cfg_options)
    scan_padding(cfg)
    if args.checkpoint:
        refuse_unsafe_checkpoints()
        return load_model(cfg, args.checkpoint, torch.device('cpu')).model
    print('no --checkpoint: these are the weights of construction')
    init_default_scope(cfg.get('default_scope', 'mmengine'))
    return revert_sync_batchnorm(MODELS.build(cfg.model))


def scan_padding(cfg: Config) -> None:
    """Let the backbone scan whatever it is given: a file cannot find the padding in an image."""
    backbone = cfg.model.get('backbone', cfg.model)
    if backbone.get('padding') == 'skip':
        backbone.padding = 'scan'
        print(
            "the config's padding='skip' becomes 'scan', which has the same weights: give the file images without "
            'padding, as large as they are'
        )


def main(arguments: list[str] | None = None) -> None:
    """Build the model, write the file, and compare its outputs with PyTorch's."""
    args = parse_args(arguments)
    model = build_model(args)
    part = exported_part(model, args.part)
    size = tuple(args.size)
    out = Path(args.out or f'{Path(args.config).stem}.{"onnx" if args.format == "onnx" else "pt2"}')
    print(f'exporting: {part.contents}' + (f'. Left out: {part.left_out}' if part.left_out else ''))
    image = random_image(2, size, getattr(getattr(model, 'backbone', model), 'in_channels', 3))
    with torch.no_grad():
        largest = max(1.0, *(float(x.abs().max()) for x in part.module(image[:1])))
    if args.format == 'onnx':
        export_onnx(part.module, image, out, args.exporter, args.scan)
        difference = onnx_difference(out, part.module, image[:1])
    else:
        save_program(export_program(part.module, image), out)
        print(f'before loading it: {IMPORTS.strip()}')
        difference = program_difference(out, part.module, image[:1])
    print(f'{out}: {out.stat().st_size / 1e6:.1f} MB, differs from PyTorch by at most {difference:.1e}')
    if not difference <= TOLERANCE * largest:
        raise SystemExit(f'that is more than {TOLERANCE:g} of the largest output, {largest:.3g}: do not use the file')


if __name__ == '__main__':
    main()
