"""Composition root: settings, model, store and gRPC put together. `python -m gen2act_policy`."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from gen2act_contracts import pb
from gen2act_contracts.errors import BundleInvalid
from gen2act_policy.bundle import Bundle, load_bundle
from gen2act_policy.core import PolicyCore
from gen2act_policy.cost import CostTable
from gen2act_policy.edge import PolicyServicer
from gen2act_policy.metrics import PolicyMetrics
from gen2act_policy.runtime import OnnxRuntime, cores, fitted_runtime, measure_costs
from gen2act_policy.settings import PolicySettings
from gen2act_policy.store import RedisStore
from gen2act_servicekit import GrpcService, describe, logs, redis, runner
from gen2act_servicekit.metrics import REGISTRY

log = logs.get(__name__)


async def serve() -> None:
    settings = PolicySettings()
    logs.configure("policy", settings.log_level, settings.log_format)
    log.info("starting", **describe(settings))
    client = redis.connect(settings.redis_url)
    service = GrpcService.from_settings("policy", settings)
    servicer = PolicyServicer(idle_timeout_s=settings.rollout_idle_s)
    service.add(
        pb.policy_grpc.add_PolicyServicer_to_server,
        servicer,
        pb.policy.DESCRIPTOR.services_by_name["Policy"],
    )
    service.at_drain(client.aclose)
    # One image takes a third of a millisecond, a video up to a second: apart from each other.
    decoder = ThreadPoolExecutor(1, thread_name_prefix="decode")
    videos = ThreadPoolExecutor(1, thread_name_prefix="video")
    core: PolicyCore | None = None
    try:
        # Live before the model is loaded, ready after.
        await service.start()
        await service.set_model_loaded(False)
        model = await asyncio.to_thread(load, settings)
        core = PolicyCore(
            model.runtime,
            model.bundle.spec,
            RedisStore(client),
            PolicyMetrics(REGISTRY),
            model_name=model.bundle.name,
            goal_samples=model.bundle.goal_frames,
            encode_cost=model.encode_cost,
            step_cost=model.step_cost,
            workers=model.workers,
            decoder=decoder,
            videos=videos,
            max_rollouts=settings.max_rollouts,
            max_batch=settings.max_batch,
            cached_goals=settings.cached_goals,
        )
        core.start()
        servicer.serve(core)
        await service.set_model_loaded(True)
        await service.set_ready(True)
        drain = asyncio.create_task(_drain_with(service, core))
        await service.run_until_signal()
        await drain
    finally:
        await service.stop()
        if core is not None:
            core.stop()
        decoder.shutdown(wait=False, cancel_futures=True)
        videos.shutdown(wait=False, cancel_futures=True)


class Model(NamedTuple):
    """A loaded model, and how it is best run on this machine."""

    bundle: Bundle
    runtime: OnnxRuntime
    encode_cost: CostTable
    step_cost: CostTable
    workers: int  # batches at a time


def load(settings: PolicySettings) -> Model:
    """Reads, checks, warms up and measures the model. Blocking, seconds.

    Raises `BundleInvalid`, `ProviderMissing`.
    """
    bundle = load_bundle(settings.bundle)
    if bundle.conditioning == "language":
        raise BundleInvalid(
            f"{settings.bundle} is conditioned on language, but this service follows videos; "
            "judge it with gen2act-eval, or set GEN2ACT_BUNDLE to a bundle that follows videos",
            bundle=str(settings.bundle),
        )
    runtime = fitted_runtime(bundle, settings.provider, settings.threads)
    # A GPU runs one batch after the other.
    workers = 1 if settings.provider == "cuda" else max(1, cores() // runtime.threads)
    encode_cost, step_cost = measure_costs(runtime, bundle.spec, settings.max_batch)
    log.info(
        "model_loaded",
        model=bundle.name,
        model_hash=bundle.model_hash,
        provider=runtime.provider,
        encode_ms=round(1e3 * encode_cost.estimate(1), 2),
        step_ms=round(1e3 * step_cost.estimate(1), 2),
        largest_batch=max(step_cost.sizes),
        threads=runtime.threads,
        workers=workers,
    )
    return Model(bundle, runtime, encode_cost, step_cost, workers)


async def _drain_with(service: GrpcService, core: PolicyCore) -> None:
    """Sends open rollouts to another replica as soon as the service drains."""
    await service.draining.wait()
    core.drain()


if __name__ == "__main__":
    runner.main(serve)
