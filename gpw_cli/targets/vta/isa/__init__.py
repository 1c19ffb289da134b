"""What a VTA program is: geometry, bit fields, instructions, token queues, the DRAM image."""
