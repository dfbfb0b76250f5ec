"""Searches: each question follows from the journal, and is a cell like any other."""

from __future__ import annotations

from leadline.campaign.containers import contain
from leadline.campaign.deployment import DeploymentRun
from leadline.campaign.foretell import Known, fit_window, open_search
from leadline.campaign.healing import Remedy, find_remedy
from leadline.campaign.loads import LoadRun
from leadline.campaign.planning import plan_local
from leadline.campaign.request import Sender
from leadline.campaign.serving import Served
from leadline.campaign.trials import TrialsRun
from leadline.campaign.work import Work
from leadline.journal import Run
from leadline.metrics.limit import Answer, Ask, judge_limit, next_ask
from leadline.plan.campaign_plans import CellPlan
from leadline.plan.local_memory import PLAN_SCHEMA
from leadline.spec import Cell, ContainerTarget, level_cell
from leadline.units import show_tokens
from leadline.verdict import CellVerdict
from leadline.verdict.facts import Facts
from leadline.verdict.run import judge_cell
from leadline.verdict.searches import Course, list_cells, read_answer, read_courses, split_changes


async def run_searches(work: Work) -> bool:
    """One search after the other; a server that the next question needs too stays up.

    Whether all of them came to an end.
    """
    searches = Searches(work)
    while cell := searches.pending():
        _adopt(work, cell)
        await SearchRun(work, searches, cell).run()
        if searches.pending() == cell:
            return False  # its server is out of reach: what is owed stays owed
    return True


def _adopt(work: Work, cell: Cell) -> None:
    """A deployment that the campaign does not name: its plan, and what starts it."""
    key = cell.deployment
    if key not in work.plans and (plan := plan_local(cell.settings)):
        work.plans[key] = plan
        plans = {name: item.model_dump() for name, item in work.plans.items()}
        work.journal.write("plan.json", {"schema": PLAN_SCHEMA, "deployments": plans})
    if key not in work.containers and isinstance(cell.settings.target, ContainerTarget):
        work.containers[key] = contain(work.campaign, key, [cell])
    work.meter.adopt(key)
    _heed_plan(work, cell)


def _heed_plan(work: Work, cell: Cell) -> None:
    plan, container = work.plans.get(cell.deployment), work.containers.get(cell.deployment)
    local = CellPlan(cell, plan).refusal if plan else None
    refusal = local or (container.refusal if container else None)
    if refusal and not work.options.try_infeasible:
        work.refusals[cell.key] = refusal


class Searches:
    """What to ask next. Nothing is remembered here but the question that is being asked."""

    def __init__(self, work: Work) -> None:
        self.work = work
        self._cell: Cell | None = None

    def pending(self) -> Cell | None:
        """The cell of the first open question, or what starts the server that a search begins on.

        ``None``: all searches have ended.
        """
        if self._cell is None or not self.work.owed_trials(self._cell):
            self._cell = next((cell for cell in map(self._advance, self._courses()) if cell), None)
        return self._cell

    def is_opening(self, cell: Cell) -> bool:
        return any(not course.opened and course.opening == cell for course in self._courses())

    def open(self, cell: Cell, served: Served | None = None) -> None:
        """Which levels there are, once: a resumed search keeps to them."""
        (course,) = [item for item in self._courses() if item.opening == cell and not item.opened]
        facts = open_search(self._known(course, cell, served))
        self.work.journal.event("search_opened", search=course.key, **facts)
        start = f"{show_tokens(facts['start'])} ({facts['source']})"
        self.work.watcher.note(f"{course.key}: starts at {start}")
        self._cell = None

    def _courses(self) -> list[Course]:
        return read_courses(self.work.campaign, Run(self.work.journal.path).events())

    def _known(self, course: Course, cell: Cell, served: Served | None) -> Known:
        return Known(
            campaign=self.work.campaign,
            search=course.search,
            cell=cell,
            local=self.work.plans.get(cell.deployment) or plan_local(cell.settings),
            served=served,
            times=self.work.model(cell.deployment),
        )

    def _advance(self, course: Course) -> Cell | None:
        """The cell that this search waits for; journals the question where it is a new one."""
        asked = course.questions[-1].cell if course.questions else None
        if asked and self.work.owed_trials(asked):
            return asked
        if not course.opened:
            return self._begin(course)
        cells = self._judge(course)
        answers = course.answers(cells)
        ask = next_ask(course.grid, answers) if self._may_ask(course) else None
        if remedy := self._remedy(course, cells, answers, settled=ask is None):
            return self._heal(course, remedy)
        return self._ask(course, ask) if ask else None

    def _begin(self, course: Course) -> Cell | None:
        if course.search.window == "follows":
            self.open(course.opening)
            return self._advance(self._again(course))
        if self.work.owed_trials(course.opening):
            return course.opening
        facts = Facts(Run(self.work.journal.path))
        remedy = find_remedy(course, course.opening, facts.finding(course.opening))
        return self._heal(course, remedy) if remedy else None

    def _may_ask(self, course: Course) -> bool:
        return len(course.questions) < course.search.most_runs

    def _judge(self, course: Course) -> dict[str, CellVerdict]:
        facts, campaign = Facts(Run(self.work.journal.path)), self.work.campaign
        keys = {question.cell.key for question in course.questions}
        cells = [cell for cell in list_cells(campaign, facts) if cell.key in keys]
        return {cell.key: judge_cell(cell, campaign, facts) for cell in cells}

    def _remedy(
        self, course: Course, cells: dict[str, CellVerdict], answers: list[Answer], *, settled: bool
    ) -> Remedy | None:
        """Where nothing has passed yet, and where the limit is found that it may move."""
        passes = [answer for answer in answers if answer.outcome == "pass"]
        if not course.search.heal or not self._may_ask(course) or (passes and not settled):
            return None
        found = judge_limit(course.grid, answers)
        level = found.fails_above if settled else (answers[-1].level if answers else None)
        failed = [
            question.cell
            for question in course.questions
            if question.ask.level == level
            and question.heals == len(course.heals)
            and read_answer(cells[question.cell.key]) == "fail"
        ]
        if not failed or _brought_nothing(course, cells):
            return None
        facts = Facts(Run(self.work.journal.path))
        return find_remedy(course, failed[-1], facts.finding(failed[-1]))

    def _heal(self, course: Course, remedy: Remedy) -> Cell | None:
        finding, turn = remedy.finding, remedy.turn
        self.work.journal.event(
            "search_healed",
            search=course.key,
            failed=finding.cell or finding.deployment,
            code=finding.code,
            title=finding.title,
            remedy=finding.remedy,
            changes=remedy.changes,
        )
        done = f"{turn.way} {turn.setting}" + (f" to {turn.to}" if turn.to else "")
        self.work.watcher.note(f"{course.key}: {done} ({finding.code} {finding.title})")
        return self._advance(self._again(course))

    def _ask(self, course: Course, ask: Ask) -> Cell:
        changes = course.changes
        if course.search.window == "follows":
            known = self._known(course, course.opening, None)
            changes = {**fit_window(known, ask.level), **changes}
        level, take, reason = ask
        cell = level_cell(course.search, course.seed, level, take, *split_changes(changes))
        self.work.journal.event(
            "search_asked",
            search=course.key,
            level=level,
            take=take,
            reason=reason,
            changes=changes,
        )
        self.work.watcher.note(f"{course.key}: asks {show_tokens(level)} ({reason})")
        return cell

    def _again(self, course: Course) -> Course:
        """As the journal has it now."""
        return next(item for item in self._courses() if item.key == course.key)


def _brought_nothing(course: Course, cells: dict[str, CellVerdict]) -> bool:
    """The last remedy let nothing pass that had not passed before."""
    since = [question for question in course.questions if question.heals == len(course.heals)]
    passed = [q for q in course.questions if read_answer(cells[q.cell.key]) == "pass"]
    return bool(course.heals and since and passed and passed[-1].heals < len(course.heals))


class SearchRun(DeploymentRun):
    """The questions that are asked of one deployment, of whichever search."""

    def __init__(self, work: Work, searches: Searches, cell: Cell) -> None:
        # All ways in which any search sends: each is warmed up once.
        super().__init__(work, cell.deployment, [cell, *work.campaign.cells()])
        self.searches = searches

    def _owed(self) -> list[Cell]:
        cell = self.searches.pending()
        return [cell] if cell and cell.deployment == self.key else []

    def limits_owed(self) -> bool:
        return False  # the search itself finds them

    async def _work_off(self, sender: Sender) -> None:
        await self.warm_up(sender)
        while owed := self._owed():
            (cell,) = owed
            if self.searches.is_opening(cell):
                self.searches.open(cell, sender.served)
            elif not await self._stage(cell)(sender, cell, owed).run():
                return

    @staticmethod
    def _stage(cell: Cell) -> type[LoadRun | TrialsRun]:
        return LoadRun if cell.is_load else TrialsRun
