"""VTA, the open vector-engine NPU of Apache TVM."""
