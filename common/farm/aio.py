"""A job in an event loop of asyncio: what blocks runs in a thread, one step at a time."""

import threading
from collections.abc import AsyncGenerator, Callable
from typing import TYPE_CHECKING, Any

from .outcomes import Page, RowStream

if TYPE_CHECKING:
    from asyncio import Future


class Step:
    """A call that runs in a thread; the event loop goes on meanwhile."""

    def __init__(self, call: Callable[[], Any]) -> None:
        # Here, because most programs have no event loop.
        import asyncio

        self._call = call
        self._loop = asyncio.get_running_loop()
        self._future: Future[Any] = self._loop.create_future()
        # A daemon: the end of the program does not wait for it.
        self.thread = threading.Thread(target=self._run, name="tradewind-step", daemon=True)
        self.thread.start()

    async def result(self) -> Any:
        """What the call returns; raises what it raises."""
        return await self._future

    @property
    def is_running(self) -> bool:
        """True while the call has not returned."""
        return self.thread.is_alive()

    def _run(self) -> None:
        try:
            found, error = self._call(), None
        except BaseException as raised:
            found, error = None, raised
        try:
            self._loop.call_soon_threadsafe(self._settle, found, error)
        except RuntimeError:
            # The event loop is closed: nobody waits.
            return

    def _settle(self, found: Any, error: BaseException | None) -> None:
        if self._future.done():
            return
        if error is None:
            self._future.set_result(found)
        else:
            self._future.set_exception(error)


async def pages_async(stream: RowStream[Page], halt: Callable[[], None]) -> AsyncGenerator[Page, None]:
    """The pages of the stream, which is closed with them. `halt` is called when the task that waits is cancelled."""
    from asyncio import CancelledError

    pages = stream.pages()
    step: Step | None = None
    try:
        while True:
            step = Step(lambda: next(pages, None))
            page = await step.result()
            if page is None:
                return
            yield page
    except CancelledError:
        halt()
        raise
    finally:
        stream.interrupt()
        _close_behind(step, pages, stream)


def _close_behind(step: Step | None, pages: Any, stream: RowStream[Any]) -> None:
    """Close both when the step has returned, which may take a moment."""

    def _close() -> None:
        if step is not None:
            step.thread.join()
        pages.close()
        stream.close()

    if step is None or not step.is_running:
        _close()
    else:
        threading.Thread(target=_close, name="tradewind-close", daemon=True).start()
