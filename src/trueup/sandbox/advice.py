"""Advice: open questions, with tips for and against something.

Every tip can be turned round, and what is good to do in one topic is good to leave in none: so "not" says nothing by
itself, and neither does any verb. Only which tip it stands in does.
"""

from __future__ import annotations

from dataclasses import dataclass

from trueup.sandbox.topics import Kind, Point, Topic, key_of, sentence

ADVICE_QUESTIONS = (
    "How can I {x}?",
    "Do you have any advice on how to {x}?",
    "What would help me to {x}?",
    "I would like to {x}. What do you suggest?",
    "What can I do to {x}?",
)


@dataclass(frozen=True, slots=True)
class Talk:
    """Good tips, in two wordings each, and bad ones."""

    points: tuple[Point, ...]
    bad: tuple[str, ...]


ADVICE: dict[str, Talk] = {
    "sleep better at night": Talk(
        (
            ("Go to bed at the same time every night.", "Try to go to bed at the same time each night."),
            ("Keep your room dark and quiet.", "A dark and quiet room helps a lot."),
            ("Put your phone away an hour before bed.", "Do not look at your phone before bed."),
        ),
        ("Drink a lot of coffee late at night.", "Watch films until you fall asleep."),
    ),
    "learn a new language": Talk(
        (
            ("Practise for a short time every day.", "A little practice every day works best."),
            ("Talk with people who speak it.", "Find someone who speaks it and talk together."),
            ("Listen to songs and simple stories.", "Simple songs and stories help your ear."),
        ),
        ("Wait until you are older.", "Say nothing until you know every word."),
    ),
    "save more money": Talk(
        (
            ("Write down what you spend each week.", "Make a list of everything that you buy."),
            ("Put a little money away as soon as you are paid.", "Save a part of your pay on the first day."),
            ("Cook at home more often.", "Eat at home and cook your own meals."),
        ),
        ("Buy everything that is on sale.", "Borrow more money and spend it."),
    ),
    "make new friends": Talk(
        (
            ("Join a club for something you enjoy.", "A club is a good place to meet people."),
            ("Ask people about their lives and listen.", "Show interest and listen when people talk."),
            ("Invite someone for a cup of tea.", "Ask someone to have a cup of tea with you."),
        ),
        ("Stay at home and wait for them.", "Talk only about yourself."),
    ),
    "prepare for a test": Talk(
        (
            ("Make a plan and study a little every day.", "Study a little every day with a plan."),
            ("Explain what you learned to a friend.", "Teach a friend what you have learned."),
            ("Sleep well the night before.", "Get enough sleep before the test."),
        ),
        ("Start to study one hour before the test.", "Leave the book closed until the test."),
    ),
    "stay calm before a speech": Talk(
        (
            ("Breathe slowly and deeply.", "Take a few slow and deep breaths."),
            ("Practise the speech in front of a friend.", "Give the speech to a friend first."),
            ("Look at one friendly face.", "Find one friendly face and look at it."),
        ),
        ("Think about all that could go wrong.", "Drink five cups of strong coffee."),
    ),
    "choose a gift for my mother": Talk(
        (
            ("Think about what makes her smile.", "Remember what makes her smile."),
            ("A gift that you make yourself is always nice.", "You could make something with your own hands."),
            ("Flowers and a kind letter are a good choice.", "You could give her flowers and a kind letter."),
        ),
        ("Give her something that you want for yourself.", "Forget about the gift."),
    ),
    "keep my plants alive": Talk(
        (
            ("Give them water when the soil is dry.", "Water them only when the soil feels dry."),
            ("Put them near a window with light.", "Give them a place with enough light."),
            ("Take off the dead leaves.", "Remove leaves that are brown and dead."),
        ),
        ("Keep them in a dark box.", "Pour salt on the soil."),
    ),
    "keep my dog happy": Talk(
        (
            ("Take your dog for a walk every day.", "A long walk every day is important."),
            ("Play together and praise your dog.", "Find a game that your dog loves and play it."),
            ("Give your dog good food and fresh water.", "Make sure that there is fresh water and good food."),
        ),
        ("Leave your dog alone all day.", "Shout at your dog as often as you can."),
    ),
    "wake up early": Talk(
        (
            ("Go to bed earlier.", "Start by going to bed earlier."),
            ("Put the alarm clock far from your bed.", "Place the alarm on the other side of the room."),
            ("Open the curtains and let in the light.", "Let in some light as soon as you can."),
        ),
        ("Stay up all night.", "Turn off the alarm and sleep again."),
    ),
    "eat more healthy food": Talk(
        (
            ("Fill half of your plate with vegetables.", "Let half of your plate be vegetables."),
            ("Drink water in place of sweet drinks.", "Choose water and not sweet drinks."),
            ("Keep fruit where you can see it.", "Put some fruit on the kitchen table."),
        ),
        ("Eat only cake for a month.", "Leave out everything that is green."),
    ),
    "focus on my work": Talk(
        (
            ("Do one thing at a time.", "Choose one task and finish it."),
            ("Turn off your phone while you work.", "Leave your phone in another room."),
            ("Take a short break every hour.", "Rest for a few minutes every hour."),
        ),
        ("Do ten things at the same time.", "Read every message at once."),
    ),
    "read more books": Talk(
        (
            ("Read a few pages before you sleep.", "Read a few pages in bed each night."),
            ("Carry a book with you.", "Take a book along wherever you go."),
            ("Choose books that you really like.", "Stop reading a book that you do not like."),
        ),
        ("Buy books and leave them in a box.", "Read only the last page."),
    ),
    "pack for a trip": Talk(
        (
            ("Make a list before you pack.", "Write a list of what you need."),
            ("Take clothes that go well together.", "Choose clothes that you can wear together."),
            ("Leave a little space for what you buy.", "Do not fill the whole bag."),
        ),
        ("Pack everything that you own.", "Forget your passport at home."),
    ),
    "start running": Talk(
        (
            ("Begin slowly with short runs.", "Walk and run in turns at first."),
            ("Buy a pair of good shoes.", "Good shoes will protect your feet."),
            ("Rest for a day between two runs.", "Give your legs a day of rest."),
        ),
        ("Run as far as you can on the first day.", "Run until it hurts a lot."),
    ),
    "keep my room tidy": Talk(
        (
            ("Put things back after you use them.", "Give everything a place and put it back."),
            ("Clean for ten minutes every evening.", "Ten minutes of cleaning each evening is enough."),
            ("Give away what you do not need.", "Give old things to people who need them."),
        ),
        ("Throw everything under the bed.", "Close the door and forget about it."),
    ),
    "be on time": Talk(
        (
            ("Leave home ten minutes earlier.", "Plan to arrive ten minutes early."),
            ("Prepare your bag the evening before.", "Get your things ready the evening before."),
            ("Keep a clock where you can see it.", "Look at the clock from time to time."),
        ),
        ("Leave when you should be there already.", "Tell them that they can wait for you."),
    ),
    "get along with my brother": Talk(
        (
            ("Listen to him without getting angry.", "Let him speak and listen to him."),
            ("Find something that you both enjoy.", "Do something together that you both like."),
            ("Say sorry when you were wrong.", "If you made a mistake, say that you are sorry."),
        ),
        ("Shout until he agrees with you.", "Break his favourite things."),
    ),
    "remember names": Talk(
        (
            ("Say the name aloud when you hear it.", "Use the name as soon as you hear it."),
            ("Connect the name with a picture.", "Think of a picture for the name."),
            ("Write new names down at night.", "Keep a small list of new names."),
        ),
        ("Think of other things when people tell you their names.", "Call everybody by the same name."),
    ),
    "find a new job": Talk(
        (
            ("Write down what you are good at.", "Make a list of what you can do well."),
            ("Tell your friends that you are looking.", "Ask your friends if they know of a job."),
            ("Practise the questions they may ask you.", "Prepare answers for the questions they may ask."),
        ),
        ("Sleep all day and wait for a call.", "Tell them that you hate to work."),
    ),
}


_STATES = frozenset("A An And Flowers Good It Simple Someone Ten The They You".split())
"""First words of tips that say how something is, or that read oddly behind "Do not": these are not turned round."""


def opposite(tip: str) -> str | None:
    """The same tip turned round, ``"Do not run."`` for ``"Run."``; None where it is no order."""
    first, _, rest = tip.partition(" ")
    if first in ("Never", "Always"):
        return f"{'Always' if first == 'Never' else 'Never'} {rest}"
    if tip.startswith("Do not "):
        return sentence(tip.removeprefix("Do not "))
    if first in _STATES or "," in tip or " not " in tip:
        return None
    return f"Do not {tip[0].lower()}{tip[1:]}"


def advice_topics() -> tuple[Topic, ...]:
    """One topic for every wish: three things to do and two to leave, of which two make a full answer."""
    return tuple(
        Topic(
            key=key_of("advice", wish),
            kind=Kind.ADVICE,
            group="advice",
            questions=tuple(q.format(x=wish) for q in ADVICE_QUESTIONS),
            points=(*talk.points, *(turned for bad in talk.bad if (turned := _turned((bad,))))),
            need=2,
            wrong=(*((bad,) for bad in talk.bad), *(turned for tip in talk.points if (turned := _turned(tip)))),
        )
        for wish, talk in ADVICE.items()
    )


def _turned(tip: Point) -> Point:
    return tuple(turned for wording in tip if (turned := opposite(wording)) is not None)
