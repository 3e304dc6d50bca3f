"""LongProc: each procedure is carried out again from the problem as it is told."""

from __future__ import annotations

import itertools
import re
from html.parser import HTMLParser

import pytest

from baywindow.bench import find
from baywindow.bench.base import Order, Turn
from baywindow.bench.counting import TokenCounter
from baywindow.bench.haystack import Haystack
from baywindow.bench.tasks.longproc import SUITE
from baywindow.bench.tasks.longproc._countdown import reaches, search, solved
from baywindow.bench.tasks.longproc._travel import EXAMPLE, Trip, plans
from baywindow.bench.tasks.longproc._travel import solved as travelled
from baywindow.errors import ConfigError

TASKS = {task.name.split(".")[1]: task for task in SUITE.tasks}
LEVELS = {"0.5k": 512, "2k": 2048, "8k": 8192}


def quarter(text):
    return (len(text) + 3) // 4


def made(task, tokens=4096, seed=0, depth=None, **options):
    counter = TokenCounter(quarter, "quarters")
    return TASKS[task].sample(Order(tokens=tokens, seed=seed, counter=counter, haystack=Haystack.installed(), depth=depth, options=options))


def problem(sample):
    return re.search(r"<problem>\n(.*)\n</problem>", sample.context, re.DOTALL)[1]


def turn(gold, **facts):
    return Turn(question="", gold=(gold,), scorer="", metadata=facts)


@pytest.mark.parametrize(("task", "level"), [(t, level) for t in TASKS for level in LEVELS if (t, level) != ("travel_planning", "0.5k")])
def test_the_level_is_the_length_of_the_right_reply(task, level):
    sample = made(task, 49152 if level == "8k" else 16384, seed=1, level=level)
    assert 0.25 * LEVELS[level] < quarter(sample.gold[0]) <= LEVELS[level] * 1.02
    assert sample.max_new_tokens == {"0.5k": 1024, "2k": 3072, "8k": 9216}[level]
    assert find.score(sample.gold[0], sample.asked[0]) == 1.0


@pytest.mark.parametrize("seed", range(4))
def test_the_route_is_walked_on_the_lines_of_the_text(seed):
    sample = made("path_traversal", seed=seed)
    told = re.findall(r"^(\w+) leads to (\w+) by (\w+)\.$", sample.context, re.MULTILINE)
    leads = {a: (b, mode) for a, b, mode in told}
    assert len(leads) == len(told) == len(sample.context.splitlines()) == sample.metadata["cities"]
    here, end = re.search(r"From (\w+) to (\w+):", sample.question).groups()
    lines = []
    while here != end:
        lines.append(f"{here} to {leads[here][0]} by {leads[here][1]}")
        here = leads[here][0]
    assert sample.gold[0].splitlines() == ["<Route>", *lines, "</Route>"]


def test_a_route_is_scored_whole_or_by_its_right_beginning():
    gold = "<Route>\nA to B by bus\nB to C by train\nC to D by bus\nD to E by ferry\n</Route>"
    whole, partial = find.scorer("longproc_route"), find.scorer("longproc_route_partial")
    wrong = gold.replace("C to D", "C to X")
    assert whole("Here it is. " + gold, turn(gold)) == partial(gold, turn(gold)) == 1
    assert (whole(wrong, turn(gold)), partial(wrong, turn(gold))) == (0, 0.5)
    assert partial("A to B by bus", turn(gold)) == 0  # no tags
    assert partial(gold.replace("\nD to E by ferry", ""), turn(gold)) == 0.75
    assert whole(gold.replace("</Route>", "E to F by bus\n</Route>"), turn(gold)) == 0


def test_partial_is_an_option():
    assert made("path_traversal", 2048, partial=True).scorer == "longproc_route_partial"
    with pytest.raises(ConfigError, match="level"):
        made("travel_planning", level="0.5k")
    with pytest.raises(ConfigError, match="fit"):
        made("path_traversal", 4096, level="8k")


class Items(HTMLParser):
    """Reads the articles of the page."""

    def __init__(self):
        super().__init__()
        self.items, self.tag = [], ""

    def handle_starttag(self, tag, attrs):
        self.tag = tag
        if ("class", "item") in attrs:
            self.items.append({})

    def handle_data(self, data):
        if self.items and self.tag in ("h3", "em", "span", "a"):
            self.items[-1][self.tag] = self.items[-1].get(self.tag, "") + data

    def handle_endtag(self, tag):
        self.tag = ""


@pytest.mark.parametrize("seed", range(3))
def test_the_rows_are_those_a_parser_reads_from_the_page(seed):
    sample = made("html_to_tsv", seed=seed)
    reader = Items()
    reader.feed(sample.context)
    section = re.search(r'section "(\w+)"', sample.question)[1]
    rows = [f"{i['h3']}\t{i.get('span', 'N/A')}\t{i['a']}" for i in reader.items if i["em"] == section]
    assert sample.gold[0].splitlines() == ["```tsv", "name\tprice\tshop", *rows, "```"]
    assert len(reader.items) == sample.metadata["items"] > len(rows) == sample.metadata["rows"]
    assert "N/A" in sample.gold[0]


@pytest.mark.parametrize(
    ("rows", "score"),
    [
        (["a\t1", "b\t2"], 1),
        (["B\t2", "The A.\t1"], 1),  # order, case, articles and punctuation do not matter
        (["a\t1"], 2 / 3),
        (["a\t1", "b\t3"], 0.5),
        (["a\t1", "b\t2", "c\t3", "d\t4"], 2 / 3),
        (["a\t1", "b\t2", "That is all."], 1),  # a last line of another width is a remark
        (["a\t1", "b", "b\t2"], 0.8),  # precision 2/3
        ([], 0),
    ],
)
def test_rows_are_scored_by_f1(rows, score):
    gold = "```tsv\nname\tn\na\t1\nb\t2\n```"
    reply = "\n".join(["```tsv", "name\tn", *rows, "```"])
    assert find.scorer("longproc_rows")(reply, turn(gold)) == pytest.approx(score)
    assert find.scorer("longproc_rows")("no table", turn(gold)) == 0


def believed(story, person, thing):
    """Where the person is, where the thing is, and what is believed, after each step; told from the sentences alone."""
    rooms, things, belief, states = {}, {}, "None", []
    for line in story:
        for who, room in re.findall(r"(\w+) (?:is in|goes to|enters) the (\w+)", line):
            rooms[who] = room
        for who in re.findall(r"(\w+) leaves", line):
            rooms[who] = "None"
        for what, room, place in re.findall(r"the (\w+) (?:is )?on the (\w+)'s (\w+)", line):
            things[what] = (room, place)
        room, place = things[thing]
        sees = rooms[person] == room
        belief = f"{room}'s {place}" if sees else belief
        states.append((rooms[person], f"{room}'s {place}", str(sees), belief))
    return states


@pytest.mark.parametrize("seed", range(6))
def test_beliefs_follow_from_the_story(seed):
    sample = made("tom_tracking", seed=seed)
    *story, question = problem(sample).splitlines()
    person, thing = re.fullmatch(r"Where does (\w+) believe the (\w+) is\?", question).groups()
    trace = re.findall(r"is in: (.+); \w+ is on: (.+); sees it: (.+); believes: (.+)", sample.gold[0])
    assert trace == believed(story, person, thing)
    assert sample.gold[0].endswith(f"Final Answer: {trace[-1][3]}")


def test_a_person_cannot_move_what_is_in_another_room():
    for seed in range(6):
        rooms, things = {}, {}
        for line in problem(made("tom_tracking", seed=seed)).splitlines()[:-1]:
            who = re.match(r"Step \d+: (\w+) (puts|goes to .* and puts) the (\w+)", line)
            if who:
                assert rooms[who[1]] == things[who[3]]
            rooms |= dict(re.findall(r"(\w+) (?:is in|goes to|enters) the (\w+)", line))
            things |= dict(re.findall(r"the (\w+) (?:is )?on the (\w+)'s", line))


def test_a_trace_is_scored_whole_or_by_its_right_beginning():
    steps = ["- Step 0: Ann is in: hall; believes: None", "- Step 1: Ann is in: attic; believes: attic's shelf"]
    gold = "\n".join(["Ann and the key:", *steps, "Final Answer: attic's shelf"])
    whole, partial = find.scorer("longproc_beliefs"), find.scorer("longproc_beliefs_partial")
    loose = gold.replace("is in: hall", "is in the hall").upper()
    assert whole(gold, turn(gold)) == whole(loose, turn(gold)) == 1
    assert (whole(gold.replace("attic;", "hall;"), turn(gold)), partial(gold.replace("attic;", "hall;"), turn(gold))) == (0, 0.5)
    assert partial("attic's shelf", turn(gold)) == 0


def test_a_search_written_down():
    """Worked by hand: the pair is taken in the order listed, larger number first, and what is no use is dropped."""
    lines = solved((2, 3, 4), 2).splitlines()
    assert lines == [
        "- Take 2 and 3, left 4.",
        "  - 3 + 2 = 5. Numbers: 5, 4.",
        "      - 5 + 4 = 9: drop.",
        "      - 5 - 4 = 1: drop.",
        "      - 5 * 4 = 20: drop.",
        "      - 5 / 4: drop.",
        "  - 3 - 2 = 1. Numbers: 1, 4.",
        "      - 4 + 1 = 5: drop.",
        "      - 4 - 1 = 3: drop.",
        "      - 4 * 1 = 4: drop.",
        "      - 4 / 1 = 4: drop.",
        "  - 3 * 2 = 6. Numbers: 6, 4.",
        "      - 6 + 4 = 10: drop.",
        "      - 6 - 4 = 2: found.",
        "<Solution>",
        "3 * 2 = 6",
        "6 - 4 = 2",
        "</Solution>",
    ]


def test_the_search_finds_whatever_can_be_reached():
    """All ways to combine three numbers, the larger first, by plain recursion."""

    def values(numbers):
        if len(numbers) == 1:
            return {numbers[0]}
        found = set()
        for i, j in itertools.combinations(range(len(numbers)), 2):
            a, b = sorted((numbers[i], numbers[j]), reverse=True)
            left = [n for k, n in enumerate(numbers) if k not in (i, j)]
            results = [a + b, a - b, a * b] + ([a // b] if b and a % b == 0 else [])
            found |= {v for result in results if result <= 2000 for v in values([result, *left])}
        return found

    for numbers in [(3, 5, 7), (50, 50, 2), (1, 1, 1)]:
        assert {value for _, value, _ in search(numbers, -1) if value is not None} == values(list(numbers))


@pytest.mark.parametrize(
    ("equations", "right"),
    [
        ("9 + 6 = 15\n18 - 15 = 3\n16 * 3 = 48", True),
        (" 9 + 6 = 15 \n\n18 - 15 = 3\n16 * 3 = 48", True),
        ("9 + 6 = 15\n18 - 15 = 3\n16 + 3 = 19", False),  # not the target
        ("9 + 6 = 16\n18 - 16 = 2\n16 * 3 = 48", False),  # wrong sum
        ("16 * 3 = 48", False),  # not all numbers
        ("9 + 9 = 18\n18 - 15 = 3\n16 * 3 = 48", False),  # a number twice
        ("9 + 6 = 15\n18 - 15 = 3\n__import__('os') = 48", False),
        ("", False),
    ],
)
def test_a_solution_is_checked_not_compared(equations, right):
    assert reaches(equations, [6, 9, 16, 18], 48) is right


@pytest.mark.parametrize("seed", range(4))
def test_countdown_states_a_problem_with_its_solution(seed):
    sample = made("countdown", seed=seed)
    *numbers, target = [int(n) for n in re.findall(r"\d+", problem(sample))]
    assert (numbers, target) == (sample.metadata["numbers"], sample.metadata["target"])
    equations = re.search(r"<Solution>\n(.*)\n</Solution>", sample.gold[0], re.DOTALL)[1]
    for line in equations.splitlines():
        a, sign, b, value = re.fullmatch(r"(\d+) ([-+*/]) (\d+) = (\d+)", line).groups()
        a, b = int(a), int(b)
        assert int(value) == {"+": a + b, "-": a - b, "*": a * b, "/": a // max(b, 1)}[sign]
        numbers.remove(a)
        numbers.remove(b)
        numbers.append(int(value))
    assert numbers == [target]
    assert sample.gold[0].count("found.") == 1


def test_half_a_search_is_half_right():
    gold = solved((2, 3, 4), 2)
    partial = find.scorer("longproc_countdown_partial")
    half = "\n".join(gold.splitlines()[:7]) + "\nI give up."
    assert partial(half, turn(gold, numbers=[2, 3, 4], target=2)) == 0.5  # 7 of 14 lines
    assert partial("<Solution>\n4 / 2 = 2\n3 - 2 = 1\n</Solution>", turn(gold, numbers=[2, 3, 4], target=1)) == 1  # found another way


def test_a_journey_written_down():
    assert travelled(EXAMPLE).splitlines() == [
        "Day 1, after the start. Choices: Bont, Arl.",
        "- Bont on day 1-2: possible.",
        "  Day 2, after Bont. Choices: Arl.",
        "  - Arl on day 2-4: no flight from Bont, drop.",
        "  No choice left on day 2, go back.",
        "- Arl on day 1-3: possible.",
        "  Day 3, after Arl. Choices: Bont.",
        "  - Bont on day 3-4: possible.",
        "    Day 4, after Arl, Bont. Fixed: Cray.",
        "    - Cray on day 4-6: possible.",
        "<Plan>",
        "Day 1-3: Arl",
        "Day 3-4: Bont",
        "Day 4-6: Cray",
        "</Plan>",
    ]


def every_plan(trip):
    """All orders of the cities, kept if their flights exist and the fixed dates come out."""
    for cities in itertools.permutations(trip.days):
        day, plan = 1, []
        for city in cities:
            plan.append((city, day, day + trip.days[city] - 1))
            day = plan[-1][2]
        if all(step in trip.flights for step in itertools.pairwise(cities)) and all(
            trip.fixed.get(city, first) == first for city, first, _ in plan
        ):
            yield tuple(plan)


@pytest.mark.parametrize("seed", range(4))
def test_a_journey_has_the_one_plan(seed):
    sample = made("travel_planning", seed=seed)
    *cities, flights = problem(sample).splitlines()
    told = [re.fullmatch(r"(\w+): (\d+) days(?:, fixed to day (\d+)-(\d+))?", line).groups() for line in cities]
    trip = Trip(
        {city: int(days) for city, days, _, _ in told},
        {city: int(first) for city, _, first, _ in told if first},
        frozenset(re.findall(r"(\w+) to (\w+)", flights)),
    )
    (plan,) = every_plan(trip)
    assert trip.fixed
    assert plans(trip, [], most=9) == [plan]
    assert sample.gold[0].endswith("\n".join(["<Plan>", *(f"Day {a}-{b}: {city}" for city, a, b in plan), "</Plan>"]))


def test_a_plan_is_scored_by_cities_and_days():
    gold = travelled(EXAMPLE)
    whole, partial = find.scorer("longproc_plan"), find.scorer("longproc_plan_partial")
    loose = "<Plan>\n**Day 1-3:** Arl\n**Day 3 - 4:** Bont\nDay 4-6: Cray, then home\n</Plan>"
    assert whole(loose, turn(gold)) == partial(loose, turn(gold)) == 1
    assert whole(gold.replace("Day 3-4: Bont\n", ""), turn(gold)) == 0
    assert partial("\n".join(gold.splitlines()[:5]), turn(gold)) == 0.5  # 5 of 10 lines of the search


@pytest.mark.parametrize("depth", [0.0, 1.0])
def test_the_problem_stands_at_its_depth(depth):
    text = made("countdown", depth=depth).context
    assert text.startswith("<problem>") if depth == 0 else text.endswith("</problem>")
