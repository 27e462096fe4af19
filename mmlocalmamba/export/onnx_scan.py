"""The recurrence of a scan as ONNX's standard operator ``Scan``.

This file needs onnxscript. It reads annotations, which must not be postponed.
"""

from onnxscript import FLOAT, graph, script
from onnxscript import opset18 as op
from onnxscript.values import Opset

DOMAIN = 'mmlocalmamba'


@script(Opset(DOMAIN, 1))
def selective_recurrence(
    state: FLOAT[...], dt: FLOAT[...], du: FLOAT[...], A: FLOAT[...], B: FLOAT[...], C: FLOAT[...]
) -> FLOAT[...]:
    """Run the recurrence over the first axis; arguments as in :func:`mmlocalmamba.ops.plain_scan.recurrence`.

    ``state`` is the first one, (K, Bt, N, D).
    """

    @graph()
    def step(before, dt_l, du_l, B_l, C_l):  # type: ignore[no-untyped-def]
        after = op.Exp(dt_l * A) * before + du_l * B_l
        y_l = op.MatMul(C_l, after)
        return after, y_l

    _last, y = op.Scan(state, dt, du, B, C, body=step, num_scan_inputs=4)
    return y
