"""A whole pipeline in virtual time, drawn from a seed: jobs, crew, and a schedule of faults; then calm."""

from collections.abc import Callable, Hashable

from common.protocol.codec import encode
from common.protocol.messages import PROTOCOL_VERSION, Cancel, Forget, Goodbye, Hello
from common.protocol.users import VENTILATOR, User
from tests.simulation.plan import STORMS, Plan
from tests.simulation.relay_role import Relay
from tests.simulation.role import KEEPER, SPINS_MAX, STRUCK, WORKERS, Client
from tests.simulation.sink_role import Sink
from tests.simulation.truth import SLOWNESS_MAX, Disk, JobTruth
from tests.simulation.ventilator_role import Ventilator
from tests.simulation.worker_role import Worker
from tests.simulation.world import CALM, Broken, Channel, World

CONVERGE_S = 900.0
"""Within so much virtual time after the faults all must be done."""
IDLE_S = 3.0
ASKS_S = 5.0
"""How long an operator waits for an answer."""


class Farm:
    """Everybody, and how they find each other."""

    weighs = False
    edits = 0.3
    """How often somebody has edited the workers' modules when a job begins."""
    spins_max = SPINS_MAX
    return_wait_max_s = 0.1
    """While a dead worker's room counts, batches circulate: that is seen at this pace too, and costs a fifth."""

    def __init__(self, seed: Hashable, plan: Plan | None = None, path: str = ":memory:") -> None:
        self.world = World(seed)
        self.plan = plan or Plan.of(self.world)
        self.timing = self.plan.timing
        self.jobs = self.plan.jobs
        self.receipts_page, self.trickle_per_s = self.plan.receipts_page, self.plan.trickle_per_s
        self.dice = self.world.dice("faults")
        self._haste = self.world.dice("haste")
        self._keepers = self.world.dice("who keeps")
        self._late = self.world.dice("late results")
        self._failures = self.world.dice("sinks fail")
        self.last_results: dict[str, bytes] = {}
        """By job: what has come last for it."""
        self.disk = Disk(self.world, self.jobs, path, self.plan.disk_s, self.plan.disk_refuses)
        self.disk.kill = self.kill_sink
        self.ventilator_users = {
            job.name: User(VENTILATOR, f"v-{job.name}", f"{number}" * 40) for number, job in enumerate(self.jobs)
        }
        self.roster = {user.key: user for user in (WORKERS, *self.ventilator_users.values())}
        if self.plan.keepers:
            self.roster[KEEPER.key] = KEEPER
        if self.plan.revokes_at is not None:
            self.roster[STRUCK.key] = STRUCK
            self.world.at(self.plan.revokes_at, self._revoke)
        if self.plan.cancels_at is not None:
            self.world.at(self.plan.cancels_at, self._cancel_unheard)
        self.sink: Sink | None = None
        self._replaced: list[Sink] = []
        """Sinks that another one has replaced, and that do not know it yet."""
        self._place = 0
        """At which address the next sink listens."""
        self.workers: dict[str, Worker] = {}
        """Those that live."""
        self.ventilators: dict[str, Ventilator] = {}
        """Those that live, by job."""
        self.closed: set[str] = set()
        self.calm_at: float | None = None
        self.peak_flights = self.peak_payload = self.peak_other = 0
        """Of all ventilators: batches, bytes of their arguments, and entries of the machine's other collections."""
        self._everyone: dict[str, Worker] = {}
        self._gone_at: dict[str, float] = {}
        self._listening: dict[int, Ventilator | Relay] = {}
        self._ports = {job.name: 5000 + 100 * number for number, job in enumerate(self.jobs)}
        self._started = 0
        self._specialists: set[str] = set()
        """Workers that expose one of the functions that are asked for; when all is calm they leave."""
        self._unforgotten: set[str] = set()
        """Jobs that the operator forgets before they are run again."""
        self._strangers: set[str] = set()
        """Workers that expose what nobody asks for."""
        self.start_sink()
        for job in self.jobs:
            self.world.after(self.dice.uniform(0, 1), self.start_ventilator, job)
        if self.plan.crew_at:
            self.world.after(self.dice.uniform(0, 1), self._start_stranger)
        for _ in range(self.plan.worker_count):
            self.world.after(self.plan.crew_at + self.dice.uniform(0, 1), self.start_worker)
        if self.plan.has_standby:
            self.world.after(self._failures.uniform(1, 8), self._fail_over_now_and_then)
        if self.plan.interrupts_per_s:
            self.world.after(self.dice.expovariate(self.plan.interrupts_per_s), self._interrupt_now_and_then)
        if self.plan.drain_at is not None:
            self.world.at(self.plan.drain_at, self._drain)

    # -- the two phases -----------------------------------------------------------------------------------------

    def run(self) -> None:
        """Faults on, then faults off and it must converge. Raises Broken."""
        try:
            self.world.weather = self.plan.weather
            self.world.after(self.dice.expovariate(self.plan.faults_per_s), self._strike)
            self.world.run(self.plan.faults_s, self._all_closed)
            self.calm()
            if not self.world.run(self.world.now + CONVERGE_S, self.is_over):
                self.world.require(False, "it does not converge:", self._who_is_left())
            self._idle()
            self.disk.look_at_all()
        except Broken:
            raise
        except Exception as error:
            raise Broken(f"seed {self.world.seed}: {error!r}\n{self.world.trace()}") from error
        finally:
            self.disk.close()

    def _all_closed(self) -> bool:
        return len(self.closed) == len(self.jobs)

    def is_over(self) -> bool:
        """True when every job is closed and nobody holds anything."""
        return (
            self._all_closed()
            # Who was stalled takes what waits for it at the instant of the calm.
            and self.world.now > max(self.world.late_at, self.calm_at or 0.0)
            and self.sink is not None
            and self.sink.rules.inspect().is_idle
            and not self.disk.untidy
            and all(worker.rules.empty and not worker.lies for worker in self.workers.values())
        )

    def calm(self) -> None:
        """Faults off: all is healed, who is missing comes back."""
        world = self.world
        world.note("world", "is calm")
        self.calm_at = world.now
        world.weather = CALM
        self.disk.hurry()
        for client in self._clients():
            client.darken(world.now)
            client.stall(world.now)
            client.call()
        if self.sink is None:
            self.start_sink()
        assert self.sink is not None
        for sink in (self.sink, *self._replaced):
            sink.stall(world.now)
        for worker in list(self.workers.values()):
            worker.slowness = 1.0
            if worker.user.key not in self.roster:
                self.kill_worker(worker)
            elif worker.lies or worker.name in self._specialists:
                worker.happen(worker.leave, 1.0)
        for job in self.jobs:
            if job.name not in self.ventilators:
                self.start_ventilator(job)
        world.after(1.5, self._keep_crew)

    def _idle(self) -> None:
        """Nobody has a reason to do more than beat."""
        world = self.world
        roles = [*self.workers.values(), *([self.sink] if self.sink else [])]
        timers = {worker.name: worker.rules._unreceipted.deadline() for worker in self.workers.values()}
        before = {role.name: role.wake_count for role in roles}
        world.run(world.now + IDLE_S)
        for role in roles:
            wakes = role.wake_count - before[role.name]
            world.require(wakes <= IDLE_S * 10 + 10, f"{role.name} does not come to rest:", wakes)
        for worker in self.workers.values():
            world.require(worker.rules.empty, f"{worker.name} has work again")
            # The timer of results that have their receipts meanwhile may be left over: it goes off once.
            left = worker.rules._unreceipted.deadline()
            rests = left in (None, timers.get(worker.name)) and worker.rules.deadline() in (
                left,
                worker.rules._beats.next_at(),
            )
            world.require(rests, f"{worker.name} is idle, and arms a timer beside its beat:", left)
        assert self.sink is not None
        at, looks_at = self.sink.rules.deadline(), self.sink.rules.inspect().next_look_at
        world.require(at == looks_at, "the sink is idle, and has a timer armed:", at)

    def _who_is_left(self) -> str:
        workers = [
            f"{worker.name}: {worker.rules._beat(0.0).held}, {len(worker.rules._unreceipted)} results"
            for worker in self.workers.values()
            if not worker.rules.empty
        ]
        ventilators = [
            f"{name}: {list(each.rules._flights)}, window {each.rules.window}, crew {each.rules._crew._members}"
            for name, each in self.ventilators.items()
        ]
        return "; ".join(workers + ventilators)

    # -- who comes and goes -------------------------------------------------------------------------------------

    def start_sink(self) -> None:
        """A sink starts from what is committed."""
        if self.sink is not None:
            return
        self._started += 1
        self.disk.restart()
        self.sink = Sink(self, f"sink{self._started}", self._place)
        if self.sink.site is not None:
            self.sink.site.hold()
        self._listening[Relay.port] = self.sink.relay
        self.world.note(self.sink.name, "starts")
        for client in self._clients():
            client.call()
        for worker in self.workers.values():
            if not self.plan.has_standby:
                self.world.after(worker.dice.uniform(0.01, 0.6), worker.call_results)
            if worker.wants(Relay.port):
                self.connect_tasks(worker, Relay.port)

    def kill_sink(self) -> None:
        """SIGKILL: what was not committed is gone."""
        sink, self.sink = self.sink, None
        if sink is None:
            return
        self.world.note(sink.name, "is killed")
        self.disk.lose_sink()
        self._listening.pop(Relay.port)
        sink.relay.kill()
        self._end_sink(sink)
        after_s = self.dice.choice([0.1, 1.0, 4.0, 24.0]) * self.dice.uniform(0.5, 1)
        if self.plan.has_standby:
            # The other one, or itself, if that is started again at once.
            self._place, after_s = self._failures.choice([sink.place, 1 - sink.place]), min(after_s, 1.0)
        self.world.after(after_s, self.start_sink)

    def _end_sink(self, sink: Sink) -> None:
        sink.alive = False
        for client in self._clients():
            if client.connection is not None and client.connection.sink is sink:
                client.cut(lose=True)
        for worker in self.workers.values():
            if worker.results_sink is sink:
                worker.results_cut()

    def sink_at(self, place: int) -> Sink | None:
        """Who listens at this address: the one that serves, or one that was replaced and does not know it."""
        sinks = [*([self.sink] if self.sink else []), *self._replaced]
        return next((each for each in sinks if each.place == place and each.alive), None)

    def _fail_over_now_and_then(self) -> None:
        """The sink that serves is stopped, or loses its session at the server; its standby takes over."""
        if self.calm_at is not None:
            return
        dice, sink = self._failures, self.sink
        if sink is not None:
            if dice.random() < 0.5:
                sink.stall(self.world.now + dice.uniform(3, 20))
                self.world.note(sink.name, "is stopped", f"until {sink.stalled_until:.3f}")
            self.world.after(dice.uniform(0.1, 6), self._replace, sink)
        self.world.after(dice.uniform(3, 15), self._fail_over_now_and_then)

    def _replace(self, sink: Sink) -> None:
        if self.sink is not sink or self.calm_at is not None or self.sink_at(1 - sink.place) is not None:
            return
        self.world.note(sink.name, "is replaced")
        # Who holds the site has it from when the write of the one before is made or undone.
        self.disk.lose_sink()
        self.sink = None
        self._replaced.append(sink)
        self._listening.pop(Relay.port)
        sink.relay.kill()
        self._place = 1 - sink.place
        self.start_sink()

    def sink_was_replaced(self, sink: Sink) -> None:
        """It has noticed, and ends all its connections to stand by."""
        self.world.require(sink in self._replaced, f"{sink.name} gives up, and was not replaced")
        self.world.note(sink.name, "stands by")
        self._replaced.remove(sink)
        self._end_sink(sink)

    def start_ventilator(self, job: JobTruth) -> None:
        """The operator runs the job (again)."""
        if job.name in self.ventilators or job.name in self.closed or job.name in self._unforgotten:
            return
        self._started += 1
        self._ports[job.name] += self.dice.random() < 0.3
        port = self._ports[job.name]
        wrong_input = False
        if self.calm_at is None and not job.appends and self.dice.random() < self.plan.mistakes:
            # The operator makes a mistake, or has edited the input.
            wrong_input = self.dice.random() < 0.5
            if job.count and not wrong_input:
                job.bad_at = self.dice.randrange(job.count)
        elif self.calm_at is None and job.appends:
            wrong_input = self._haste.random() < self.plan.mistakes
        # The operator appends before the job is done.
        hasty = job.first_count is not None and not job.appends and self._haste.random() < 0.2
        ventilator = Ventilator(self, f"v{self._started}.{job.name}", job, port, wrong_input and not hasty, hasty)
        self.world.note(ventilator.name, "starts")
        self.ventilators[job.name] = self._listening[port] = ventilator
        ventilator.call()
        for worker in self.workers.values():
            if worker.wants(port):
                self.connect_tasks(worker, port)

    def kill_ventilator(self, ventilator: Ventilator) -> None:
        """SIGKILL, and the operator notices."""
        if not ventilator.alive:
            return
        ventilator.kill()
        self._unlisten(ventilator)
        self.world.after(self.dice.uniform(0.2, 6), self.start_ventilator, ventilator.job)

    def ventilator_ended(self, ventilator: Ventilator, is_done: bool) -> None:
        """It has left by itself. A job that is not done is run again, one that is done perhaps for its failed tasks."""
        job = ventilator.job
        self._unlisten(ventilator)
        if not is_done:
            self.world.after(self.dice.uniform(0.2, 6), self.start_ventilator, job)
        elif job.reruns:
            job.reruns -= 1
            job.retries_failed = True
            self.world.after(self.dice.uniform(0.1, 1), self.start_ventilator, job)
        elif job.first_count is not None and not job.appends:
            job.append()
            self.world.after(self.dice.uniform(0.1, 1), self.start_ventilator, job)
        elif job.anew:
            job.anew -= 1
            self._unforgotten.add(job.name)
            self.world.after(self.dice.uniform(0.1, 1), self._forget, job)
        else:
            self.closed.add(job.name)

    def _forget(self, job: JobTruth) -> None:
        """The operator forgets the job, tries again until that is done, and runs it once more."""
        self._ask("forgetter", job.name, Forget(job.name))
        self.world.after(0.5, self._look_if_forgotten, job)

    def _look_if_forgotten(self, job: JobTruth) -> None:
        if self.disk.job(job.name) is None:
            self.world.note("somebody", "has forgotten", job.name)
            self._unforgotten.discard(job.name)
            self.start_ventilator(job)
            if (frame := self.last_results.pop(job.name, None)) is not None:
                self.world.after(self._late.uniform(0.1, 2.0), self._come_late, frame)
        else:
            self._forget(job)

    def _come_late(self, frame: bytes) -> None:
        """Results of a job that was forgotten come a second time, over a link that was dark."""
        if self.sink is not None:
            self.sink.happen(self.sink.results, frame, None)

    def _unlisten(self, ventilator: Ventilator) -> None:
        self.peak_flights = max(self.peak_flights, ventilator.flights_max)
        self.peak_payload = max(self.peak_payload, ventilator.payload_max)
        self.peak_other = max(self.peak_other, ventilator.other_max)
        for _, channel in ventilator.pullers:
            channel.close(self.dice.random() < 0.5)
        if ventilator.relay is not None:
            ventilator.relay.close(self.world.dice(f"{ventilator.name} leaves").random() < 0.5)
        self.ventilators.pop(ventilator.job.name)
        self._listening.pop(ventilator.port)

    def start_worker(self, liar: bool = False) -> None:
        """One more worker."""
        self._started += 1
        slots, prefetch = self.dice.randint(1, self.plan.slots_max), self.dice.randint(0, self.plan.prefetch_max)
        worker = Worker(self, f"w{self._started}", slots, prefetch, liar)
        if STRUCK.key in self.roster:
            worker.user = worker.dice.choice([WORKERS, STRUCK, STRUCK])
            worker.thief = worker.user is STRUCK and worker.dice.random() < 0.5
        dice = self.world.dice(f"{worker.name} is special")
        if self.calm_at is None and len(worker.functions) > 1 and dice.random() < self.plan.specialists:
            worker.functions = [dice.choice(worker.functions)]
            self._specialists.add(worker.name)
        self.world.note(worker.name, "starts", f"{slots} slots, prefetch {prefetch}{', returns all' * liar}")
        self.workers[worker.name] = self._everyone[worker.name] = worker
        worker.call()

    def start_keeper(self, keeps: str) -> None:
        """A thief, whose worker takes batches and keeps them."""
        self.start_worker()
        worker = next(reversed(self.workers.values()))
        worker.user, worker.keeps = KEEPER, keeps
        self.world.note(worker.name, "keeps what it gets", keeps)

    def _start_stranger(self) -> None:
        """A worker that exposes what nobody asks for."""
        self.start_worker()
        worker = next(reversed(self.workers.values()))
        worker.functions = ["work:gamma"]
        self._strangers.add(worker.name)

    def kill_worker(self, worker: Worker) -> None:
        """SIGKILL; another is started in its place, mostly."""
        if worker.alive:
            worker.kill()
            if self.calm_at is not None or self.dice.random() < 0.7:
                self.world.after(self.dice.uniform(0.1, 5), self.start_worker)

    def worker_gone(self, worker: Worker) -> None:
        """It is dead or has left; what was on its way to it is lost."""
        del self.workers[worker.name]
        self._gone_at[worker.name] = self.world.now
        for port in list(self._listening):
            # An unplugged worker is missed late: until then batches go into the void.
            late_s = self.dice.choice([0.0, 0.0, 2.0])
            self._drop_puller(worker, port, late_s)
        if self.calm_at is not None and not worker.lies:
            self.world.after(2.0, self._keep_crew)

    def _keep_crew(self) -> None:
        others = self._strangers | self._specialists
        useful = [worker for worker in self.workers.values() if not worker.lies and worker.name not in others]
        for _ in range(self.plan.worker_count - len(useful)):
            self.start_worker()

    def _clients(self) -> list[Client]:
        return [*self.workers.values(), *self.ventilators.values()]

    def user_of(self, name: str) -> User:
        """Whose key this process has; it may be dead."""
        worker = self._everyone.get(name)
        return self.ventilator_users[name.partition(".")[2]] if worker is None else worker.user

    def job(self, name: str) -> JobTruth:
        """The job of this name."""
        return next(job for job in self.jobs if job.name == name)

    def lost(self, name: str) -> None:
        """The sink calls a worker lost."""
        for job, task in self._everyone[name].started:
            self.job(job).losses[task] += 1

    def check_reopened(self, job: str, peer: bytes) -> None:
        """Who opens a cancelled job is not the run that was cancelled."""
        ventilator = self.ventilators.get(job)
        if ventilator is not None and ventilator.name == peer.decode().rpartition("#")[0]:
            opened = ventilator.session.inspect().opened
            self.world.require(opened is None, "a cancelled job is opened by the same run again:", job)

    def check_ghosts(self, ventilator: Ventilator) -> None:
        """Long after the faults, the ventilator's crew has no dead in it."""
        if self.calm_at is None:
            return
        long_ago = self.world.now - 3 * self.timing.gone_s
        if self.calm_at > long_ago:
            return
        ghosts = [name for name in ventilator.rules._crew._members if self._gone_at.get(name, long_ago) < long_ago]
        self.world.require(not ghosts, "the ventilator counts on workers that are long gone:", ghosts)

    # -- the tasks links ----------------------------------------------------------------------------------------

    def connect_tasks(self, worker: Worker, port: int) -> None:
        """The worker's PULL finds the ventilator's PUSH, if it is there."""
        self.world.after(worker.dice.uniform(0.003, 0.3), self._connect_tasks, worker, port)

    def _connect_tasks(self, worker: Worker, port: int) -> None:
        if self.world.now < worker.stalled_until:
            # A stopped process does not shake hands.
            self.world.at(worker.stalled_until, self._connect_tasks, worker, port)
            return
        ventilator = self._listening.get(port)
        if isinstance(ventilator, Relay):
            if worker.wants(port) and ventilator.admits(worker) and not _pulls(worker, ventilator):
                self._pull(worker, ventilator)
                ventilator.give()
        elif ventilator is not None and not (ventilator.job.is_behind_wall and worker.is_outside):
            self.admit(worker, ventilator)

    def admit(self, worker: Worker, ventilator: Ventilator) -> None:
        """The ventilator's gate: it lets the worker in, or has it wait, or refuses it for good."""
        if not worker.wants(ventilator.port) or _pulls(worker, ventilator):
            return
        admitted = ventilator.session.admission.judge(worker.user.key)
        if admitted is None:
            ventilator.waiting.append(worker)
        if not admitted:
            return
        self._pull(worker, ventilator)
        ventilator.happen(_nothing)

    def _pull(self, worker: Worker, pushes: Ventilator | Relay) -> None:
        name = f"{pushes.name} tasks {worker.name} {self.world.now}"
        pushes.pullers.append((worker, _tasks_channel(self.world, name, worker)))
        worker.happen(worker.tasks_connected, pushes.port)

    def connect_relay(self, ventilator: Ventilator) -> None:
        """A ventilator's PUSH connects to the relay, if it is there."""
        self.world.after(ventilator.dice.uniform(0.003, 0.3), self._connect_relay, ventilator)

    def _connect_relay(self, ventilator: Ventilator) -> None:
        if ventilator.alive and ventilator.relay is None and self.sink is not None:
            self.sink.relay.connect(ventilator)
            ventilator.happen(_nothing)

    def cut_links(self, ventilator: Ventilator) -> None:
        """Everybody connects anew, and what was on its way is lost."""
        for worker, channel in ventilator.pullers:
            channel.close(True)
            self.connect_tasks(worker, ventilator.port)
        ventilator.pullers.clear()

    def disconnect_tasks(self, worker: Worker, port: int) -> None:
        """The worker pulls from there no more."""
        self._drop_puller(worker, port, 0.0)

    def _drop_puller(self, worker: Worker, port: int, late_s: float) -> None:
        ventilator = self._listening.get(port)
        for puller in [] if ventilator is None else [each for each in ventilator.pullers if each[0] is worker]:
            puller[1].close(True)
            if late_s:
                self.world.after(late_s, self._drop_puller, worker, port, 0.0)
            else:
                ventilator.pullers.remove(puller)

    # -- faults -------------------------------------------------------------------------------------------------

    def _strike(self) -> None:
        if self.calm_at is not None:
            return
        faults: list[tuple[int, Callable[[], None]]] = [
            (3, self.kill_sink),
            (3, self._kill_some_ventilator),
            (2, self._interrupt_some_ventilator),
            (5, self._kill_some_worker),
            (2, self._let_some_worker_leave),
            (3, self._let_somebody_join),
            (4, self._stall_somebody),
            (4, self._cut_somebody),
            (3, self._darken_somebody),
            (2, self._fill_disk),
            (2, self._slow_disk),
            (2, self._crash_commit),
            (1, self._slow_somebody),
            (2, self._reboot_machine),
            (1, self._cancel_some_job),
            (3, self._let_it_storm),
        ]
        weights = [weight for weight, _ in faults]
        self.dice.choices([fault for _, fault in faults], weights)[0]()
        self.world.after(self.dice.expovariate(self.plan.faults_per_s), self._strike)

    def _kill_some_ventilator(self) -> None:
        if self.ventilators:
            self.kill_ventilator(self.dice.choice(list(self.ventilators.values())))

    def _interrupt_some_ventilator(self) -> None:
        if self.ventilators:
            self._interrupt(self.dice.choice(list(self.ventilators.values())))

    def _interrupt_now_and_then(self) -> None:
        if self.calm_at is None:
            self._interrupt_some_ventilator()
            self.world.after(self.dice.expovariate(self.plan.interrupts_per_s), self._interrupt_now_and_then)

    def _interrupt(self, ventilator: Ventilator) -> None:
        """Ctrl-C, and again where the operator is impatient."""
        ventilator.happen(ventilator.interrupt)
        if self.dice.random() < 0.3:
            self.world.after(self.dice.uniform(0, 3), ventilator.happen, ventilator.interrupt)

    def _kill_some_worker(self) -> None:
        if self.workers:
            self.kill_worker(self.dice.choice(list(self.workers.values())))

    def _drain(self) -> None:
        """The operator replaces the crew."""
        dice = self.world.dice("drain")
        for worker in list(self.workers.values()):
            worker.happen(worker.leave, self.plan.drain_grace_s)
            self.world.after(dice.uniform(0.1, 3), self.start_worker)
        for ventilator in list(self.ventilators.values()):
            if dice.random() < 0.5:
                self._interrupt(ventilator)

    def _let_some_worker_leave(self) -> None:
        if self.workers:
            worker = self.dice.choice(list(self.workers.values()))
            worker.happen(worker.leave, self.dice.choice([0.0, 0.5, 5.0]))

    def _let_somebody_join(self) -> None:
        if len(self.workers) < 2 * self.plan.worker_count + 1:
            liar = self.dice.random() < 0.15
            if self.plan.keepers and self._keepers.random() < 0.5:
                self.start_keeper(self._keepers.choice(["silent", "named"]))
            else:
                self.start_worker(liar)

    def _stall_somebody(self) -> None:
        roles = [*self._clients(), *([self.sink] if self.sink else [])]
        if roles:
            role = self.dice.choice(roles)
            until = self.world.now + self.dice.choice([0.3, 3, 6, 14]) * self.dice.uniform(0.5, 1)
            self.world.note(role.name, "is stalled", f"until {until:.3f}")
            role.stall(until)

    def _cut_somebody(self) -> None:
        if clients := self._clients():
            client = self.dice.choice(clients)
            self.world.note(client.name, "is cut")
            client.cut(lose=self.dice.random() < 0.7)

    def _darken_somebody(self) -> None:
        if clients := self._clients():
            client = self.dice.choice(clients)
            until = self.world.now + self.dice.choice([1, 5, 12]) * self.dice.uniform(0.3, 1)
            self.world.note(client.name, "goes dark", f"until {until:.3f}")
            client.darken(until)

    def _fill_disk(self) -> None:
        self.disk.full_until = self.world.now + self.dice.uniform(0.1, 5)
        self.world.note("disk", "is full", f"until {self.disk.full_until:.3f}")

    def _slow_disk(self) -> None:
        self.disk.slow_until = self.world.now + self.dice.uniform(0.1, 10)
        self.world.note("disk", "is slow", f"until {self.disk.slow_until:.3f}")

    def _crash_commit(self) -> None:
        self.disk.crash = self.dice.choice(["before", "after"])

    def _reboot_machine(self) -> None:
        """The sink's machine, on which ventilators run too."""
        self.kill_sink()
        for ventilator in list(self.ventilators.values()):
            if self.dice.random() < 0.7:
                self.kill_ventilator(ventilator)

    def _cancel_some_job(self) -> None:
        """Another ventilator's key asks for it; then the operator thinks better of it, and runs the job again."""
        jobs = [job.name for job in self.jobs if job.name not in self.closed]
        if jobs and self.sink is not None:
            self._cancel(self.dice.choice(jobs))

    def _cancel(self, name: str) -> None:
        self.world.note("somebody", "cancels", name)
        self._ask("canceller", name, Cancel(name))

    def _ask(self, who: str, name: str, question: Cancel | Forget) -> None:
        peer = f"{who}.{name}#{self.world.event_count}".encode()
        for message in (Hello(PROTOCOL_VERSION, VENTILATOR, who), question):
            self._say(peer, message)
        self.world.after(ASKS_S, self._say, peer, Goodbye())

    def _say(self, peer: bytes, message: Hello | Cancel | Forget | Goodbye) -> None:
        if self.sink is not None:
            self.sink.happen(self.sink.control, peer, encode(message), None)

    def _cancel_unheard(self) -> None:
        """All that runs is cancelled, and the ventilators' links break at that moment."""
        for ventilator in list(self.ventilators.values()):
            ventilator.cut(lose=False)
            self._cancel(ventilator.job.name)

    def _revoke(self) -> None:
        """A key is struck from the roster; the sink finds that within a second."""
        self.world.note("somebody", "revokes", STRUCK.name)
        self.roster = {key: user for key, user in self.roster.items() if user is not STRUCK}
        if self.sink is not None:
            self.world.after(0.5, self.sink.happen, self.sink.roster_changed)

    def _let_it_storm(self) -> None:
        self.world.weather = self.dice.choice(STORMS)
        self.world.note("world", "storms", self.world.weather)
        self.world.after(self.dice.choice([0.3, 3.0]), self._let_it_clear)

    def _let_it_clear(self) -> None:
        if self.calm_at is None:
            self.world.weather = self.plan.weather

    def _slow_somebody(self) -> None:
        if self.workers:
            self.dice.choice(list(self.workers.values())).slowness = self.dice.choice([3.0, SLOWNESS_MAX])


def _nothing() -> None:
    """A writable socket wakes its loop."""


def _pulls(worker: Worker, pushes: Ventilator | Relay) -> bool:
    return any(each is worker for each, _ in pushes.pullers)


def _tasks_channel(world: World, name: str, worker: Worker) -> Channel:
    return Channel(world, name, lambda frame, label: worker.happen(worker.take_batch, frame, label), True)
