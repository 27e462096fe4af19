"""Exported models: ONNX by either of PyTorch's exporters, and programs of ``torch.export``."""
