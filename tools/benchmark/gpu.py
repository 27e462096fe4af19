"""Check, tune and measure everything on a GPU in one call of under ten minutes. The package alone, torch and triton do.

PYTHONPATH=. python tools/benchmark/gpu.py --out gpu             writes gpu.json and gpu.md, after every part of it
PYTHONPATH=. python tools/benchmark/gpu.py --only checks,tune    some of it
python tools/benchmark/gpu.py --dry-run                          the whole of it on tiny models on the CPU: does it run?

Models of timm are skipped where it is not installed, mamba-ssm's scan likewise. The mm packages are not needed.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from without_timm import stand_in

MISSING = stand_in()  # before anything imports the backbones

import gpu_parts  # noqa: E402
from gpu_parts import Plan, Row  # noqa: E402
from machine import environment  # noqa: E402
from mmlocalmamba.analysis.measuring import UnavailableError  # noqa: E402
from mmlocalmamba.analysis.text_table import number  # noqa: E402
from rates import gpu_rates  # noqa: E402
from timing import Setup  # noqa: E402

PARTS = {
    'checks': (gpu_parts.checks, 60, 'every kernel against float64'),
    'tune': (gpu_parts.tune, 75, 'kernels tuned at first use'),
    'training': (gpu_parts.training, 140, 'training at 224 x 224: forward and backward, no optimizer'),
    'inference': (gpu_parts.inference, 100, 'inference at 224 x 224'),
    'dense': (gpu_parts.dense, 100, 'training steps of backbones for segmentation and detection'),
    'operations': (gpu_parts.operations, 60, 'operations beside what bytes and exponentials need'),
}
"""Parts by name: what takes them, seconds at most, and a title. What matters most comes first."""


def parse_args(arguments: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line; ``only`` becomes a list of parts."""
    parser = argparse.ArgumentParser(description='Check, tune and measure everything on a GPU.')
    parser.add_argument('--out', type=Path, default=Path('gpu'), metavar='NAME', help='write NAME.json and NAME.md')
    parser.add_argument('--only', default=','.join(PARTS), metavar='PART,...', help=f'some of {", ".join(PARTS)}')
    parser.add_argument('--scale', type=float, default=1.0, help='multiply the time budgets by this')
    parser.add_argument('--dry-run', action='store_true', help='tiny models on the CPU')
    args = parser.parse_args(arguments)
    args.only = [name.strip() for name in args.only.split(',')]
    unknown = [name for name in args.only if name not in PARTS]
    if unknown:
        parser.error(f'--only: unknown {", ".join(map(repr, unknown))}: choose from {", ".join(PARTS)}')
    return args


def make_plan(dry: bool) -> Plan:
    """Choose the device and its rates; the dry run pretends to have an A100's."""
    name = 'a100' if dry else torch.cuda.get_device_name()
    try:
        rates = gpu_rates(name)
    except UnavailableError:
        rates = None
    return Plan('cpu' if dry else 'cuda', dry, rates, MISSING)


def take(name: str, plan: Plan, seconds: float) -> dict[str, Any]:
    """Take a part, up to its time budget; an error ends the part, not the measurement."""
    function, _, title = PARTS[name]
    start, rows, note = time.perf_counter(), [], ''
    try:
        for row in function(plan):
            rows.append(row)
            say(
                f'{name}: '
                + ', '.join(f'{key} {_cell(value)}' for key, value in row.items() if value not in (None, ''))
            )
            if time.perf_counter() - start > seconds:
                note = f'stopped after {seconds:.0f} s, its time budget: what would have followed is missing'
                break
    except Exception as error:
        note = f'ended by {type(error).__name__}: {error}'
    if note:
        say(f'{name}: {note}')
    return {'title': title, 'rows': rows, 'note': note, 'seconds': round(time.perf_counter() - start, 1)}


def to_markdown(found: Mapping[str, Any]) -> str:
    """Format everything found as a page, ready for the README."""
    machine = found['machine']
    where = machine.get('gpu') or f'{machine["cpu"]}, a dry run: these figures mean nothing'
    versions = ', '.join(
        f'{key} {machine[key]}' for key in ('torch', 'triton', 'timm', 'mamba-ssm') if machine.get(key)
    )
    lines = [f'### Measured on {where}', '', f'With {versions}.']
    for part in found['parts'].values():
        lines += ['', f'**{part["title"][0].upper()}{part["title"][1:]}**', '']
        lines += _markdown_table(part['rows']) if part['rows'] else ['Nothing was measured.']
        if part['note']:
            lines += ['', part['note'] + '.']
    return '\n'.join(lines) + '\n'


def _markdown_table(rows: Sequence[Row]) -> list[str]:
    columns = list(dict.fromkeys(key for row in rows for key in row))
    columns = [key for key in columns if any(row.get(key) not in (None, '') for row in rows)]
    lines = ['| ' + ' | '.join(columns) + ' |', '|' + '---|' * len(columns)]
    return lines + ['| ' + ' | '.join(_cell(row.get(key)) for key in columns) + ' |' for row in rows]


def _cell(value: Any) -> str:
    if value is None:
        return ''
    if isinstance(value, float):
        return f'{value:.1e}' if 0 < abs(value) < 1e-2 else number(value)
    return str(value).replace('|', '/').replace('\n', ' ')


def say(text: str) -> None:
    """Print progress to the standard error."""
    print(text, file=sys.stderr, flush=True)


def save(out: Path, found: Mapping[str, Any]) -> None:
    """Write what there is so far."""
    out.parent.mkdir(parents=True, exist_ok=True)
    out.with_name(f'{out.name}.json').write_text(json.dumps(found, indent=2) + '\n', encoding='utf-8')
    out.with_name(f'{out.name}.md').write_text(to_markdown(found), encoding='utf-8')


def main(arguments: list[str] | None = None) -> int:
    """Take the parts one after the other; returns the exit status: 1 without a GPU, or if a check has failed."""
    args = parse_args(arguments)
    if not args.dry_run and not torch.cuda.is_available():
        say('PyTorch sees no GPU here, so nothing is measured. --dry-run shows on the CPU that everything runs.')
        return 1
    plan = make_plan(args.dry_run)
    found: dict[str, Any] = {'machine': environment(Setup(device=plan.device)), 'missing': list(MISSING), 'parts': {}}
    for name in args.only:
        found['parts'][name] = take(name, plan, args.scale * PARTS[name][1])
        save(args.out, found)
    print(to_markdown(found))
    outcomes = [str(row['outcome']) for row in found['parts'].get('checks', {'rows': []})['rows']]
    return int(any('WRONG' in outcome or 'differs' in outcome or 'raised' in outcome for outcome in outcomes))


if __name__ == '__main__':
    sys.exit(main())
