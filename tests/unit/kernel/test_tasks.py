"""Background tasks: a death is news, a drain lets work finish within its bound."""

import asyncio

from lambent.kernel.tasks import Tasks


class Deaths(list[tuple[str, BaseException | None]]):
    def __call__(self, name: str, failure: BaseException | None) -> None:
        self.append((name, failure))


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_a_failure_is_handed_to_on_death_with_the_tasks_name() -> None:
    deaths, failure = Deaths(), ValueError("no")

    async def fail() -> None:
        raise failure

    tasks = Tasks("owner", on_death=deaths)
    tasks.once("work", fail())
    await settle()
    assert deaths == [("owner: work", failure)]
    assert len(tasks) == 0


async def test_the_end_of_a_task_that_should_run_forever_is_a_death() -> None:
    deaths = Deaths()

    async def end() -> None: ...

    tasks = Tasks("owner", on_death=deaths)
    tasks.forever("loop", end())
    tasks.once("step", end())
    await settle()
    assert deaths == [("owner: loop", None)]


async def test_drain_lets_work_finish_and_cancels_what_runs_forever() -> None:
    deaths, release, done = Deaths(), asyncio.Event(), []

    async def work() -> None:
        await release.wait()
        done.append(True)

    async def loop() -> None:
        await asyncio.Event().wait()

    tasks = Tasks("owner", on_death=deaths)
    tasks.once("work", work())
    running = tasks.forever("loop", loop())
    draining = asyncio.ensure_future(tasks.drain(30))
    await settle()
    assert running.cancelled()
    release.set()
    assert await draining == 0
    assert (done, deaths, len(tasks)) == ([True], [], 0)


async def test_drain_cuts_off_what_is_late_and_says_how_many() -> None:
    tasks = Tasks("owner")
    late = tasks.once("late", asyncio.Event().wait())
    await settle()
    assert await tasks.drain(0) == 1
    assert late.cancelled()
