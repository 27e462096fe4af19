import pytest

from mmlocalmamba.analysis.measuring import UnavailableError
from mmlocalmamba.ops.backends import cpu
from rates import cpu_rates, gpu_rates
from scan_costs import GPUS
from timing import Setup


@pytest.mark.parametrize('built', [True, False])
def test_a_processors_rates_are_measured(monkeypatch, built):
    if built and cpu.why_not('cpu') is not None:
        pytest.skip('the C++ scan is not built')
    if not built:
        monkeypatch.setattr(cpu, 'why_not', lambda device_type: 'not built')
    rates = cpu_rates(Setup(threads=2, runs=1, small=True))
    assert 1e6 < rates.exponentials < 1e13
    assert 1e6 < rates.bytes < 1e13
    assert ('C++' if built else "torch's exp2") in rates.source


def test_a_gpus_rates_are_those_of_its_data_sheet():
    assert gpu_rates('NVIDIA H100 80GB HBM3').bytes == GPUS['h100'].bandwidth
    assert gpu_rates('NVIDIA A100-SXM4-80GB').exponentials == GPUS['a100'].exponentials
    with pytest.raises(UnavailableError, match="known of a100, h100 only, not of 'Tesla T4'"):
        gpu_rates('Tesla T4')
