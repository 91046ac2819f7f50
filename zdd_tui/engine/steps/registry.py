"""The registry of steps: the key in the strategy and the object that runs and undoes the step."""

from collections.abc import Mapping
from typing import Protocol

from zdd_tui.engine.context import Context, StepHandle
from zdd_tui.engine.steps import (
    backfill,
    blue_green,
    canary,
    contract,
    cutover,
    dark_launch,
    dual_write,
    expand,
    fills,
    new_side,
    operations,
    witness,
    workload,
)


class Step(Protocol):
    """One idempotent effect with its undo. Both may be interrupted anywhere and are then called again."""

    async def run(self, ctx: Context, step: StepHandle) -> None: ...

    async def undo(self, ctx: Context, step: StepHandle) -> None: ...


STEPS: Mapping[str, Step] = {
    "lint-ddl": expand.LintDdl(),
    "expand-schema": expand.ExpandSchema(),
    "create-indexes": expand.CreateIndexes(),
    "sync-forward": expand.SyncForward(),
    "rollout-v2": dual_write.RolloutV2(),
    "create-witness": witness.CreateWitness(),
    "write-flag-on": dual_write.WriteFlagOn(),
    "prepare-backfill": backfill.PrepareBackfill(),
    "backfill-rows": backfill.CopyRows(),
    "verify-rows": backfill.VerifyRows(),
    "sync-reverse": cutover.SyncReverse(),
    "extend-witness": witness.ExtendWitness(),
    "compare-recent-writes": witness.CompareRecentWrites(),
    "read-ramp": cutover.ReadRamp(),
    "read-flag-on": cutover.ReadFlagOn(),
    "soak": cutover.Soak(),
    "rollout-v3": cutover.RolloutV3(),
    "advance-sequences": new_side.AdvanceSequences(),
    "default-new-side": new_side.DefaultNewSide(),
    "constrain-new-side": new_side.ConstrainNewSide(),
    "archive-old-side": contract.ArchiveOldSide(),
    "delete-flags": contract.DeleteFlags(),
    "drop-witness": witness.DropWitness(),
    "drop-archive": contract.DropArchive(),
    "analyze": contract.AnalyzeTable(),
    "remove-annotations": contract.RemoveAnnotations(),
    "check-rows": operations.CheckRows(),
    "run-operation": operations.RunOperation(),
    "prepare-fills": fills.PrepareFills(),
    "fill-rows": operations.RunOperation(),
    "record-workload": workload.RecordWorkload(),
    "rollout-new": workload.RolloutNew(),
    "create-canary": canary.CreateCanary(),
    "set-weight": canary.SetWeight(),
    "remove-canary": canary.RemoveCanary(),
    "acquire-service": blue_green.AcquireService(),
    "create-green": blue_green.CreateGreen(),
    "create-preview": blue_green.CreatePreview(),
    "smoke-checks": blue_green.SmokeChecks(),
    "switch-to-green": blue_green.SwitchToGreen(),
    "switch-to-stable": blue_green.SwitchToStable(),
    "remove-green": blue_green.RemoveGreen(),
    "remove-preview": blue_green.RemovePreview(),
    "release-service": blue_green.ReleaseService(),
    "set-shadow": dark_launch.SetShadow(),
    "set-read": dark_launch.SetRead(),
    "shadow-off": dark_launch.ShadowOff(),
}
