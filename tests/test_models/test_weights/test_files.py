"""Reading checkpoints from files and URLs, in one process and in two."""

import hashlib
import http.server
import os
import pickle
import socket
import subprocess
import sys
import threading

import pytest
import torch

from mmlocalmamba.models.weights.files import cache_path, download, read_state_dict

WEIGHTS = {'weight': torch.arange(3.0)}


@pytest.fixture
def saved(tmp_path):
    def save(state, name='weights.pth'):
        path = tmp_path / name
        torch.save(state, path)
        return path

    return save


def test_a_missing_file_is_named():
    with pytest.raises(FileNotFoundError, match='nowhere.pth'):
        read_state_dict('nowhere.pth')


class _RunsCode:
    def __reduce__(self):
        return (exec, ('raise SystemExit',))


@pytest.mark.filterwarnings('ignore:Detected pickle protocol')
def test_a_file_that_would_run_code_is_refused(tmp_path):
    path = tmp_path / 'hostile.pth'
    path.write_bytes(pickle.dumps(dict(state_dict=_RunsCode())))
    with pytest.raises(ValueError, match='not loaded for safety|no checkpoint'):
        read_state_dict(path)


def test_a_file_without_tensors_is_refused(saved):
    with pytest.raises(ValueError, match='no state dict'):
        read_state_dict(saved(dict(epoch=1)))


class Handler(http.server.BaseHTTPRequestHandler):
    """Sends the files of a dict by path, and breaks off in the middle of those whose path says so."""

    files: dict
    asked: list

    def do_GET(self):
        self.asked.append(self.path)
        body = self.files.get(self.path)
        if body is None:
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header('Content-Length', str(len(body)))
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if 'broken' in self.path else body)

    def log_message(self, *args):
        pass


@pytest.fixture
def server(tmp_path, saved, monkeypatch):
    """A local server, and an empty cache."""
    monkeypatch.setenv('TORCH_HOME', str(tmp_path / 'torch'))
    for variable in ('http_proxy', 'HTTP_PROXY', 'all_proxy', 'ALL_PROXY'):
        monkeypatch.delenv(variable, raising=False)
    body = saved(WEIGHTS).read_bytes()
    other = saved({'weight': torch.zeros(3)}).read_bytes()
    files = {'/a/weights.pth': body, '/b/weights.pth': other, '/broken/weights.pth': body}
    handler = type('Files', (Handler,), dict(files=files, asked=[]))
    with http.server.ThreadingHTTPServer(('127.0.0.1', 0), handler) as instance:
        thread = threading.Thread(target=instance.serve_forever)
        thread.start()
        yield f'http://127.0.0.1:{instance.server_port}', handler
        instance.shutdown()
        thread.join()


def test_a_url_is_fetched_once(server):
    url, handler = server
    for _ in range(2):
        assert torch.equal(read_state_dict(f'{url}/a/weights.pth')['weight'], WEIGHTS['weight'])
    assert handler.asked == ['/a/weights.pth']


def test_urls_of_one_file_name_have_places_of_their_own(server):
    url, _ = server
    assert torch.equal(read_state_dict(f'{url}/a/weights.pth')['weight'], WEIGHTS['weight'])
    assert torch.equal(read_state_dict(f'{url}/b/weights.pth')['weight'], torch.zeros(3))
    assert cache_path(f'{url}/a/weights.pth').name.startswith('weights.')
    assert cache_path(f'{url}/a?v=1') != cache_path(f'{url}/a?v=2')


@pytest.mark.parametrize(
    ('path', 'problem'), [('broken/weights.pth', r'broke off after \d+ of \d+ bytes'), ('none.pth', 'HTTP Error 404')]
)
def test_a_failed_download_is_an_error_and_leaves_nothing(server, path, problem):
    url = f'{server[0]}/{path}'
    with pytest.raises(OSError, match=f'{url} failed: .*{problem}'):
        download(url)
    assert list(cache_path(url).parent.iterdir()) == []


def test_a_download_is_compared_with_the_hash_in_its_name(server):
    url, handler = server
    body = handler.files['/a/weights.pth']
    good, bad = f'/w-{hashlib.sha256(body).hexdigest()[:8]}.pth', '/w-0123abcd.pth'
    handler.files |= {good: body, bad: body}

    assert torch.equal(read_state_dict(url + good)['weight'], WEIGHTS['weight'])
    with pytest.raises(OSError, match='its SHA-256 starts with .*, but its name says 0123abcd'):
        download(url + bad)
    assert [path.name for path in cache_path(url).parent.iterdir()] == [cache_path(url + good).name]


TWO_PROCESSES = """
import sys, torch.distributed as dist
from mmlocalmamba.models.weights.files import read_state_dict
dist.init_process_group('gloo')
for url in sys.argv[1:]:
    try:
        print('got', read_state_dict(url)['weight'].tolist())
    except OSError as error:
        print('failed', error)
dist.destroy_process_group()
"""


@pytest.fixture
def two_processes(tmp_path):
    """Run both processes, each with a cache of its own if asked; returns what each printed, line by line."""

    def run(urls, *, own_caches):
        with socket.socket() as free:
            free.bind(('127.0.0.1', 0))
            port = str(free.getsockname()[1])
        running = []
        for rank in '01':
            env = {**os.environ, 'RANK': rank, 'WORLD_SIZE': '2', 'MASTER_ADDR': '127.0.0.1', 'MASTER_PORT': port}
            env['TORCH_HOME'] = str(tmp_path / ('torch' + (rank if own_caches else '')))
            command = [sys.executable, '-c', TWO_PROCESSES, *urls]
            running.append(subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True, cwd=tmp_path))
        lines = [process.communicate(timeout=120)[0].splitlines() for process in running]
        return [[line for line in found if line.startswith(('got', 'failed'))] for found in lines]

    return run


@pytest.mark.slow
def test_every_process_learns_of_a_failed_download_and_goes_on(server, two_processes):
    url, handler = server
    first, second = two_processes([f'{url}/broken/weights.pth', f'{url}/a/weights.pth'], own_caches=False)
    assert first == second
    assert 'broken/weights.pth failed: the connection broke off' in first[0]
    assert first[1] == 'got [0.0, 1.0, 2.0]'
    assert handler.asked == ['/broken/weights.pth', '/a/weights.pth']  # by the first process alone


@pytest.mark.slow
def test_a_process_that_does_not_see_the_first_ones_cache_fetches_for_itself(server, two_processes):
    url, handler = server
    found = two_processes([f'{url}/a/weights.pth'], own_caches=True)
    assert found == [['got [0.0, 1.0, 2.0]']] * 2
    assert handler.asked == ['/a/weights.pth'] * 2
