"""``gpw run``, and a command per stage that runs everything up to and including it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from gpw_cli.cli.arguments import ConfigDir, DryRun, Json, Overrides
from gpw_cli.cli.console import emit, listener, say
from gpw_cli.stages.names import STAGES

if TYPE_CHECKING:
    from gpw_cli.stages.pipeline import Step
    from gpw_cli.store.store import Artifact, Store

STORED = "stored"
PURPOSES = {
    "pretrain": "Train the dense network, or read its weights.",
    "prune": "Choose the groups of weights to remove, and make the mask.",
    "finetune": "Train the pruned network with the mask held.",
    "quantize": "Calibrate, and round weights and activations to integers.",
    "fuse": "Fuse layers, so that each sum is rounded once.",
}


def commands() -> dict[str, Callable[..., None]]:
    """``run`` and the commands of the stages, except simulate, which has its own options."""
    found = {"run": _command(STAGES[-1], "All six stages, from a dense network to its cycles.")}
    for name in STAGES[:-1]:
        before = " Missing stages before it run first." if name != STAGES[0] else ""
        found[name] = _command(name, PURPOSES[name] + before)
    return found


def _command(until: str, text: str) -> Callable[..., None]:
    def command(
        overrides: Overrides = None,
        json: Json = False,
        dry_run: DryRun = False,
        config_dir: ConfigDir = None,
    ) -> None:
        from gpw_cli.config.compose import compose
        from gpw_cli.stages.ignored import refuse_idle
        from gpw_cli.stages.pipeline import plan, run
        from gpw_cli.stages.preflight import Wanted, preflight
        from gpw_cli.stages.services import open_services

        config = compose(overrides or [], config_dir)
        refuse_idle(config, overrides or [])
        services = open_services(config, listener())
        steps = plan(config, until)
        if dry_run:
            print_plan(steps, services.store, json)
        preflight([Wanted(config, steps)], services.store)
        if dry_run:
            return
        artifacts = run(config, services, until)
        if json:
            emit({n: {"key": a.key, "metrics": a.metrics} for n, a in artifacts.items()})
            return
        print_metrics(artifacts)
        print_answer(artifacts)
        say(f"artifacts: {services.store.root}")

    command.__doc__ = text
    return command


def print_metrics(artifacts: Mapping[str, Artifact]) -> None:
    """Print one line per stage on stdout."""
    for name, artifact in artifacts.items():
        print(f"{name:9} {artifact.key}  {_shown(artifact.metrics)}")


def print_answer(artifacts: Mapping[str, Artifact]) -> None:
    """Print speed-up and accuracy in one line, if a network was simulated."""
    if "simulate" not in artifacts:
        return
    before, here = artifacts["pretrain"].metrics, artifacts["simulate"].metrics
    dense, own = before["test_accuracy"], here["test_accuracy"]
    whose = f"by the {here['accuracy_of']}" if "accuracy_of" in here else "on the NPU"
    changed = "prune" in artifacts or "finetune" in artifacts
    floats = "dense" if changed else "the same weights"
    parts = [_accuracies(dense, own, before["n_test"], here["n_test"], whose, floats)]
    time = f"{here['cycles']:,} cycles, {here['milliseconds']:.3f} ms at {here['clock_mhz']:g} MHz"
    if here.get("gemm_weights_uops") == 0:
        time += ": cut through, a layer lost all weights and every image gets the same answer"
    elif here.get("dense_cycles") and (
        "prune" in artifacts or here["dense_cycles"] > here["cycles"]
    ):
        faster = here["dense_cycles"] / here["cycles"]
        time += f": {faster:.2f} times faster than dense ({here['dense_cycles']:,})"
        if here.get("hypothetical"):
            time += f", hypothetical: {here['hypothetical']}"
    parts.append(time)
    parts.append(f"bound {here['bound_cycles']:,}; {here['dram_bytes']:,} DRAM bytes")
    budget = artifacts["prune"].metrics.get("budget_cycles") if "prune" in artifacts else None
    if budget and here["cycles"] > budget:
        over = here["cycles"] - budget
        parts.append(
            f"{over:,} cycles above the budget of {budget:,}, because fine-tuning changed the "
            "scales, hence the shifts: a larger pruning.margin leaves more room"
        )
    print("answer    " + "; ".join(parts))


def _accuracies(dense: float, own: float, before: int, here: int, whose: str, floats: str) -> str:
    """Accuracies of other images have no difference to state."""
    texts = (f"accuracy {own:.2f} % {whose}", f"{floats} {dense:.2f} % in fp32")
    if before == here:
        return f"{', '.join(texts)}: {own - dense:+.2f} (n = {here:,})"
    return f"{texts[0]} (n = {here:,}), {texts[1]} (n = {before:,})"


def _shown(metrics: dict[str, Any]) -> str:
    parts = []
    if "test_accuracy" in metrics:
        parts.append(f"{metrics['test_accuracy']:.2f} % of {metrics['n_test']:,} test images")
    if metrics.get("recipe"):
        epochs = f"{metrics['epochs']} epoch{'' if metrics['epochs'] == 1 else 's'}"
        parts.append(f"recipe {metrics['recipe']}, {epochs}, one seed")
    if "weight_bits" in metrics:
        bits = f"{metrics['weight_bits']}-bit weights, {metrics['act_bits']}-bit activations"
        parts.append(f"{bits}, unfused")
    if "fusion" in metrics:
        parts.append(f"fusion {metrics['fusion']}")
    if "cycles" in metrics:
        parts.append(f"{metrics['cycles']:,} cycles")
    if "groups_total" in metrics:
        parts.append(f"{metrics['groups_removed']} of {metrics['groups_total']} groups removed")
    return "; ".join(parts)


def print_plan(steps: Sequence[Step], store: Store, json: bool) -> None:
    """Print all stages with their keys, and whether the store has them."""
    states = [state_of(store, step) for step in steps]
    if json:
        rows = zip(steps, states, strict=True)
        emit(
            [{"stage": s.stage.name, "key": s.key, "stored": state == STORED} for s, state in rows]
        )
        return
    for step, state in zip(steps, states, strict=True):
        print(f"{step.stage.name:9} {step.key}  {state}")


def state_of(store: Store, step: Step) -> str:
    """``stored``, ``to run``, or ``to run again`` with the damage. Changes nothing."""
    reading = store.look(step.stage.name, step.key, step.parent)
    if reading.complete:
        return STORED
    return f"to run again (damaged: {reading.damage})" if reading.there else "to run"
