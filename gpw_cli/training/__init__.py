"""The training loop, schedules, evaluation, resuming."""
