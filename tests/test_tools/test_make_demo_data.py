import json


def test_it_writes_what_was_asked_for(tool, tmp_path, capsys):
    tool('make_demo_data').main([str(tmp_path / 'shapes'), '--train', '3', '--val', '2'])
    assert '3 training and 2 held-out images' in capsys.readouterr().out
    assert len(list((tmp_path / 'shapes/train').iterdir())) == 3
    assert len(list((tmp_path / 'shapes/ade-like/images/validation').iterdir())) == 2


def test_the_seed_matters(tool, tmp_path):
    sizes = []
    for seed in ('0', '1'):
        tool('make_demo_data').main([str(tmp_path / seed), '--train', '3', '--val', '1', '--seed', seed])
        images = json.loads((tmp_path / seed / 'annotations/instances_train.json').read_text())['images']
        sizes.append([(image['height'], image['width']) for image in images])
    assert sizes[0] != sizes[1]
