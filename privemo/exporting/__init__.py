"""A finished run as one signed ONNX file for the apps of stores; needs the extra `privemo[export]`."""

from privemo.exporting.export import export

__all__ = ["export"]
