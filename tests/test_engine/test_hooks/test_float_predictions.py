import torch
from mmengine.evaluator import BaseMetric
from mmengine.model import BaseModel
from mmengine.registry import METRICS
from mmengine.runner import Runner
from mmengine.structures import BaseDataElement, InstanceData, PixelData
from torch.utils.data import DataLoader

from mmlocalmamba.engine.hooks.float_predictions import FloatPredictionsHook, as_float32


@METRICS.register_module()
class Types(BaseMetric):
    """Reads predictions with NumPy, as metrics do."""

    def process(self, data_batch: dict, data_samples: list[dict]) -> None:
        self.results += [sample['score'].numpy().dtype.name for sample in data_samples]

    def compute_metrics(self, results: list[str]) -> dict:
        return {'types': set(results)}


class Product(BaseModel):
    """Multiplies matrices, which autocast does in bfloat16."""

    def forward(self, inputs: torch.Tensor, mode: str) -> list[BaseDataElement]:
        return [BaseDataElement(score=inputs @ inputs)]


def runner(folder, **settings) -> Runner:
    return Runner(
        Product(),
        str(folder),
        val_dataloader=DataLoader([dict(inputs=torch.ones(2, 2))]),
        val_cfg=dict(fp16=True),
        val_evaluator=dict(type='Types'),
        **settings,
    )


def test_metrics_can_read_predictions_of_autocast(tmp_path) -> None:
    validation = runner(tmp_path)
    validation.register_hook(FloatPredictionsHook())

    assert validation.val() == {'types': {'float32'}}


def test_all_kinds_of_predictions_are_converted() -> None:
    half = torch.ones(2, 2, 2, dtype=torch.bfloat16)
    sample = BaseDataElement(
        pred_instances=InstanceData(scores=half[0], labels=torch.tensor([1, 2])),
        pred_sem_seg=PixelData(data=half),
        pred_scores=half,
    )

    (converted,), rest = as_float32([[sample], {'a': half, 'b': 'text'}])

    assert converted.pred_instances.scores.dtype == torch.float32
    assert converted.pred_instances.labels.dtype == torch.int64
    assert converted.pred_sem_seg.data.dtype == converted.pred_scores.dtype == torch.float32
    assert (rest['a'].dtype, rest['b']) == (torch.float32, 'text')
