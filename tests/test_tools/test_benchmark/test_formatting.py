import json

import formatting
from formatting import to_json, to_text
from timing import Comparison, Result, Table

FAST = Comparison('ours forward', 'Swin-T', 1.05, (1.01, 1.10), 168.0, 160.0, 'ms', 15, 1.3, 1.0)
SLOW = Comparison('ours training', 'Swin-T', 1.75, (1.7, 1.8), 630.0, 360.0, 'ms', 15, 1.6)
FREE = Comparison('FLOPs', 'Swin-T', 1.27, (1.27, 1.27), 5.7, 4.5, 'G', 1)
RESULT = Result(
    'models',
    [FAST, SLOW, FREE],
    [Table('parts', [{'part': 'scan', 'ms': 12.345}, {'part': 'rest', 'ms': None}])],
    ['Note.'],
)


def test_json_says_which_bounds_are_met():
    found = json.loads(json.dumps(to_json(RESULT)))
    assert [row['met'] for row in found['comparisons']] == [True, False, None]
    assert found['comparisons'][0]['quartiles'] == [1.01, 1.10]
    assert found['tables'] == [
        {'title': 'parts', 'rows': [{'part': 'scan', 'ms': 12.345}, {'part': 'rest', 'ms': None}]}
    ]
    assert (found['title'], found['notes']) == ('models', ['Note.'])


def test_a_bound_is_met_by_its_own_value():
    assert formatting.met(Comparison('a', 'b', 1.3, (1.3, 1.3), 1, 1, 'ms', 1, wanted=1.3))


def test_text_shows_ratios_bounds_and_medians():
    lines = to_text(RESULT).splitlines()
    fast = next(line for line in lines if line.startswith('ours forward'))
    for piece in ('1.050', '1.010 to 1.100', '<= 1.3: met', '168 ms', '160 ms'):
        assert piece in fast
    assert '<= 1.6: NOT MET' in next(line for line in lines if line.startswith('ours training'))
    flops = next(line for line in lines if line.startswith('FLOPs'))
    assert flops.split() == ['FLOPs', 'Swin-T', '1.270', '5.70', 'G', '4.50', 'G', '1']
    assert 'Note.' in lines
