"""The stage names, for the command line: importing this costs nothing."""

STAGES = ("pretrain", "prune", "finetune", "quantize", "fuse", "simulate")
