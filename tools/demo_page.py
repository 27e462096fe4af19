"""Serve a page to try a trained model on: ``python tools/demo_page.py --checkpoint W``, then open the address."""

import mmlocalmamba  # isort: skip  # before any mm package: puts the stand-in for mmcv._ext in place

import argparse

from mmlocalmamba.compat.torch_load import refuse_unsafe_checkpoints
from mmlocalmamba.engine.log import forward_log
from mmlocalmamba.inference.page import Demo, build_page
from mmlocalmamba.inference.predictors import Predictor
from mmlocalmamba.inference.trained import add_model_arguments, model_of


def parse_args(arguments: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=f'A page to upload pictures to a model (mmlocalmamba {mmlocalmamba.__version__})'
    )
    add_model_arguments(parser)
    parser.add_argument('--host', default='127.0.0.1', help='address to serve on (default: this machine only)')
    parser.add_argument('--port', type=int, default=7860, help='port to serve on (default: 7860)')
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> None:
    """Load the model and serve the page until interrupted."""
    args = parse_args(arguments)
    forward_log()
    refuse_unsafe_checkpoints()
    page = build_page(Demo(Predictor(model_of(args))))
    page.launch(server_name=args.host, server_port=args.port, share=False)


if __name__ == '__main__':
    main()
