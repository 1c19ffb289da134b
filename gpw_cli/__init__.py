"""gpw: prune, fine-tune, quantize, compile and time CNNs for a vector-engine NPU."""
