import pytest

from mmlocalmamba.analysis.text_table import align, number


def test_columns_are_aligned():
    text = align([{'part': 'scan', 'ms': 1.0}, {'part': 'a longer name', 'ms': 123.0}])
    assert text.splitlines() == [
        'part             ms',
        '-------------------',
        'scan           1.00',
        'a longer name   123',
    ]


@pytest.mark.parametrize(
    ('value', 'text'),
    [(0.0, '0'), (0.0123, '0.012'), (1.234, '1.23'), (12.34, '12.3'), (1234.5, '1234'), (-12.34, '-12.3')],
)
def test_numbers_have_the_digits_that_count(value, text):
    assert number(value) == text
