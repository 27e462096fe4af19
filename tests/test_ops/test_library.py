import ctypes
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from importlib import import_module
from pathlib import Path

import pytest
import torch
from torch import Tensor

from mmlocalmamba.ops import ScanInputs
from mmlocalmamba.ops.backends import reference
from mmlocalmamba.ops.backends.cpu import (
    BrokenLibraryError,
    MissingLibraryError,
    library,
    load_library,
)
from mmlocalmamba.ops.backends.cpu.fingerprint import source_fingerprint
from mmlocalmamba.ops.backends.cpu.library import SOURCES
from mmlocalmamba.ops.selective_scan import multiply_out

from .library_calls import SIZES, Arguments, Guarded, make_call, outputs_of


def _is_built() -> bool:
    try:
        library()
    except MissingLibraryError:
        return False
    return True


pytestmark = pytest.mark.skipif(not _is_built(), reason='the kernel library is not built')

TOKENS = SIZES['tokens']
FUNCTIONS = sorted(library().functions) if _is_built() else []
INSTRUCTION_SETS = library().instruction_sets() if _is_built() else []
DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16]
LINUX = pytest.mark.skipif(sys.platform != 'linux', reason='looks into /proc')

# Sizes that nothing else tells of: another one is another problem, not a mistake.
FREE = {
    ('scan_forward', 'order', 1),
    ('scan_backward', 'order', 1),
    ('causal_conv_forward', 'weight', 2),
    ('causal_conv_forward', 'x', 1),
}
FREE_IN_SCAN_ORDER = {('scan_forward', 'y', 2), ('scan_backward', 'grad_y', 2)}


@pytest.fixture(params=INSTRUCTION_SETS)
def instruction_set(request) -> Iterator[str]:
    library().use_instruction_set(request.param)
    yield request.param
    library().use_instruction_set(INSTRUCTION_SETS[0])


def call(name: str, arguments: Arguments) -> None:
    library().functions[name](**arguments)


def reshaped(x: Tensor, sizes: list[int], guarded: Guarded) -> Tensor:
    """Give a tensor of other sizes, of small numbers that are valid in an order too."""
    return guarded.empty(*sizes, dtype=x.dtype).zero_()


# What is accepted.


@pytest.mark.parametrize('bare', [False, True])
@pytest.mark.parametrize('dtype', DTYPES)
@pytest.mark.parametrize('name', FUNCTIONS)
def test_writes_all_of_its_outputs_and_nothing_else(name, dtype, bare, instruction_set) -> None:
    arguments, guarded = make_call(name, dtype, bare)
    inputs = {key: x.clone() for key, x in arguments.items() if isinstance(x, Tensor)}

    call(name, arguments)

    outputs = outputs_of(name, arguments)
    assert all(x.isfinite().all() for x in outputs.values())
    assert all(torch.equal(arguments[key], x) for key, x in inputs.items() if key not in outputs)
    assert guarded.intact()


@pytest.mark.parametrize('name', FUNCTIONS)
def test_parameters_and_gradients_may_have_dtypes_of_their_own(name) -> None:
    arguments, _ = make_call(name)
    call(name, arguments)
    others = dict(arguments)
    for key, x in arguments.items():
        if isinstance(x, Tensor) and ('weight' in key or 'bias' in key or key in ('A', 'B', 'C', 'D')):
            others[key] = x.double()
    if name == 'add_norm_forward':  # normed has the weight's
        others['normed'] = others['normed'].double()

    call(name, others)

    for key, x in outputs_of(name, others).items():
        torch.testing.assert_close(x.float(), arguments[key], rtol=1e-4, atol=1e-5, msg=key)


@pytest.mark.parametrize('name', FUNCTIONS)
def test_inputs_may_have_any_strides(name) -> None:
    arguments, _ = make_call(name)
    call(name, arguments)
    outputs = outputs_of(name, arguments)
    if name in ('exp2', 'softplus'):
        pytest.skip('takes contiguous tensors')

    strided = {
        key: x if not isinstance(x, Tensor) else torch.empty_like(x) if key in outputs else _strided(x)
        for key, x in arguments.items()
    }
    call(name, strided)

    assert all(torch.equal(strided[key], x) for key, x in outputs.items())


def _strided(x: Tensor) -> Tensor:
    """Copy a tensor so that none of its strides is one."""
    return torch.stack([x.transpose(0, -1)] * 2, -1)[..., 0].transpose(0, -1)


@pytest.mark.parametrize('bare', [False, True])
@pytest.mark.parametrize('none', ['batch', 'tokens', 'channels', 'directions', 'states', 'hidden'])
@pytest.mark.parametrize('name', FUNCTIONS)
def test_computes_nothing_of_nothing(name, none, bare) -> None:
    sizes = dict(tokens=0, length=0, chunks=0, height=0) if none == 'tokens' else {none: 0}
    arguments, guarded = make_call(name, bare=bare, **sizes)

    call(name, arguments)

    for key, x in outputs_of(name, arguments).items():
        assert not x.isnan().any(), key
        if key.startswith('grad_') and none in ('batch', 'tokens'):
            assert (x == 0).all(), key
    assert guarded.intact()


# What is refused.


@pytest.mark.parametrize('bare', [False, True])
@pytest.mark.parametrize('name', FUNCTIONS)
def test_refuses_every_wrong_size(name, bare) -> None:
    arguments, _ = make_call(name, bare=bare)
    for key, x in arguments.items():
        if not isinstance(x, Tensor):
            continue
        for dim in range(x.dim()):
            for size in {x.shape[dim] - 1, x.shape[dim] + 1, 0, 2 * x.shape[dim]} - {x.shape[dim]}:
                if (name, key, dim) in (FREE | FREE_IN_SCAN_ORDER if bare else FREE):
                    continue
                guarded = Guarded()
                sizes = [size if i == dim else old for i, old in enumerate(x.shape)]
                wrong = {**arguments, key: reshaped(x, sizes, guarded)}
                with pytest.raises(ValueError, match=name):
                    call(name, wrong)
                assert guarded.intact()


@pytest.mark.parametrize('bare', [False, True])
@pytest.mark.parametrize('name', FUNCTIONS)
def test_refuses_every_wrong_number_of_dimensions(name, bare) -> None:
    arguments, guarded = make_call(name, bare=bare)
    for key, x in arguments.items():
        if not isinstance(x, Tensor):
            continue
        for wrong in (x[0], x.unsqueeze(0), x.flatten()[0]):
            if wrong.dim() <= 5:
                with pytest.raises(ValueError, match=name):
                    call(name, {**arguments, key: wrong})
    assert guarded.intact()


@pytest.mark.parametrize('name', FUNCTIONS)
def test_refuses_dtypes_that_it_does_not_know(name) -> None:
    arguments, guarded = make_call(name)
    for key, x in arguments.items():
        if isinstance(x, Tensor):
            for dtype in (torch.int64, torch.bool, torch.complex64, torch.float32 if key == 'order' else torch.int32):
                with pytest.raises(ValueError, match=key):
                    call(name, {**arguments, key: x.to(dtype)})
    assert guarded.intact()


@pytest.mark.parametrize('name', FUNCTIONS)
def test_refuses_outputs_that_are_not_contiguous(name) -> None:
    arguments, guarded = make_call(name)
    for key, x in outputs_of(name, arguments).items():
        with pytest.raises(ValueError, match=f'{name}: {key} is .*contiguous'):
            call(name, {**arguments, key: torch.stack([x, x], -1)[..., 0]})
    assert guarded.intact()


@pytest.mark.parametrize('name', FUNCTIONS)
def test_refuses_missing_and_unknown_arguments(name) -> None:
    arguments, _ = make_call(name)
    function = library().functions[name]
    for key in arguments:
        misspelt = {f'{other}s' if other == key else other: x for other, x in arguments.items()}
        for wrong in ({**arguments, f'{key}s': arguments[key]}, misspelt):
            with pytest.raises(TypeError, match=f'{key}s'):
                function(**wrong)
        left_out = {other: x for other, x in arguments.items() if other != key}
        with pytest.raises(TypeError, match=key):
            function(**left_out)
        if key in function.tensors and key not in function.optional:
            with pytest.raises(ValueError, match=f'{name}: {key} is missing'):
                function(**{**arguments, key: None})


@pytest.mark.parametrize(
    ('name', 'key'),
    [('scan_forward', 'dt_weight'), ('scan_backward', 'dt_weight'), ('scan_backward', 'grad_dt_weight')]
    + [(f'add_norm_{part}', table) for part in ('forward', 'backward') for table in ('cos', 'sin')],
)
def test_refuses_one_optional_tensor_without_the_other(name, key) -> None:
    arguments, guarded = make_call(name)
    with pytest.raises(ValueError, match=name):
        call(name, {**arguments, key: None})
    assert guarded.intact()


@pytest.mark.parametrize('name', [name for name in FUNCTIONS if name.startswith(('scan', 'causal'))])
@pytest.mark.parametrize('token', [-2, TOKENS, 2**31 - 1, -(2**31)])
def test_refuses_orders_out_of_range(name, token) -> None:
    arguments, guarded = make_call(name)
    for place in ((0, 0), (1, 30), (-1, -1)):
        order = arguments['order'].clone()
        order[place] = token
        with pytest.raises(ValueError, match=f'{name}: order is .*{TOKENS} tokens'):
            call(name, {**arguments, 'order': order})
    assert guarded.intact()


@pytest.mark.parametrize('name', ['scan_forward', 'scan_backward'])
def test_refuses_orders_that_visit_a_token_twice(name) -> None:
    arguments, _ = make_call(name)
    order = arguments['order'].clone()
    order[2, (order[2] < 0).nonzero()[0]] = 5
    with pytest.raises(ValueError, match='at most once'):
        call(name, {**arguments, 'order': order})


def test_refuses_sizes_whose_product_does_not_fit() -> None:
    arguments, _ = make_call('scan_forward', bare=True)
    huge = torch.empty(0).expand(0).reshape(0, 1).as_strided((0, 2**40, 2**40, 1), (1, 1, 1, 1))
    with pytest.raises(ValueError, match='too large'):
        call('scan_forward', {**arguments, 'y': huge})
    expanded = torch.zeros(1).expand(2, 2**40, 2**20, 1)
    with pytest.raises(ValueError, match='too large'):
        call('scan_forward', {**arguments, 'u': expanded})


def test_refuses_a_number_in_place_of_a_tensor_and_the_reverse() -> None:
    arguments, _ = make_call('add_norm_forward')
    with pytest.raises(TypeError, match="'hidden': 'float'"):
        call('add_norm_forward', {**arguments, 'hidden': 1.0})
    with pytest.raises(TypeError, match="'eps': 'NoneType'"):
        call('add_norm_forward', {**arguments, 'eps': None})


def test_refuses_views_that_are_negated_when_read() -> None:
    arguments, _ = make_call('add_norm_forward')
    arguments['hidden'] = torch.complex(torch.zeros_like(arguments['hidden']), arguments['hidden']).conj().imag
    with pytest.raises(ValueError, match=r'hidden is torch.float32 .*negated view.*pass hidden.resolve_neg\(\)'):
        call('add_norm_forward', arguments)


def test_refuses_tensors_of_other_devices() -> None:
    with pytest.raises(ValueError, match='exp2: x is .*on meta'):
        library().exp2(x=torch.empty(3, device='meta'), y=torch.empty(3))


@pytest.mark.slow
@pytest.mark.parametrize('name', FUNCTIONS)
def test_no_nonsense_reaches_foreign_memory(name) -> None:
    generator = torch.Generator().manual_seed(len(name))

    def draw(limit: int) -> int:
        return int(torch.randint(limit, (1,), generator=generator))

    for _ in range(150):
        arguments, guarded = make_call(name, DTYPES[draw(4)], bare=draw(2) == 0)
        tensors = [key for key, x in arguments.items() if isinstance(x, Tensor)]
        for _ in range(1 + draw(3)):
            key = tensors[draw(len(tensors))]
            x = arguments[key]
            sizes = [(0, 1, max(size - 1, 0), size + 1, 2 * size, size, size, size)[draw(8)] for size in x.shape]
            arguments[key] = reshaped(x, sizes[: len(sizes) - (draw(8) == 0)], guarded)
        with suppress(ValueError):
            call(name, arguments)
        assert guarded.intact()


# Orders that miss tokens.


@pytest.mark.parametrize('bare', [False, True])
def test_tokens_that_no_direction_visits_get_zeros(bare) -> None:
    forward, _ = make_call('scan_forward', bare=bare)
    order = forward['order'].clone()
    order[:, order[0] == 7] = -1
    order[0, order[0] == 8] = -1
    order[1:, 40:] = -1
    forward['order'] = order
    states = torch.empty(2, 3, 2, 5, 19)
    call('scan_forward', {**forward, 'states': states})
    backward, _ = make_call('scan_backward', bare=bare)
    backward |= {key: forward[key] for key in backward if key in forward}
    backward['states'] = states
    call('scan_backward', backward)

    visited = torch.zeros(3, TOKENS, dtype=torch.bool)
    for direction, tokens in enumerate(order):
        visited[direction, tokens[tokens >= 0].long()] = True
    y = forward['y']
    assert (y[:, ~visited] == 0).all()
    assert (y[:, visited] != 0).any(-1).all()
    assert all(x.isfinite().all() for x in outputs_of('scan_backward', backward).values())
    if bare:
        want = reference.selective_scan_naive(multiply_out(_scan_inputs(forward)))
        torch.testing.assert_close(y, want)
    else:
        assert (backward['grad_u'][:, ~visited.any(0)] == 0).all()
        assert (backward['grad_dt'].transpose(1, 2)[:, ~visited] == 0).all()


def _scan_inputs(scan: Arguments) -> ScanInputs:
    """Give the scan's inputs as the back ends take them."""
    values = {name: scan.get(name) for name in ScanInputs._fields}
    return ScanInputs(**{**values, 'num_tokens': TOKENS, 'log_A': True})


# Threads.


@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
@pytest.mark.parametrize('name', FUNCTIONS)
def test_results_do_not_depend_on_the_number_of_threads(name, dtype) -> None:
    before, results = torch.get_num_threads(), []
    for threads in (1, 2, 5):
        torch.manual_seed(0)
        arguments, _ = make_call(name, dtype)
        torch.set_num_threads(threads)
        try:
            call(name, arguments)
        finally:
            torch.set_num_threads(before)
        results.append(outputs_of(name, arguments))
    for other in results[1:]:
        assert all(torch.equal(other[key], x) for key, x in results[0].items())


def test_many_python_threads_may_call_at_once() -> None:
    def scan(seed: int) -> Tensor:
        arguments, _ = make_call('causal_conv_forward')
        arguments['x'] = torch.full_like(arguments['x'], seed)
        arguments['weight'] = torch.ones_like(arguments['weight'])
        arguments['bias'] = torch.zeros_like(arguments['bias'])
        call('causal_conv_forward', arguments)
        return arguments['y'].amax()

    with ThreadPoolExecutor(8) as pool:
        results = torch.stack(list(pool.map(scan, range(200))))

    torch.testing.assert_close(results, torch.nn.functional.silu(4.0 * torch.arange(200)))


def run_script(script: str) -> str:
    """Run Python code in a process of its own; returns what it prints."""
    root = str(Path(__file__).parents[2])
    code = f'import sys\nsys.path.insert(0, {root!r})\n{script}'
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


SCAN = """
import os, re, torch
from mmlocalmamba.ops.backends.cpu import library
def scan():
    x, weight, bias = torch.randn(4, 64, 64), torch.randn(4, 64, 4), torch.randn(4, 64)
    order, y = torch.arange(64, dtype=torch.int32).repeat(4, 1), torch.empty(4, 64, 4, 64)
    library().causal_conv_forward(x=x, weight=weight, bias=bias, order=order, y=y)
"""


@LINUX
@pytest.mark.slow
@pytest.mark.parametrize('threads', [1, 3])
def test_takes_as_many_threads_as_pytorch_has(threads) -> None:
    started = run_script(f"""{SCAN}
torch.set_num_threads({threads})
library()
before = len(os.listdir('/proc/self/task'))
scan()
print(len(os.listdir('/proc/self/task')) - before)
""")
    assert int(started) == threads - 1


@LINUX
@pytest.mark.slow
def test_loads_no_openmp_runtime_of_its_own() -> None:
    script = f"""{SCAN}
def runtimes():
    return set(re.findall(r'/\\S*omp\\S*\\.so\\S*', open('/proc/self/maps').read()))
before = runtimes()
torch.set_num_threads(2)
scan()
print(library().runtime is not None, runtimes() == before, len(before))
"""
    assert run_script(script) == 'True True 1'


@LINUX
@pytest.mark.slow
@pytest.mark.parametrize('before', ['scan()', 'torch.randn(600, 600) @ torch.randn(600, 600); library()'])
def test_a_forked_process_does_not_wait_for_threads_of_its_parent(before) -> None:
    script = f"""{SCAN}
torch.set_num_threads(2)
{before}
child = os.fork()
if child == 0:
    scan()
    os._exit(7)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
scan()
"""
    assert run_script(script) == '7'


@LINUX
@pytest.mark.parametrize('kind', ['gomp', 'kmp'])
def test_hands_contiguous_ranges_to_the_threads_of_either_runtime(kind, tmp_path) -> None:
    """A runtime of this test's own does one thread's share after the other."""
    raw = ctypes.CDLL(str(shutil.copy(library().path, tmp_path / 'copy.so')))
    current, asked = [0], []

    def fork(run, threads):
        asked.append(threads)
        for current[0] in range(threads):
            run()

    integer, pointer = ctypes.c_int, ctypes.c_void_p
    gomp = ctypes.CFUNCTYPE(None, pointer, pointer, ctypes.c_uint, ctypes.c_uint)(
        lambda share, team, threads, _: fork(lambda: ctypes.CFUNCTYPE(None, pointer)(share)(team), threads)
    )
    pushed = [0]
    push = ctypes.CFUNCTYPE(None, pointer, integer, integer)(lambda _, __, threads: pushed.__setitem__(0, threads))
    share_type = ctypes.CFUNCTYPE(None, pointer, pointer, pointer)
    kmp = ctypes.CFUNCTYPE(None, pointer, integer, pointer, pointer)(
        lambda _, __, share, team: fork(lambda: share_type(share)(None, None, team), pushed[0])
    )
    thread_id = ctypes.CFUNCTYPE(integer, pointer)(lambda _: 0)
    in_parallel = ctypes.CFUNCTYPE(integer)(lambda: 0)
    number = ctypes.CFUNCTYPE(integer)(lambda: current[0])
    size = ctypes.CFUNCTYPE(integer)(lambda: asked[-1])
    functions = [gomp if kind == 'gomp' else kmp, push, thread_id, in_parallel, number, size]
    raw.mmlocalmamba_set_runtime.restype = ctypes.c_char_p
    addresses = [ctypes.cast(function, pointer) for function in functions]
    assert raw.mmlocalmamba_set_runtime(kind.encode(), *addresses) is None

    function = library().functions['causal_conv_forward']
    arguments, guarded = make_call('causal_conv_forward')
    call('causal_conv_forward', arguments)
    want = arguments['y'].clone()
    arguments['y'].fill_(float('nan'))
    raw_call = raw.mmlocalmamba_causal_conv_forward
    raw_call.restype, raw_call.argtypes = ctypes.c_char_p, [ctypes.c_char_p, ctypes.c_char_p, ctypes.c_int64]
    before, function._call = function._call, lambda tensors, numbers, _: raw_call(tensors, numbers, 5)
    try:
        call('causal_conv_forward', arguments)
    finally:
        function._call = before

    assert asked == [5]
    assert torch.equal(arguments['y'], want)
    assert guarded.intact()


# The file.


def test_describes_itself() -> None:
    for name, function in library().functions.items():
        arguments, _ = make_call(name)
        assert set(arguments) == {*function.tensors, *function.numbers}
        assert set(function.optional) | set(function.outputs) <= set(function.tensors)
    assert library().chunk == 64


def test_refuses_an_instruction_set_that_the_processor_lacks() -> None:
    with pytest.raises(ValueError, match='altivec'):
        library().use_instruction_set('altivec')
    assert INSTRUCTION_SETS[-1] == 'baseline'


def test_instruction_sets_agree(instruction_set) -> None:
    for name in FUNCTIONS:
        torch.manual_seed(0)
        want, _ = make_call(name, torch.float64)
        call(name, want)
        got = {key: x.float() if isinstance(x, Tensor) and key != 'order' else x for key, x in want.items()}
        call(name, got)
        for key, x in outputs_of(name, got).items():
            torch.testing.assert_close(x.double(), want[key], rtol=1e-4, atol=1e-5, msg=f'{name} {key}')


def test_a_missing_library_says_how_to_build_it(tmp_path) -> None:
    with pytest.raises(MissingLibraryError, match=r'nowhere\.so is not built.*pip install -e \.'):
        load_library(tmp_path / 'nowhere.so', SOURCES)


@pytest.mark.parametrize('content', ['nothing', 'text', 'half', 'most'])
def test_a_broken_library_is_an_error_that_names_it(content, tmp_path) -> None:
    whole = library().path.read_bytes()
    pieces = {'nothing': b'', 'text': b'no library', 'half': whole[: len(whole) // 2], 'most': whole[:-1000]}
    path = tmp_path / library().path.name
    path.write_bytes(pieces[content])
    with pytest.raises(BrokenLibraryError, match=rf'{path}.*pip install -e \.'):
        load_library(path, SOURCES)


def test_a_library_of_other_sources_is_an_error_that_names_it(tmp_path) -> None:
    (tmp_path / 'scan.h').write_text('// another scan\n')
    with pytest.raises(BrokenLibraryError, match=rf'{library().path} was built from other sources'):
        load_library(library().path, tmp_path)
    assert load_library(library().path, tmp_path / 'not there').functions.keys() == library().functions.keys()


def test_a_library_of_another_interface_is_an_error_that_names_it(monkeypatch) -> None:
    monkeypatch.setattr(import_module('mmlocalmamba.ops.backends.cpu.library'), 'INTERFACE', 2)
    with pytest.raises(BrokenLibraryError, match=rf'{library().path} has interface 1'):
        load_library(library().path, SOURCES)


def test_the_fingerprint_tells_names_and_contents_apart(tmp_path) -> None:
    (tmp_path / 'a.h').write_bytes(b'one\ntwo\n')
    (tmp_path / 'notes.txt').write_bytes(b'not a source')
    first = source_fingerprint(tmp_path)
    (tmp_path / 'notes.txt').unlink()
    (tmp_path / 'a.h').write_bytes(b'one\r\ntwo\r\n')
    assert source_fingerprint(tmp_path) == first
    (tmp_path / 'a.h').rename(tmp_path / 'b.h')
    second = source_fingerprint(tmp_path)
    (tmp_path / 'b.h').write_bytes(b'one\nthree\n')
    assert len({first, second, source_fingerprint(tmp_path)}) == 3
