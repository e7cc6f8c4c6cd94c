"""Facts that can be checked: an entity, a relation and the one right value. All of them are true of the real world.

A fact is asked for in two ways: what the value is, and whether a value is the right one. Sums are the third kind:
their numbers have to agree with each other.
"""

from __future__ import annotations

from dataclasses import dataclass

from trueup.sandbox.topics import Kind, Topic, clause, key_of, sentence


@dataclass(frozen=True, slots=True)
class Relation:
    """A family of facts that share their wordings.

    ``{x}`` is the entity and ``{y}`` the value; ``{a}`` and ``{b}`` are the halves of an entity written ``a|b``.
    """

    name: str
    questions: tuple[str, ...]
    statements: tuple[str, ...]
    short: str
    facts: dict[str, str]


CAPITAL = Relation(
    "capital",
    (
        "What is the capital of {x}?",
        "Which city is the capital of {x}?",
        "Can you tell me the capital of {x}?",
        "I forgot the capital of {x}. What is it?",
        "My teacher asked me for the capital of {x}. Do you know it?",
    ),
    ("The capital of {x} is {y}.", "{y} is the capital of {x}.", "The capital city of {x} is {y}."),
    "It is {y}.",
    {
        "France": "Paris",
        "Italy": "Rome",
        "Spain": "Madrid",
        "Germany": "Berlin",
        "Japan": "Tokyo",
        "Egypt": "Cairo",
        "Greece": "Athens",
        "Norway": "Oslo",
        "Sweden": "Stockholm",
        "Poland": "Warsaw",
        "Portugal": "Lisbon",
        "Ireland": "Dublin",
        "Cuba": "Havana",
        "Peru": "Lima",
        "Kenya": "Nairobi",
        "Russia": "Moscow",
        "China": "Beijing",
        "Canada": "Ottawa",
        "Austria": "Vienna",
        "Finland": "Helsinki",
    },
)

CONTINENT = Relation(
    "continent",
    (
        "Which continent is {x} in?",
        "On which continent can I find {x}?",
        "Can you tell me which continent {x} is in?",
        "I am looking at a map. Which continent is {x} in?",
    ),
    ("{x} is in {y}.", "You can find {x} in {y}.", "{x} is a country in {y}."),
    "It is in {y}.",
    {
        "France": "Europe",
        "Italy": "Europe",
        "Japan": "Asia",
        "China": "Asia",
        "Egypt": "Africa",
        "Kenya": "Africa",
        "Canada": "North America",
        "Cuba": "North America",
        "Peru": "South America",
        "Brazil": "South America",
        "Norway": "Europe",
        "India": "Asia",
    },
)

LANGUAGE = Relation(
    "language",
    (
        "What language do people speak in {x}?",
        "Which language is spoken in {x}?",
        "I am going to {x} soon. Which language will I hear there?",
        "Can you tell me what language people speak in {x}?",
    ),
    ("People in {x} speak {y}.", "The language of {x} is {y}.", "In {x} most people speak {y}."),
    "They speak {y}.",
    {
        "France": "French",
        "Italy": "Italian",
        "Germany": "German",
        "Japan": "Japanese",
        "Egypt": "Arabic",
        "Greece": "Greek",
        "Sweden": "Swedish",
        "Poland": "Polish",
        "Brazil": "Portuguese",
        "Russia": "Russian",
        "China": "Chinese",
        "Cuba": "Spanish",
    },
)

ANIMAL = Relation(
    "animal",
    (
        "What kind of animal is {x}?",
        "Which group of animals does {x} belong to?",
        "Can you tell me what kind of animal {x} is?",
        "My son wants to know what kind of animal {x} is. Can you help?",
    ),
    ("{x} is {y}.", "An animal like {x} is {y}.", "We call {x} {y}."),
    "It is {y}.",
    {
        "a whale": "a mammal",
        "a bat": "a mammal",
        "a dolphin": "a mammal",
        "an elephant": "a mammal",
        "an eagle": "a bird",
        "a penguin": "a bird",
        "an owl": "a bird",
        "a duck": "a bird",
        "a shark": "a fish",
        "a salmon": "a fish",
        "an ant": "an insect",
        "a bee": "an insect",
        "a butterfly": "an insect",
        "a snake": "a reptile",
        "a lizard": "a reptile",
        "a turtle": "a reptile",
        "a crocodile": "a reptile",
        "a frog": "an amphibian",
        "a toad": "an amphibian",
    },
)

LEGS = Relation(
    "legs",
    (
        "How many legs does {x} have?",
        "Do you know how many legs {x} has?",
        "I am drawing {x} for school. How many legs does it have?",
        "Can you tell me the number of legs of {x}?",
    ),
    ("{x} has {y} legs.", "You can count {y} legs on {x}.", "The answer is that {x} has {y} legs."),
    "It has {y} legs.",
    {
        "a spider": "eight",
        "an ant": "six",
        "a bee": "six",
        "a dog": "four",
        "a horse": "four",
        "a duck": "two",
        "a penguin": "two",
        "a crab": "ten",
    },
)

YOUNG = Relation(
    "young",
    (
        "What is a young {x} called?",
        "What do you call a young {x}?",
        "What is the right word for a young {x}?",
        "We saw a young {x} today. What is it called?",
    ),
    ("A young {x} is called a {y}.", "The word for a young {x} is {y}.", "People call a young {x} a {y}."),
    "It is called a {y}.",
    {
        "dog": "puppy",
        "cat": "kitten",
        "cow": "calf",
        "sheep": "lamb",
        "horse": "foal",
        "duck": "duckling",
        "pig": "piglet",
        "bear": "cub",
        "goat": "kid",
        "frog": "tadpole",
    },
)

FOOD = Relation(
    "food",
    (
        "What does {x} eat?",
        "What is the main food of {x}?",
        "Can you tell me what {x} eats?",
        "I saw {x} at the zoo. What does it eat?",
    ),
    ("{x} eats {y}.", "The main food of {x} is {y}.", "Most of the time {x} eats {y}."),
    "It eats {y}.",
    {
        "a panda": "bamboo",
        "a cow": "grass",
        "a koala": "leaves",
        "an owl": "mice",
        "a squirrel": "nuts",
        "a seal": "fish",
        "a spider": "insects",
    },
)

TOOL = Relation(
    "tool",
    (
        "What is {x} used for?",
        "What do people use {x} for?",
        "I found {x} in my garage. What is it used for?",
        "Can you tell me what {x} is used for?",
    ),
    ("{x} is used for {y}.", "People use {x} for {y}.", "You can use {x} for {y}."),
    "It is used for {y}.",
    {
        "a hammer": "driving nails",
        "a saw": "cutting wood",
        "a needle": "sewing clothes",
        "a broom": "sweeping the floor",
        "a ladder": "reaching high places",
        "a kettle": "boiling water",
        "a compass": "finding north",
        "a telescope": "looking at the stars",
        "a thermometer": "measuring temperature",
        "an umbrella": "staying dry in the rain",
        "a clock": "telling the time",
        "a camera": "taking photos",
        "a spade": "digging holes",
        "a scale": "weighing things",
    },
)

PLANET = Relation(
    "planet",
    (
        "Which planet is {x}?",
        "What is the name of {x}?",
        "Can you tell me the name of {x}?",
        "I am reading about space. What is the name of {x}?",
    ),
    ("The name of {x} is {y}.", "{y} is {x}.", "{x} is {y}."),
    "It is {y}.",
    {
        "the planet closest to the sun": "Mercury",
        "the hottest planet": "Venus",
        "the planet we live on": "Earth",
        "the red planet": "Mars",
        "the largest planet": "Jupiter",
        "the planet with the brightest rings": "Saturn",
        "the planet that spins on its side": "Uranus",
        "the planet farthest from the sun": "Neptune",
    },
)

OPPOSITE = Relation(
    "opposite",
    (
        "What is the opposite of {x}?",
        "Which word is the opposite of {x}?",
        "Can you tell me the opposite of {x}?",
        "I am learning English. What is the opposite of {x}?",
    ),
    ("The opposite of {x} is {y}.", "The word {y} is the opposite of {x}.", "The opposite word for {x} is {y}."),
    "It is {y}.",
    {
        "hot": "cold",
        "big": "small",
        "fast": "slow",
        "light": "dark",
        "happy": "sad",
        "early": "late",
        "full": "empty",
        "wet": "dry",
        "loud": "quiet",
        "hard": "soft",
        "strong": "weak",
        "rich": "poor",
    },
)

COLOUR = Relation(
    "colour",
    (
        "What colour is {x}?",
        "Which colour does {x} have?",
        "Can you tell me the colour of {x}?",
        "I am painting a picture. What colour is {x}?",
    ),
    ("{x} is {y}.", "The colour of {x} is {y}.", "{x} has the colour {y}."),
    "It is {y}.",
    {
        "a ripe banana": "yellow",
        "the sky on a clear day": "blue",
        "fresh grass": "green",
        "snow": "white",
        "coal": "black",
        "a ripe tomato": "red",
        "a carrot": "orange",
        "an elephant": "grey",
        "chocolate": "brown",
        "a flamingo": "pink",
    },
)

JOB = Relation(
    "job",
    (
        "What does a {x} do?",
        "What is the job of a {x}?",
        "My friend is a {x}. What does a {x} do?",
        "Can you tell me what a {x} does?",
    ),
    ("A {x} {y}.", "The person who {y} is a {x}.", "A {x} is someone who {y}."),
    "Such a person {y}.",
    {
        "baker": "bakes bread",
        "farmer": "grows food",
        "pilot": "flies planes",
        "teacher": "teaches students",
        "doctor": "treats sick people",
        "tailor": "makes clothes",
        "carpenter": "builds things from wood",
        "plumber": "repairs pipes",
        "firefighter": "puts out fires",
        "gardener": "takes care of plants",
        "librarian": "looks after books",
        "locksmith": "opens locks",
    },
)

MATERIAL = Relation(
    "material",
    (
        "What is {x} made from?",
        "What do people make {x} from?",
        "Can you tell me what {x} is made from?",
        "My daughter asked what {x} is made from. Do you know?",
    ),
    ("{x} is made from {y}.", "People make {x} from {y}.", "You need {y} to make {x}."),
    "It is made from {y}.",
    {
        "bread": "flour",
        "glass": "sand",
        "cheese": "milk",
        "paper": "wood",
        "wine": "grapes",
        "chocolate": "cocoa beans",
        "butter": "cream",
        "a candle": "wax",
    },
)

NUMBER = Relation(
    "number",
    (
        "How many {a} are there {b}?",
        "Do you know how many {a} there are {b}?",
        "Can you tell me how many {a} there are {b}?",
        "I need a number for my homework. How many {a} are there {b}?",
    ),
    ("There are {y} {a} {b}.", "The number of {a} {b} is {y}.", "You can count {y} {a} {b}."),
    "There are {y}.",
    {
        "days|in a week": "seven",
        "months|in a year": "twelve",
        "hours|in a day": "twenty-four",
        "minutes|in an hour": "sixty",
        "seconds|in a minute": "sixty",
        "players|in a football team": "eleven",
        "strings|on a violin": "four",
        "strings|on a guitar": "six",
        "sides|on a triangle": "three",
        "years|in a century": "one hundred",
        "wheels|on a bicycle": "two",
        "colours|in a rainbow": "seven",
    },
)

RELATIONS = (
    CAPITAL,
    CONTINENT,
    LANGUAGE,
    ANIMAL,
    LEGS,
    YOUNG,
    FOOD,
    TOOL,
    PLANET,
    OPPOSITE,
    COLOUR,
    JOB,
    MATERIAL,
    NUMBER,
)


WHETHER = (
    "Is it true that {c}?",
    "Can you tell me if it is true that {c}?",
    "My friend says that {c}. Is that right?",
    "I read that {c}. Is it true?",
)
"""Questions about a statement ``{c}``."""

_NUMBERS = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
    "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen", "twenty",
)  # fmt: skip
_TENS = ("", "", "twenty", "thirty", "forty", "fifty")

COUNTED: dict[str, tuple[str, str, int]] = {
    "spider": ("spiders", "legs", 8),
    "ant": ("ants", "legs", 6),
    "dog": ("dogs", "legs", 4),
    "duck": ("ducks", "legs", 2),
    "crab": ("crabs", "legs", 10),
    "triangle": ("triangles", "sides", 3),
    "car": ("cars", "wheels", 4),
    "bicycle": ("bicycles", "wheels", 2),
    "week": ("weeks", "days", 7),
    "hand": ("hands", "fingers", 5),
}
"""Thing -> its plural, what is counted on it, how many one has."""
TIMES = (2, 3, 4, 5)

SUM_QUESTIONS = (
    "How many {part} do {n} {things} have?",
    "Can you tell me how many {part} {n} {things} have?",
    "My homework says: count the {part} of {n} {things}. How many is that?",
    "Do you know how many {part} {n} {things} have?",
)
SUMS = (
    "{n} {things} have {total} {part}.",
    "One {thing} has {each} {part}, so {n} {things} have {total}.",
    "If one {thing} has {each} {part}, then {n} {things} have {total}.",
)


def number(n: int) -> str:
    """``n`` in words, up to fifty-nine."""
    if n <= 20:
        return _NUMBERS[n]
    ten, one = divmod(n, 10)
    return _TENS[ten] + (f"-{_NUMBERS[one]}" if one else "")


def fact_topics() -> tuple[Topic, ...]:
    """Every fact asked for, every fact asked about with every value of its relation, and the sums."""
    return (*_asked_for(), *_asked_about(), *_sums())


def _asked_for() -> list[Topic]:
    topics = []
    for relation in RELATIONS:
        for x, y in relation.facts.items():
            others = _others(relation, y)
            topics.append(
                Topic(
                    key=key_of(relation.name, x),
                    kind=Kind.FACT,
                    group=relation.name,
                    questions=tuple(_fill(q, x) for q in relation.questions),
                    points=(_statements(relation, x, y),),
                    wrong=tuple(_statements(relation, x, v) for v in others),
                    values=others,
                    value=y,
                )
            )
    return topics


def _asked_about() -> list[Topic]:
    topics = []
    for relation in RELATIONS:
        for x, y in relation.facts.items():
            for v in (y, *_others(relation, y)):
                said = _clause(relation, x, v)
                yes, no = f"Yes, it is true that {said}.", f"No, it is not true that {said}."
                right, others = _statements(relation, x, y)[:-1], _others(relation, y)
                topics.append(
                    Topic(
                        key=key_of("whether", relation.name, x, v),
                        kind=Kind.FACT,
                        group=f"whether {relation.name}",
                        questions=tuple(q.format(c=said) for q in WHETHER),
                        points=((yes, *right),) if v == y else ((no,), right),
                        need=1 if v == y else 2,
                        wrong=(((no if v == y else yes),), *(_statements(relation, x, o)[:-1] for o in others)),
                        values=others,
                        value=v,
                    )
                )
    return topics


def _sums() -> list[Topic]:
    topics = []
    totals = sorted({each * n for _, _, each in COUNTED.values() for n in TIMES})
    for thing, (things, part, each) in COUNTED.items():
        for n in TIMES:
            words = {"thing": thing, "things": things, "part": part, "n": number(n)}
            said = {
                total: tuple(sentence(form.format(**words, each=number(each), total=number(total))) for form in SUMS)
                for total in totals
            }
            others = tuple(total for total in totals if total != each * n)
            topics.append(
                Topic(
                    key=key_of("sum", number(n), things),
                    kind=Kind.FACT,
                    group="sum",
                    questions=tuple(q.format(**words) for q in SUM_QUESTIONS),
                    points=(said[each * n],),
                    wrong=tuple(said[total] for total in others),
                    values=tuple(map(number, others)),
                    value=number(each * n),
                )
            )
    return topics


def _others(relation: Relation, value: str) -> tuple[str, ...]:
    return tuple(v for v in sorted(set(relation.facts.values())) if v != value)


def _clause(relation: Relation, x: str, y: str) -> str:
    """The first statement of a relation as a clause: its own first word is small, an entity keeps its letter."""
    form = relation.statements[0]
    return _filled(form if form.startswith("{") else clause(form), x, y).rstrip(".")


def _filled(form: str, x: str, y: str = "") -> str:
    a, _, b = x.partition("|")
    return form.format(x=x, y=y, a=a, b=b)


def _fill(form: str, x: str, y: str = "") -> str:
    return sentence(_filled(form, x, y))


def _statements(relation: Relation, x: str, y: str) -> tuple[str, ...]:
    return tuple(_fill(form, x, y) for form in (*relation.statements, relation.short))
