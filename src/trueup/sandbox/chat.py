"""Small talk: what people say, and replies that fit it. A reply that fits one moment is out of place in another."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from trueup.sandbox.topics import Kind, Point, Topic, key_of

SHARED: dict[str, Point] = {
    "sad": (
        "I am so sorry to hear that.",
        "That must be hard for you.",
        "I understand that you are sad.",
    ),
    "glad": (
        "I am so happy to hear that.",
        "That must be a great joy for you.",
        "I understand that you are proud and happy.",
    ),
}
"""Mood -> what shares it: right where the person feels so, and cold where the person feels the other way."""


@dataclass(frozen=True, slots=True)
class Moment:
    """Something that a person says in small talk, in several wordings, and replies to it."""

    says: tuple[str, ...]
    points: tuple[Point, ...]
    mood: Literal["sad", "glad"] | None = None
    """What the person feels; None where a reply need not share it."""


CHAT: dict[str, Moment] = {
    "bad-day": Moment(
        ("I had a very bad day at work.", "My day at work was really bad.", "Work was terrible today and I am tired."),
        (
            ("I'm sorry to hear that your day was bad.", "I'm sorry that work was so hard today."),
            ("Would you like to tell me what happened?", "What was the worst part of it?"),
            ("Tomorrow will be a new day.", "I hope that tomorrow will be better."),
        ),
        "sad",
    ),
    "lonely": Moment(
        ("I feel very lonely this evening.", "I have nobody to talk to today.", "I am alone at home and feel lonely."),
        (
            ("I'm sorry that you feel lonely.", "It is hard to feel alone."),
            ("I am here and happy to talk with you.", "We can talk for as long as you like."),
            ("Maybe you could call an old friend.", "An old friend may be happy to hear from you."),
        ),
        "sad",
    ),
    "passed-exam": Moment(
        ("I passed my big exam today!", "I just heard that I passed my exam!", "My exam went well and I passed it!"),
        (
            ("That is great news about your exam!", "What great news about the exam!"),
            ("You worked hard for it.", "All your hard work was worth it."),
            ("How will you celebrate?", "I hope that you will celebrate with your friends."),
        ),
        "glad",
    ),
    "sick-dog": Moment(
        (
            "My dog is sick and I am worried.",
            "I am worried because my dog is sick.",
            "My poor dog does not feel well today.",
        ),
        (
            ("I'm sorry that your dog is sick.", "I hope that your dog feels better soon."),
            ("An animal doctor can find out what is wrong.", "It is good to take your dog to an animal doctor."),
            ("Stay close and keep your dog warm.", "Your dog will be glad that you stay close."),
        ),
        "sad",
    ),
    "birthday": Moment(
        ("Today is my birthday, so I am happy!", "It is my birthday today!", "I have my birthday today and feel old."),
        (
            ("Happy birthday to you!", "I wish you a very happy birthday!"),
            ("I hope that you get some cake today.", "Will there be a cake with candles?"),
            ("May the next year bring you joy.", "I wish you a year full of joy."),
        ),
        "glad",
    ),
    "joke": Moment(
        (
            "Please tell me a funny joke.",
            "Can you tell me a good joke?",
            "Do you know a joke that I can tell my friends?",
        ),
        (
            (
                "Why did the bicycle fall over? Because it was two tired.",
                "A bicycle cannot stand up, because it is two tired.",
            ),
            ("What do you call a bear with no teeth? A gummy bear.", "A bear with no teeth is called a gummy bear."),
        ),
    ),
    "story": Moment(
        (
            "Please tell me a very short story.",
            "Can you tell me a short story for my son?",
            "I would love to hear a short story.",
        ),
        (
            (
                "Once there was a small cat who was afraid of the rain.",
                "Once upon a time a small cat was afraid of the rain.",
            ),
            ("One day it met a duck who loved the rain.", "One day a friendly duck came by in the rain."),
            (
                "They played together, and the cat was never afraid again.",
                "The two played all day, and the cat was not afraid again.",
            ),
        ),
    ),
    "how-are-you": Moment(
        ("How are you feeling today?", "How is your day going so far?", "Are you having a good day?"),
        (
            ("I am doing very well today.", "My day is going very well."),
            ("It is kind of you to ask.", "Thank you for your kind question."),
            ("And how are you today?", "How is your own day going?"),
        ),
    ),
    "bored": Moment(
        ("I am so bored this afternoon.", "There is nothing to do and I am bored.", "I feel bored at home today."),
        (
            ("You could go for a walk in the park.", "A walk in the park may be fun."),
            ("Maybe you could bake something sweet.", "You could try to bake a cake."),
            ("You could draw or paint a picture.", "It can be fun to paint a picture."),
        ),
    ),
    "moved": Moment(
        (
            "I just moved to a new city.",
            "Last week I moved to a new city.",
            "I live in a new city now and know nobody.",
        ),
        (
            ("A new city can be exciting.", "How exciting to live in a new city!"),
            ("Take a walk and find your favourite places.", "You could look around and find places that you like."),
            ("Your neighbours may be happy to meet you.", "You could say hello to your neighbours."),
        ),
    ),
    "proud": Moment(
        (
            "My little daughter can read now, and I am proud.",
            "I am so proud because my daughter can read.",
            "My daughter read her first book today!",
        ),
        (
            ("You can be very proud of your daughter.", "How nice that your daughter can read!"),
            ("Reading will open a whole world to her.", "A whole world of stories is open to her now."),
            ("Which book does she like best?", "What was the book about?"),
        ),
        "glad",
    ),
    "miss-family": Moment(
        ("I miss my family a lot.", "My family is far away and I miss them.", "I have not seen my family for a year."),
        (
            ("It is hard to be far from your family.", "I understand that you miss your family."),
            ("A call or a letter may help a little.", "Maybe you could call them this evening."),
            ("I hope that you will see them soon.", "You will be so happy when you see them again."),
        ),
        "sad",
    ),
    "wedding": Moment(
        (
            "I am getting married next month!",
            "Next month is my wedding!",
            "We are planning our wedding for next month.",
        ),
        (
            ("I wish you both a wonderful wedding!", "What wonderful news about your wedding!"),
            ("Is everything ready for the big day?", "I hope that the big day will be perfect."),
            ("May you be happy together for many years.", "I wish you many happy years together."),
        ),
        "glad",
    ),
    "dinner": Moment(
        (
            "I do not know what to eat for dinner.",
            "What should I have for dinner tonight?",
            "I am hungry but have no idea for dinner.",
        ),
        (
            ("A warm soup with bread is always good.", "You could have a warm soup with bread."),
            ("You could make rice with vegetables.", "Rice with vegetables is quick and healthy."),
            ("An egg and a salad would be a light dinner.", "A salad with an egg is nice and light."),
        ),
    ),
    "rain": Moment(
        ("It is raining again today.", "The rain will not stop today.", "I cannot go out, because it is raining."),
        (
            ("Rain is a good reason to stay in with tea.", "A cup of tea is perfect on a rainy day."),
            ("The plants will be happy about the rain.", "At least the plants like the rain."),
            ("Maybe the sun will come out later.", "I hope that the sun will come back soon."),
        ),
    ),
    "new-job": Moment(
        (
            "I start a new job on Monday!",
            "On Monday I have my first day at a new job!",
            "I got a new job and I am so happy!",
        ),
        (
            ("I wish you a good start in your new job!", "How great that you have a new job!"),
            ("It is normal to feel nervous at first.", "Everybody is a little nervous on the first day."),
            ("Ask many questions and be kind to people.", "Be kind, and do not be afraid to ask questions."),
        ),
        "glad",
    ),
    "lost-keys": Moment(
        ("I lost my keys somewhere.", "I cannot find my keys anywhere.", "My keys are gone, and I am late."),
        (
            ("Think about where you had your keys last.", "Try to remember where you used your keys last."),
            ("Look in your pockets and your bag.", "Check all your pockets and your bag again."),
            ("Stay calm, because they will turn up.", "Most lost keys turn up again."),
        ),
        "sad",
    ),
    "music": Moment(
        (
            "Do you like music as much as I do?",
            "What music should I listen to now?",
            "I want to hear some good music today.",
        ),
        (
            ("Slow piano music is nice in the evening.", "In the evening I would choose slow piano music."),
            ("A happy song can make you dance.", "Try a happy song if you want to dance."),
            ("What music do you like best?", "Tell me which music you like best."),
        ),
    ),
    "garden": Moment(
        (
            "The first flowers are out in my garden!",
            "I saw the first flowers in my garden.",
            "My garden looks so beautiful today.",
        ),
        (
            ("It is lovely to see the first flowers.", "Your garden must look lovely now."),
            ("You could take a photo for your friends.", "Maybe you could send a photo to a friend."),
            ("The bees will be happy too.", "Soon the bees will come to visit."),
        ),
        "glad",
    ),
    "argument": Moment(
        (
            "I had a fight with my best friend.",
            "My best friend is angry with me.",
            "My best friend and I do not talk any more.",
        ),
        (
            ("I'm sorry about the trouble with your friend.", "It hurts when a good friend is angry."),
            ("Maybe you could talk about it calmly.", "A calm talk can help you both."),
            ("A good friend will listen to you.", "Tell your friend how you feel."),
        ),
        "sad",
    ),
}


def chat_topics() -> tuple[Topic, ...]:
    """One topic for every moment of small talk; two replies make a full answer, but one joke is enough."""
    return tuple(
        Topic(
            key=key_of("chat", name),
            kind=Kind.CHAT,
            group="chat",
            questions=moment.says,
            points=(*moment.points, SHARED[moment.mood]) if moment.mood else moment.points,
            need=1 if name == "joke" else len(moment.points) if name == "story" else 2,
            ordered=name == "story",
            wrong=tuple(shared for mood, shared in SHARED.items() if moment.mood not in (None, mood)),
        )
        for name, moment in CHAT.items()
    )
