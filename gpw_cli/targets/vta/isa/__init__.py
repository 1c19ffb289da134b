"""A VTA program: geometry, bit fields, instructions, token queues and the DRAM image."""
