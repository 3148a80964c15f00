"""Stands in for the module `ray`: actors are objects of this process, their calls threads."""

from collections.abc import Callable
from concurrent import futures
from concurrent.futures import Future, ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any, ClassVar


class RayError(Exception):
    pass


class RayActorError(RayError):
    pass


class RayTaskError(RayError):
    def __init__(self, cause: BaseException) -> None:
        super().__init__(f"a traceback, then {cause}")
        self.cause = cause


class Actor:
    """An object whose methods are called in threads until it is killed."""

    def __init__(self, inside: Any, threads: int) -> None:
        self._inside, self._pool = inside, ThreadPoolExecutor(threads)
        self._calls: list[Future[Any]] = []
        self.is_dead = False

    def __getattr__(self, method: str) -> Any:
        return SimpleNamespace(
            remote=lambda *args, **options: self._call(getattr(self._inside, method), args, options)
        )

    def _call(self, method: Callable[..., Any], args: Any, options: Any) -> "Future[Any]":
        call: Future[Any] = Future()
        self._calls.append(call)

        def run() -> None:
            try:
                result = method(*args, **options)
            except BaseException as error:
                self._settle(call, RayTaskError(error))
            else:
                self._settle(call, None, result)

        if self.is_dead:
            self._settle(call, RayActorError("the actor is dead"))
        else:
            self._pool.submit(run)
        return call

    def _settle(self, call: "Future[Any]", error: BaseException | None, result: Any = None) -> None:
        if call.done():  # the actor was killed meanwhile
            return
        call.set_exception(error) if error is not None else call.set_result(result)

    def kill(self) -> None:
        self.is_dead = True
        for call in self._calls:
            self._settle(call, RayActorError("the actor died"))


class Meter:
    """Stands in for Ray's counters and gauges; adds up or remembers, by tags."""

    values: ClassVar[dict[str, dict[str, float]]] = {}

    def __init__(self, name: str, _: str, tag_keys: tuple[str, ...] = ()) -> None:
        self._mine = self.values.setdefault(name, {})

    def inc(self, value: float) -> None:
        self._mine[""] = self._mine.get("", 0) + value

    def set(self, value: float, tags: dict[str, str]) -> None:
        self._mine[tags["stage"]] = value


class ThreadsAsRay:
    """What the driver uses of the module `ray`.

    Args:
        make: returns the object behind the next actor.
        machines: resources of the nodes, which tests may change.
    """

    exceptions = SimpleNamespace(RayError=RayError, RayTaskError=RayTaskError)
    util = SimpleNamespace(metrics=SimpleNamespace(Counter=Meter, Gauge=Meter))

    def __init__(self, make: Callable[[], Any], machines: list[dict[str, float]]) -> None:
        self._make, self.machines = make, machines
        self.actors: list[Actor] = []

    def nodes(self) -> list[dict[str, Any]]:
        return [{"Alive": True, "Resources": machine} for machine in self.machines] + [
            {"Alive": False, "Resources": {}}
        ]

    def remote(self, _: type) -> Any:
        def options(*, max_concurrency: int, **__: Any) -> Any:
            def begin() -> Actor:
                self.actors.append(Actor(self._make(), max_concurrency))
                return self.actors[-1]

            return SimpleNamespace(remote=begin)

        return SimpleNamespace(options=options)

    def wait(
        self, calls: list["Future[Any]"], *, num_returns: int, timeout: float
    ) -> tuple[list["Future[Any]"], list["Future[Any]"]]:
        when = futures.FIRST_COMPLETED if num_returns == 1 else futures.ALL_COMPLETED
        done, _ = futures.wait(calls, timeout, when)
        ended = [call for call in calls if call in done][:num_returns]
        return ended, [call for call in calls if call not in ended]

    def get(self, call: "Future[Any]") -> Any:
        return call.result()

    def kill(self, actor: Actor) -> None:
        actor.kill()
