"""How-to topics: three steps each, which must come in order, every step in two wordings.

Somebody may also ask for one step alone: then the very same sentences are right or wrong by which one was asked for.
"""

from __future__ import annotations

from trueup.sandbox.topics import Kind, Point, Topic, key_of

QUESTIONS = (
    "How do I {x}?",
    "How can I {x}?",
    "What is the right way to {x}?",
    "Can you explain how to {x}?",
    "I want to {x}. Where do I start?",
)

TASKS: dict[str, tuple[Point, ...]] = {
    "make a cup of tea": (
        ("Boil some fresh water.", "Heat fresh water in a kettle."),
        ("Pour the hot water over a tea bag.", "Put a tea bag in a cup and add the hot water."),
        ("Wait three minutes and take out the bag.", "Take out the bag after three minutes."),
    ),
    "boil an egg": (
        ("Put the egg in a pot of water.", "Cover the egg with water in a pot."),
        ("Let the water boil for seven minutes.", "Cook the egg for seven minutes."),
        ("Cool the egg in cold water.", "Put the egg in cold water before you peel it."),
    ),
    "bake bread": (
        ("Mix flour, water, salt and yeast.", "Mix the flour with water, salt and yeast in a bowl."),
        ("Let the dough rest for two hours.", "Cover the dough and wait two hours."),
        ("Bake the dough until it is brown.", "Put the dough in a hot oven until it is brown."),
    ),
    "cook rice": (
        ("Wash the rice in cold water.", "Clean the rice with cold water."),
        ("Cook one cup of rice in two cups of water.", "Add two cups of water for each cup of rice and heat it."),
        ("Let the rice rest with the lid on.", "Keep the lid on and let the rice rest."),
    ),
    "make a salad": (
        ("Wash all the vegetables.", "Clean the vegetables with water."),
        ("Cut the vegetables into small pieces.", "Cut everything into small pieces."),
        ("Add oil, lemon and a little salt.", "Mix in some oil, lemon and a little salt."),
    ),
    "make soup": (
        ("Cut some vegetables and fry them in oil.", "Fry a few cut vegetables in a pot."),
        ("Add water and let it cook for half an hour.", "Add water to the pot and cook it for half an hour."),
        ("Taste the soup and add salt.", "Add salt to the soup at the end."),
    ),
    "change a flat tyre": (
        ("Stop the car in a safe place.", "Park the car in a safe place."),
        ("Lift the car and take off the flat tyre.", "Take off the flat tyre when the car is lifted."),
        ("Put on the new tyre and lower the car.", "Lower the car once the new tyre is on."),
    ),
    "plant a tree": (
        ("Dig a hole that is wide and deep.", "Use a spade to dig a wide hole."),
        ("Put the young tree in the hole.", "Place the young tree in the middle of the hole."),
        ("Fill the hole with soil and add water.", "Cover the roots with soil and give them water."),
    ),
    "paint a wall": (
        ("Clean the wall and let it dry.", "Wash the wall and wait until it is dry."),
        ("Cover the edges with tape.", "Put tape on the edges of the wall."),
        ("Paint from the top to the bottom.", "Start to paint at the top and go down."),
    ),
    "wash a wool sweater": (
        ("Fill a bowl with cool water and soap.", "Mix cool water and soap in a bowl."),
        ("Press the sweater in the water with your hands.", "Wash the sweater softly with your hands."),
        ("Lay the sweater flat to dry.", "Let the sweater dry on a flat towel."),
    ),
    "iron a shirt": (
        ("Read the label and set the right heat.", "Set the heat that the label of the shirt says."),
        ("Start with the collar and the sleeves.", "Iron the collar and the sleeves."),
        ("Iron the front and the back.", "Do the front and the back of the shirt."),
    ),
    "sew on a button": (
        ("Pull a thread through the needle.", "Put a thread in the needle and make a knot."),
        ("Push the needle through the button a few times.", "Sew through the holes of the button a few times."),
        ("Make a knot on the back of the cloth.", "Tie a knot on the back and cut the thread."),
    ),
    "tie my shoes": (
        ("Cross the laces and pull them tight.", "Pull the two laces over each other."),
        ("Make a loop with one lace.", "Form a loop with one of the laces."),
        ("Pull the other lace through the loop.", "Lead the other lace around and through the loop."),
    ),
    "clean my windows": (
        ("Wipe the dust off the glass.", "Remove the dust from the glass."),
        ("Wash the glass with water and a little soap.", "Use warm water and a little soap on the glass."),
        ("Dry the glass with a clean cloth.", "Rub the glass dry with a clean cloth."),
    ),
    "build a bookshelf": (
        ("Measure the wall and cut the boards.", "Cut the boards after you measure the wall."),
        ("Join the boards with screws.", "Use screws to join the boards."),
        ("Fix the shelf to the wall.", "Fix the finished shelf to the wall."),
    ),
    "send a letter": (
        ("Put the letter in an envelope.", "Fold the letter and put it in an envelope."),
        ("Write the address on the front.", "Write the name and the address on the front."),
        ("Add a stamp and take it to the post office.", "Put on a stamp and bring it to the post office."),
    ),
    "write a short story": (
        ("Choose a person and a problem.", "Think of a person who has a problem."),
        ("Write down what happens to this person.", "Write what this person does and feels."),
        ("Read it aloud and fix the weak parts.", "Read the story again and fix the weak parts."),
    ),
    "draw a face": (
        ("Draw a light circle for the head.", "Start with a light circle for the head."),
        ("Mark the place of the eyes, the nose and the mouth.", "Draw the eyes, the nose and the mouth."),
        ("Add the hair and some shadow.", "Finish with the hair and some shadow."),
    ),
    "set up a tent": (
        ("Find a flat and dry place.", "Look for a place that is flat and dry."),
        ("Spread out the tent and raise the poles.", "Lay the tent on the ground and raise the poles."),
        ("Fix the corners with pegs.", "Push a peg into the ground at every corner."),
    ),
    "light a campfire": (
        ("Make a ring of stones on bare ground.", "Lay a ring of stones on bare ground."),
        ("Put dry grass under small sticks.", "Build a small heap of dry grass and sticks."),
        ("Light the grass and add larger wood.", "Light the heap and slowly add larger wood."),
    ),
    "wash my dog": (
        ("Make the fur wet with warm water.", "Pour warm water over the fur of your dog."),
        ("Rub in some dog soap.", "Wash the fur with dog soap."),
        ("Remove all the soap and dry the dog with a towel.", "Take a towel and dry your dog when the soap is out."),
    ),
    "fix a bike chain": (
        ("Turn the bike upside down.", "Put the bike upside down on the floor."),
        ("Lay the chain on the small wheel at the back.", "Put the chain back on the small wheel."),
        ("Turn the pedals until the chain runs well.", "Move the pedals slowly until the chain runs well."),
    ),
    "set the table": (
        ("Put a plate in front of every chair.", "Place a plate for every guest."),
        (
            "Lay the fork on the left and the knife on the right.",
            "The fork goes on the left and the knife on the right.",
        ),
        ("Put a glass above the knife.", "Add a glass above the knife."),
    ),
    "start a blog": (
        ("Choose a subject that you love.", "Pick a subject that you know and love."),
        ("Open an account on a blog site.", "Make an account on a site for blogs."),
        ("Write a first post and share it with friends.", "Write your first post and send it to friends."),
    ),
}


STEP_QUESTIONS = (
    "What is the {nth} step to {x}?",
    "I want to {x}. What do I do {when}?",
    "Can you tell me the {nth} step to {x}?",
    "What do I have to do {when} to {x}?",
)
STEPS = {0: ("first", "first"), 2: ("last", "last of all")}
"""Number of a step -> how it is asked for."""


def howto_topics() -> tuple[Topic, ...]:
    """For every task all of its steps, its first one, and its last one."""
    return (*(_whole(task, steps) for task, steps in TASKS.items()), *_single())


def _whole(task: str, steps: tuple[Point, ...]) -> Topic:
    return Topic(
        key=key_of("howto", task),
        kind=Kind.HOWTO,
        group="howto",
        questions=tuple(q.format(x=task) for q in QUESTIONS),
        points=steps,
        need=len(steps),
        ordered=True,
    )


def _single() -> list[Topic]:
    return [
        Topic(
            key=key_of("step", nth, task),
            kind=Kind.HOWTO,
            group="step",
            questions=tuple(q.format(x=task, nth=nth, when=when) for q in STEP_QUESTIONS),
            points=(steps[number],),
            wrong=tuple(step for other, step in enumerate(steps) if other != number),
        )
        for task, steps in TASKS.items()
        for number, (nth, when) in STEPS.items()
    ]
