"""Inference over many pictures and videos, with what it writes."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import mmcv
from mmengine.logging import print_log
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from .drawing import Artist
from .inputs import Source
from .pipeline import Picture
from .predictors import Predictor
from .results import Detections, LabelMap, Result
from .writing import JsonStream, VideoOut, coco_categories, coco_results, rle_json, summary, write_image

T = TypeVar('T')


@dataclass
class Outcome:
    """What became of the files.

    Attributes:
        done: How many pictures and videos have results.
        skipped: Those that could not be read, each with the reason.
    """

    done: int = 0
    skipped: list[str] = field(default_factory=list)

    def skip(self, source: Source, reason: object) -> None:
        """Note and log that a file cannot be read."""
        text = f'{source.path}: {reason or "its content is no image or video"}'
        print_log(f'Skipped {text}', logger='current', level=logging.WARNING)
        self.skipped.append(text)


class Inference:
    """Predicts, draws and writes, file by file.

    Args:
        predictor: The model.
        out: Folder of the results, made if it is not there:

            - ``overlays/``: pictures and videos with what was found drawn over them;
            - ``predictions.json``: what was found, for people and scripts, by picture;
            - ``<video>.jsonl``: the same for a video, a line per frame;
            - detection: ``coco_results.json`` and ``coco_images.json``, COCO's results, and what their
              numbers mean;
            - segmentation: ``labels/``: a PNG of class numbers per picture and frame.
        score_thr: Objects with lower scores are left out of all but ``coco_results.json``.
    """

    def __init__(self, predictor: Predictor, out: Path, score_thr: float) -> None:
        self.predictor, self.out, self.score_thr = predictor, out, score_thr
        self.trained = predictor.trained
        self.artist = Artist(self.trained, score_thr)

    def run(self, sources: Iterable[Source]) -> Outcome:
        """Predict for every file. Those that cannot be read are named and skipped."""
        sources = list(sources)
        outcome = Outcome()
        self.out.mkdir(parents=True, exist_ok=True)
        columns = TextColumn('{task.description}'), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
        with Progress(*columns) as progress:
            pictures = [source for source in sources if not source.is_video]
            if pictures:
                self._run_pictures(pictures, outcome, progress)
            for source in sources:
                if source.is_video:
                    self._run_video(source, outcome, progress)
        return outcome

    def _run_pictures(self, sources: list[Source], outcome: Outcome, progress: Progress) -> None:
        detects, classes = self.trained.task == 'detection', list(self.trained.classes)
        with ExitStack() as files:
            start: dict[str, Any] = {'task': self.trained.task, 'classes': classes}
            predictions = files.enter_context(JsonStream(self.out / 'predictions.json', start, 'predictions'))
            if detects:
                results = files.enter_context(JsonStream(self.out / 'coco_results.json'))
                start = {'categories': coco_categories(self.trained)}
                images = files.enter_context(JsonStream(self.out / 'coco_images.json', start, 'images'))
            bar = progress.add_task('pictures', total=len(sources))
            readable = self._read(sources, outcome, progress, bar)
            for batch in _batched(readable, self.predictor.batch_size):
                found = self.predictor.predict([picture for _, picture in batch])
                for (source, picture), result in zip(batch, found, strict=True):
                    image_id = picture.fields['img_id']
                    entry = summary(source.name, picture, result, self.trained, self.score_thr)
                    if isinstance(result, Detections):
                        width, height = picture.size
                        entry = {'image_id': image_id, **entry}
                        images.append({'id': image_id, 'file_name': source.name, 'width': width, 'height': height})
                        for row in coco_results(image_id, result, self.trained):
                            results.append(row)
                    self._write_maps(source.stem, picture, result)
                    predictions.append(entry)
                    outcome.done += 1
                    progress.advance(bar)

    def _read(
        self, sources: list[Source], outcome: Outcome, progress: Progress, bar: TaskID
    ) -> Iterator[tuple[Source, Picture]]:
        """Read pictures one after the other, and pass over those that cannot be read."""
        for number, source in enumerate(sources, 1):
            try:
                picture = self.predictor.pipeline.read(source.path, source.name, number)
            except Exception as error:  # every reader has errors of its own
                outcome.skip(source, error)
                progress.advance(bar)
                continue
            yield source, picture

    def _write_maps(self, stem: str, picture: Picture, result: Result) -> None:
        """Write the overlay, and the label map if there is one."""
        if isinstance(result, LabelMap):
            write_image(self.out / 'labels' / f'{stem}.png', result.labels)
        write_image(self.out / 'overlays' / f'{stem}.jpg', self.artist.draw(picture.shown(), result))

    def _run_video(self, source: Source, outcome: Outcome, progress: Progress) -> None:
        try:
            video = mmcv.VideoReader(str(source.path))
            if not video.opened or video.width == 0 or len(video) == 0:
                raise OSError('OpenCV finds no frame in it')
        except Exception as error:
            outcome.skip(source, error)
            return
        bar = progress.add_task(source.name, total=len(video))
        lines = self.out / f'{source.stem}.jsonl'
        lines.parent.mkdir(parents=True, exist_ok=True)
        overlay = VideoOut(self.out / 'overlays' / f'{source.stem}.mp4', video.resolution, video.fps or 25.0)
        try:
            with lines.open('w', encoding='utf-8') as file:
                for batch in _batched(self._frames(video), self.predictor.batch_size):
                    for picture, result in zip(batch, self.predictor.predict(batch), strict=True):
                        number = picture.fields['img_id']
                        entry = summary(source.name, picture, result, self.trained, self.score_thr)
                        if isinstance(result, Detections) and result.masks is not None:
                            masks = result.above(self.score_thr).masks or ()
                            for item, mask in zip(entry['objects'], masks, strict=True):
                                item['segmentation'] = rle_json(mask)
                        if isinstance(result, LabelMap):
                            write_image(self.out / 'labels' / source.stem / f'{number:06d}.png', result.labels)
                        file.write(json.dumps({'frame': number, **entry}) + '\n')
                        overlay.append(self.artist.draw(picture.shown(), result))
                        progress.advance(bar)
        finally:
            overlay.close()
        outcome.done += 1

    def _frames(self, video: mmcv.VideoReader) -> Iterator[Picture]:
        """Read a video's frames, from number 0."""
        for number, frame in enumerate(video):
            if frame is None:  # the header promises more frames than there are
                return
            yield self.predictor.pipeline.take_frame(frame, f'{number:06d}', number)


def _batched(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Give the items in lists of that size; the last may be shorter."""
    rest = iter(items)
    while batch := list(islice(rest, size)):
        yield batch
