from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from gen2act_contracts.spec import ActionSpec
from gen2act_policy.goals import Store
from gen2act_policy.runtime import Runtime
from gen2act_policy.testing import FakeRuntime, small_spec, write_random_bundle
from gen2act_policy.testing.harness import ServedPolicy, serving, video_store

Serve = Callable[..., Awaitable[ServedPolicy]]


@pytest.fixture
def spec() -> ActionSpec:
    return small_spec()


@pytest.fixture
def bundle_dir(tmp_path: Path, spec: ActionSpec) -> Path:
    """A bundle of its own for each test, to be damaged at will."""
    directory = tmp_path / "bundle"
    write_random_bundle(directory, spec)
    return directory


@pytest.fixture
async def serve(spec: ActionSpec) -> AsyncIterator[Serve]:
    """Starts policies on free ports; all are stopped at the end."""
    async with AsyncExitStack() as stack:

        async def start(
            runtime: Runtime | None = None,
            store: Store | None = None,
            *,
            spec: ActionSpec = spec,
            max_rollouts: int = 256,
        ) -> ServedPolicy:
            runtime = runtime or FakeRuntime(spec)
            store = store or video_store()
            return await stack.enter_async_context(
                serving(runtime, spec, store, max_rollouts=max_rollouts)
            )

        yield start


@pytest.fixture
async def policy(serve: Serve) -> ServedPolicy:
    """A policy with a fake runtime and a store with one video, `v1`."""
    return await serve()
