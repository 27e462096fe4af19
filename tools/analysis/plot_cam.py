"""Draw class activation maps (Grad-CAM) of a detector, a segmenter or a classifier.

python tools/analysis/plot_cam.py photo.jpg --checkpoint work_dirs/demo/epoch_12.pth --out cam.png
python tools/analysis/plot_cam.py "photos/*.jpg" --checkpoint W --config C --class-name disc --outputs 1 2
"""

import mmlocalmamba  # isort: skip  # before any mm package: puts the stand-in for mmcv._ext in place

import argparse

from mmlocalmamba.analysis.figure_files import add_out_argument, save_figure
from mmlocalmamba.analysis.grad_cam import GradCAM, NothingFoundError
from mmlocalmamba.analysis.input_pictures import read_pictures
from mmlocalmamba.analysis.plot_grad_cam import ActivationRow, plot_activation_maps
from mmlocalmamba.compat.torch_load import refuse_unsafe_checkpoints
from mmlocalmamba.engine.log import forward_log
from mmlocalmamba.inference.drawing import Artist
from mmlocalmamba.inference.predictors import Predictor
from mmlocalmamba.inference.trained import add_model_arguments, model_of


def parse_args(arguments: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=f'Draw class activation maps (mmlocalmamba {mmlocalmamba.__version__})'
    )
    parser.add_argument('input', metavar='INPUT', help='picture, folder, or pattern such as "photos/*.jpg"')
    add_model_arguments(parser)
    parser.add_argument('--class-name', metavar='NAME', help='the class (default: the one that the model is surest of)')
    parser.add_argument(
        '--outputs', type=int, nargs='+', metavar='PLACE', help="outputs of the backbone's tuple (default: all)"
    )
    parser.add_argument('--score-thr', type=float, default=0.3, help='lowest score of boxes that count (default: 0.3)')
    parser.add_argument('--max-images', type=int, default=4, metavar='N', help='draw the first N (default: 4)')
    add_out_argument(parser, 'cam.png')
    return parser.parse_args(arguments)


def class_number(name: str | None, classes: tuple[str, ...]) -> int | None:
    """Give the number of a class; None for None.

    Raises:
        ValueError: If there is no such class.
    """
    if name is not None and name not in classes:
        raise ValueError(f'--class-name {name}: the model knows {", ".join(classes)}')
    return None if name is None else classes.index(name)


def chosen_outputs(places: list[int] | None, count: int) -> list[int]:
    """Give the places of the backbone's outputs to draw: all of them for None.

    Raises:
        ValueError: If the backbone has no such output.
    """
    if places is None:
        return list(range(count))
    if not all(0 <= place < count for place in places):
        raise ValueError(f'--outputs {places}: the backbone has {count} outputs, numbered from 0')
    return places


def main(arguments: list[str] | None = None) -> None:
    """Compute, draw and save."""
    args = parse_args(arguments)
    forward_log()
    refuse_unsafe_checkpoints()
    trained = model_of(args)
    label = class_number(args.class_name, trained.classes)
    predictor, artist = Predictor(trained), Artist(trained, args.score_thr)
    cam = GradCAM(trained, args.score_thr)
    rows = []
    for picture in read_pictures(cam.pipeline, args.input, args.max_images):
        try:
            found = cam(picture, label)
        except NothingFoundError as error:
            print(f'{picture.name} is left out: {error}')
            continue
        places = chosen_outputs(args.outputs, len(found.maps))
        (result,) = predictor.predict([picture])
        prediction = artist.draw(picture.shown(), result)
        maps = [found.maps[place] for place in places]
        rows.append(ActivationRow(found.image, prediction, trained.classes[found.label], maps))
    if not rows:
        raise NothingFoundError(f'{args.input}: there is nothing to draw, since every picture was left out')
    columns = [f'output {place}' for place in places]
    save_figure(plot_activation_maps(rows, columns, 'Grad-CAM on the outputs of the backbone'), args.out, args.dpi)
    print(*args.out, sep='\n')


if __name__ == '__main__':
    main()
