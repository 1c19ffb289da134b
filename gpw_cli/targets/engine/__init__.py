"""Vector engines as an analytic model: NVDLA, DNNWeaver, Simba, MAERI. Cycles only."""
