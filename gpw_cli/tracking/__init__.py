"""Experiment trackers: TensorBoard and MLflow, both optional, behind one small protocol."""
