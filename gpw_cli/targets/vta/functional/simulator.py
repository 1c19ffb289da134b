"""Functional simulation of the encoded program: the integers that VTA computes, for many images.

    result = simulate(program, images)        # int8 [N, C, H, W] -> result.logits [N, classes]
    dram = final_dram(program, images[0])     # the whole DRAM after the run

The program is decoded, checked (check/rules.py) and planned (plan.py) once, then run batch by
batch.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from gpw_cli.arrays import Int8, Int32
from gpw_cli.errors import DataError
from gpw_cli.targets.vta.check.rules import check
from gpw_cli.targets.vta.functional.machine import Machine
from gpw_cli.targets.vta.functional.plan import ExecutionPlan, execution_plan
from gpw_cli.targets.vta.isa.program import REGION_ALIGN, Bytes, Program
from gpw_cli.threads import each

_BATCH = 64  # images at once, so that a gathered tile of a layer stays in the cache


@dataclass(frozen=True, eq=False)
class FunctionalResult:
    """``logits``: int32 [N, classes]. ``macs``: multiply-accumulates per image."""

    logits: NDArray[np.int32]
    macs: int


def simulate(program: Program, inputs: Int8, batch: int = _BATCH) -> FunctionalResult:
    """Runs ``program`` on int8 [N, C, H, W], ``batch`` images at once in each thread.

    Raises ProgramError for a program that breaks a rule of the hardware, DataError for images
    of another shape or type.
    """
    return Simulator(program, min(batch, max(len(inputs), 1))).run(inputs)


def final_dram(program: Program, image: Int8) -> Bytes:
    """The whole DRAM, uint8, after a run on one image int8 [C, H, W]."""
    return Simulator(program, 1).final_dram(image)


class Simulator:
    """A checked and planned program for ``batch`` images at once (at least VTA's own batch)."""

    def __init__(self, program: Program, batch: int = _BATCH) -> None:
        self.report = check(program)
        self.program, self.spec = program, program.spec
        self.plan = execution_plan(program)
        self.instances = -(-batch // program.spec.batch)
        self.batch = self.instances * program.spec.batch
        self._idle: list[_Bound] = []  # machines of earlier runs

    def run(self, inputs: Int8) -> FunctionalResult:
        """Logits of int8 [N, C, H, W].

        Each thread takes whole batches, which keeps all cores busy despite many small operations.
        """
        self._check_inputs(inputs)
        batches = [inputs[at : at + self.batch] for at in range(0, len(inputs), self.batch)]
        none = np.zeros((0, self.program.classes), np.int32)
        logits = np.concatenate([none, *each(self._work, batches)])
        macs = self.plan.uops * self.spec.block_in * self.spec.block_out
        return FunctionalResult(logits, macs)

    def _work(self, images: Int8) -> Int32:
        """Logits of one batch, on a machine that no other thread uses."""
        try:
            bound = self._idle.pop()
        except IndexError:
            bound = _Bound(self.program, self.plan, self.instances)
        bound.run(images)
        logits = bound.logits()[: len(images)].copy()
        self._idle.append(bound)
        return logits

    def final_dram(self, image: Int8) -> Bytes:
        """The whole DRAM after a run with int8 [C, H, W] as the first image."""
        self._check_inputs(image[None])
        bound = _Bound(self.program, self.plan, 1)
        bound.run(image[None])
        pages, length = self.plan.pages, len(self.program.dram)
        dram = np.zeros((len(pages.slot), REGION_ALIGN), np.uint8)
        dram.reshape(-1)[:length] = self.program.dram
        dram[pages.slot >= 0] = (
            bound.machine.dram[:, 0].numpy().view(np.uint8).reshape(-1, REGION_ALIGN)
        )
        return dram.reshape(-1)[:length]

    def _check_inputs(self, inputs: Int8) -> None:
        if inputs.dtype != np.int8 or inputs.shape[1:] != self.program.input_shape:
            raise DataError(
                f"images {inputs.dtype} {list(inputs.shape[1:])}: the program takes int8 "
                f"{list(self.program.input_shape)}"
            )


class _Bound:
    """A plan bound to the tensors of one machine."""

    def __init__(self, program: Program, plan: ExecutionPlan, instances: int) -> None:
        self.program, self.pages = program, plan.pages
        self.machine = Machine(program.spec, plan.pages, program.dram, instances)
        self.operations = [op for step in plan.steps for op in step.bind(self.machine)]

    def run(self, images: Int8) -> None:
        packed = pack_input(self.program, images, self.machine.instances)
        self._held(self.program.input).copy_(torch.from_numpy(packed))
        for operation in self.operations:
            operation()

    def logits(self) -> NDArray[np.int32]:
        """Logits of all images, including unused places of the batch."""
        planes = self._held(self.program.output).transpose(0, 1)
        return unpack_output(self.program, planes.reshape(self.machine.instances, -1).numpy())

    def _held(self, name: str) -> torch.Tensor:
        """A region's bytes on the machine: int8 [granules, instances, granule]."""
        region, granule = self.program.region(name), self.machine.granule
        begin = self.pages.address(region.offset) // granule
        return self.machine.dram[begin : begin + region.length // granule]


def pack_input(program: Program, images: Int8, instances: int) -> Int8:
    """Images [n, C, H, W] as the instances' input regions, int8 [granules, instances, granule].

    Places without an image are zero.
    """
    spec, layout = program.spec, program.input_layout
    full = np.zeros((instances * spec.batch, *program.input_shape), np.int8)
    full[: len(images)] = images
    laid = layout.lay_out(full)
    channels, height, width = laid.shape[1:]
    blocks = -(-channels // spec.block_in)
    padded = np.zeros((len(laid), blocks * spec.block_in, height, width), np.int8)
    padded[:, :channels] = laid
    split = padded.reshape(instances, spec.batch, blocks, spec.block_in, height, width)
    region = split.transpose(0, 2, 4, 5, 1, 3).reshape(instances, -1, min(spec.tile) * spec.batch)
    return np.ascontiguousarray(region.transpose(1, 0, 2))


def unpack_input(program: Program, region: Int8) -> Int8:
    """The first image, int8 [C, H, W], in the bytes of an input region."""
    spec, layout = program.spec, program.input_layout
    channels, height, width = layout.shape(program.input_shape)
    split = region.reshape(-1, height, width, spec.batch, spec.block_in)[:, :, :, 0]
    laid = split.transpose(0, 3, 1, 2).reshape(-1, height, width)[:channels]
    return layout.image(laid, program.input_shape)


def unpack_output(program: Program, planes: Int8) -> NDArray[np.int32]:
    """The output region [instances, bytes] as logits int32 [instances * batch, classes]."""
    spec = program.spec
    channels, height, width = program.output_shape
    shape = (len(planes), program.output_bits // 8, -1, height, width, spec.batch, spec.block_out)
    split = planes.view(np.uint8).reshape(shape).astype(np.uint32)
    weight = np.uint32(1) << (8 * np.arange(shape[1], dtype=np.uint32))
    whole = (split * weight.reshape(-1, 1, 1, 1, 1, 1)).sum(axis=1, dtype=np.uint32)
    unused = np.uint32(32 - program.output_bits)
    signed = (whole << unused).view(np.int32) >> np.int32(unused)
    logits = signed.transpose(0, 4, 1, 5, 2, 3)  # instances, batch, blocks, block_out, H, W
    logits = logits.reshape(-1, logits.shape[2] * spec.block_out, height, width)[:, :channels]
    return np.ascontiguousarray(logits.reshape(len(logits), -1))
