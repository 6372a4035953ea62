"""Many talks in one run: `backfill` brings every talk of the inbox (or those named) up to date, one after the other.

Dagster's own single-run backfills give all partitions of a run one data version and one set of tags, and mark a rejected
talk as materialised. Here each talk has its own events, the same as a run of that talk alone would leave: what is up to
date is passed over, a rejected talk is noted with its reason, a talk that fails spares the others, and a run that is
ended midway keeps what it has done.
"""

import time
from collections.abc import Iterable
from typing import Any

from dagster import (
    AssetCheckEvaluation,
    AssetCheckSeverity,
    AssetKey,
    AssetMaterialization,
    Config,
    Failure,
    MetadataValue,
    OpExecutionContext,
    job,
    op,
)

from assets_defs.checks import OF_A_TALK
from assets_defs.lineage import (
    DATA_VERSION_TAG,
    external_inputs,
    failed_checks,
    hash_external,
    talk_source,
    was_rejected,
    why_stale,
)
from assets_defs.metadata import provenance_tags, rejection, shown_with
from assets_defs.resources import Settings
from assets_defs.talks import TALKS, WORK
from configs import schema
from pipelines.faults import may_pass
from pipelines.store import Record, Store

TELL_EVERY = 50  # talks between two lines of the log


class Talks(Config):
    """Which talks; none named: all that are in the inbox."""

    talks: list[str] = []


@op(description=__doc__.split("\n")[0])
def bring_talks_up_to_date(context: OpExecutionContext, config: Talks, settings: Settings) -> None:
    """Errors: Failure at the end, where talks failed for another reason than what they are."""
    from pipelines.ingest import describe

    loaded, store = settings.load()
    inbox = describe(loaded, store)
    unknown = sorted(set(config.talks) - set(inbox))
    if unknown:
        raise Failure(f"expected talks of the inbox {store.inbox}, got {unknown[:5]}", allow_retries=False)
    chosen = config.talks or sorted(inbox)
    context.instance.add_dynamic_partitions(TALKS.name or "", chosen)
    batch = Batch(context, loaded, store, {talk: inbox[talk] for talk in chosen})
    batch.run(chosen)
    again = [talk for talk, state in batch.states.items() if state == "try again"]
    batch.run(again)
    counts = {state: list(batch.states.values()).count(state) for state in sorted(set(batch.states.values()))}
    context.log.info(f"{len(chosen)} talks: {counts}")
    context.add_output_metadata({"talks": len(chosen), **{state.replace(" ", "_"): count for state, count in counts.items()}})
    if batch.faults:
        first = "; ".join(f"{talk}: {fault}" for talk, fault in list(batch.faults.items())[:3])
        told = MetadataValue.json(dict(list(batch.faults.items())[:100]))
        raise Failure(f"{len(batch.faults)} of {len(chosen)} talks failed: {first}", {"failed": told}, allow_retries=False)


@job(name="backfill", description="All talks of the inbox, or those named, in one run: ingest, cut, fit, speech features")
def backfill_job() -> None:
    bring_talks_up_to_date()


class Batch:
    """The talks of one run, and what became of each: 'made', 'up to date', 'rejected', 'check failed', 'try again', 'failed'."""

    def __init__(self, context: OpExecutionContext, config: schema.Config, store: Store, inbox: dict[str, Any]):
        self.context, self.config, self.store, self.inbox = context, config, store, inbox
        self.instance = context.instance
        self.graph: Any = _graph()
        self.states: dict[str, str] = {}
        self.faults: dict[str, str] = {}

    def run(self, talks: Iterable[str]) -> None:
        for number, talk in enumerate(talks, 1):
            self.faults.pop(talk, None)
            try:
                self.states[talk] = self._talk(talk)
            except Exception as error:  # one talk spares the others; the run fails at its end
                self.context.log.exception(f"{talk} failed")
                self.states[talk], self.faults[talk] = "failed", str(error).strip().splitlines()[-1] if str(error) else repr(error)
            if number % TELL_EVERY == 0:
                self.context.log.info(f"{number} talks: {talk} {self.states[talk]}")

    def _talk(self, talk: str) -> str:
        stopped: dict[AssetKey, str] = {}
        made = False
        for name in WORK:
            key = AssetKey(name)
            if not stopped.keys() & self.graph.get(key).parent_keys:
                state = self._asset(key, talk)
                made |= state == "made"
                if state not in ("made", "up to date"):
                    stopped[key] = state
            else:
                stopped[key] = next(iter(stopped.values()))
        return next(iter(stopped.values())) if stopped else "made" if made else "up to date"

    def _asset(self, key: AssetKey, talk: str) -> str:
        name = key.to_user_string()
        external = self._external(name, talk)
        question = (self.instance, self.graph, key, talk, external)
        if why_stale(*question) is None:
            return "check failed" if failed_checks(self.instance, self.graph, key, talk) else "up to date"
        if was_rejected(*question):
            return "rejected"
        start = time.perf_counter()
        record = WORK[name](self.config, self.store, talk)
        if record.status == "rejected" and may_pass(record):
            self.faults[talk] = record.reason
            return "try again"
        if record.status == "rejected":
            self.context.log_event(rejection(self.instance, self.graph, key, talk, record, external))
            return "rejected"
        self._report(key, talk, record, external, time.perf_counter() - start)
        return "made" if self._hold(key, talk) else "check failed"

    def _external(self, name: str, talk: str) -> str:
        if name == "talk_videos":  # the inbox was looked through once, for all
            return hash_external(name, self.config, self.store, talk_source(self.config, *self.inbox[talk]))
        return external_inputs(name, self.config, self.store, talk)

    def _report(self, key: AssetKey, talk: str, record: Record, external: str, wall: float) -> None:
        tags = {DATA_VERSION_TAG: record.output_hash, **provenance_tags(self.instance, self.graph, key, talk, external)}
        metadata = shown_with(key.to_user_string(), self.config, record, wall)
        self.context.log_event(AssetMaterialization(key, partition=talk, metadata=metadata, tags=tags))

    def _hold(self, key: AssetKey, talk: str) -> bool:
        """Run the asset's checks and note their results; whether no blocking one failed."""
        hold = True
        for name, blocking, check in OF_A_TALK.get(key.to_user_string(), []):
            result = check(self.store, talk)
            noted = AssetCheckEvaluation(
                asset_key=key, check_name=name, passed=result.passed, metadata=result.metadata, partition=talk,
                severity=result.severity, blocking=blocking, description=result.description,
            )  # fmt: skip
            self.context.log_event(noted)
            hold &= result.passed or not blocking or result.severity != AssetCheckSeverity.ERROR
        return hold


def _graph() -> Any:
    from assets_defs.definitions import defs

    return defs.resolve_asset_graph()
