"""Count parameters and FLOPs of a config: ``python tools/analysis/get_flops.py CONFIG --shape 800 1280``."""

import mmlocalmamba  # isort: skip  # before any mm package: puts the stand-in for mmcv._ext in place

import argparse

from mmengine.config import Config, DictAction

from mmlocalmamba.analysis.flops import PartCost, count_config, default_shape, total


def parse_args(arguments: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=f'Count parameters and FLOPs (mmlocalmamba {mmlocalmamba.__version__}); nothing is computed'
    )
    parser.add_argument('config', help='config file')
    parser.add_argument(
        '--shape',
        type=int,
        nargs='+',
        metavar='SIDE',
        help='height and width of the image in pixels, or one number for a square (default: 800 1280 for detection, '
        '512 2048 for segmentation, 224 for classification)',
    )
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        default={},
        help='settings that override the config, as key=value',
    )
    args = parser.parse_args(arguments)
    if args.shape is not None and (len(args.shape) > 2 or min(args.shape) < 1):
        parser.error(f'--shape wants one or two positive numbers, got {args.shape}')
    return args


def format_table(parts: list[PartCost], height: int, width: int) -> str:
    """Format the costs of parts and their total as a table."""
    rows: list[tuple[str, ...]] = [(f'{height} x {width} pixels', 'params', 'FLOPs', 'published', 'scan')]
    for part in [*parts, total(parts)]:
        flops = (f'{value / 1e9:.3f} G' for value in (part.flops, part.published_flops, part.scan_flops))
        rows.append((part.name, f'{part.params / 1e6:.3f} M', *flops))
    widths = [max(len(row[i]) for row in rows) for i in range(5)]
    lines = ['  '.join([row[0].ljust(widths[0]), *(row[i].rjust(widths[i]) for i in range(1, 5))]) for row in rows]
    lines.insert(1, '-' * len(lines[0]))
    lines.insert(-1, lines[1])
    return '\n'.join(lines)


def main(arguments: list[str] | None = None) -> None:
    """Count and print."""
    args = parse_args(arguments)
    cfg = Config.fromfile(args.config)
    cfg.merge_from_dict(args.cfg_options)
    shape = tuple(args.shape or default_shape(cfg))
    height, width = shape if len(shape) == 2 else shape * 2
    print(format_table(count_config(cfg, height, width), height, width))
    print(
        'FLOPs: a multiply-add is one; the scan is 9 L D N + L D per direction.\n'
        "published: LocalVim as its authors' ImageNet figures count it: the directions' projections once, the scan as "
        '5 L D N\nper direction. Nothing else is counted differently.\n'
        'Detectors: 1000 proposals, 100 masks. Heads that only training uses have no FLOPs.'
    )


if __name__ == '__main__':
    main()
