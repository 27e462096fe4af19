"""The fuzzer of the operations, in short, and that it notices what it is there to notice."""

import sys
from dataclasses import replace

import pytest
import torch

import fuzz_ops
from fuzz_calls import OPERATIONS
from fuzz_workers import run_workers
from mmlocalmamba.ops.backends import cpu

pytestmark = pytest.mark.skipif(cpu.why_not('cpu') is not None, reason='the C++ library is not built')

COMMAND = [sys.executable, fuzz_ops.__file__, '--worker']


@pytest.fixture(autouse=True)
def fastest_instruction_set():
    yield
    cpu.library().use_instruction_set(cpu.library().instruction_sets()[0])


def first_seed(name, kind, first=0):
    """Give the first call of an operation with an outcome."""
    return next(seed for seed in range(first, 10_000) if fuzz_ops.fuzz_one(seed)[:2] == (name, kind))


def test_a_short_run_finds_nothing() -> None:
    outcomes = [fuzz_ops.fuzz_one(seed) for seed in range(1_000_000, 1_000_600)]

    assert [outcome for outcome in outcomes if outcome.kind == 'fault'] == []
    assert {outcome.operation for outcome in outcomes} == set(OPERATIONS)
    assert {outcome.kind for outcome in outcomes} == {'valid', 'refused', 'accepted'}


def test_calls_in_processes_are_counted() -> None:
    report = run_workers(COMMAND, 0, 40, 2)

    assert report.faults == []
    assert report.counts.total() == 40


@pytest.mark.parametrize('name', OPERATIONS)
def test_a_wrong_value_is_a_fault(name, monkeypatch) -> None:
    seed = first_seed(name, 'valid')
    naive = OPERATIONS[name].naive

    def wrong(arguments):
        found = naive(arguments)
        return tuple(2 * y + 1 for y in found) if isinstance(found, tuple) else 2 * found + 1

    monkeypatch.setitem(OPERATIONS, name, replace(OPERATIONS[name], naive=wrong))

    outcome = fuzz_ops.fuzz_one(seed)

    assert outcome.kind == 'fault'
    assert 'differs by' in outcome.text


def test_an_error_of_others_is_a_fault(monkeypatch) -> None:
    name = 'gate_and_merge'
    seed = first_seed(name, 'refused')
    monkeypatch.setitem(OPERATIONS, name, replace(OPERATIONS[name], public=lambda a: torch.ones(2) @ torch.ones(3)))
    faults = [fuzz_ops.fuzz_one(s) for s in range(seed, seed + 60)]

    assert any('an error of others' in fault.text for fault in faults)


def test_a_crash_is_reported_with_the_number_of_the_call_and_the_others_go_on(tmp_path) -> None:
    script = tmp_path / 'worker.py'
    script.write_text("""
import json, os, struct, sys
first, step, end = map(int, sys.argv[1:4])
for seed in range(first, end, step):
    with open(sys.argv[4], 'wb') as file:
        file.write(struct.pack('q', seed))
    if seed == 5:
        os.abort()
print(json.dumps(dict(counts={'of calls': len(range(first, end, step))})))
""")
    report = run_workers([sys.executable, str(script)], 0, 20, 1)

    assert [fault.seed for fault in report.faults] == [5]
    assert 'CRASH' in report.faults[0].text
    assert report.counts['of calls'] == 14
