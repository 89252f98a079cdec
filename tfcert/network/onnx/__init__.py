"""The frontend of ONNX models."""
