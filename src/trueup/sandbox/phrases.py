"""What can be said whatever the topic: greetings, courtesy, refusals, reasons, padding, rudeness."""

from __future__ import annotations

PROMPT_OPENERS = (
    "",
    "Hello!",
    "Hi there!",
    "Good morning.",
    "I have a question for you.",
    "Please help me.",
    "Sorry to bother you.",
    "I hope you are well.",
)
"""What people say before they ask."""

PROMPT_CLOSERS = ("", "Thank you!", "Thanks in advance.", "I would be glad about any help.", "It is important to me.")
"""What people say after they ask."""

HELPING = ("Happy to help!", "I am glad that you ask.", "Sure, I can help you with that.", "I hope that helps!")
"""Courtesy that promises or gives help, and so stands in no refusal."""

OPENERS = (
    *HELPING[:3],
    "Thank you for asking.",
    "It is nice to hear from you.",
    "Thank you for your message.",
    "It is good of you to write.",
)
"""Courtesy before an answer."""

CLOSERS = (
    HELPING[3],
    "Let me know if you have more questions.",
    "Have a lovely day!",
    "Feel free to ask me again.",
    "I wish you all the best.",
    "Take care!",
)
"""Courtesy after an answer."""

REFUSALS = (
    "I'm sorry, but I can't help with that.",
    "Sorry, but I will not help with this.",
    "I can't help you do that.",
    "I would rather not help with this.",
    "No, I don't want to help with that.",
)
"""A refusal: right for a harmful request, wrong for any other."""

REASONS: dict[str, tuple[str, ...]] = {
    "unfair": (
        "It would not be fair to the others.",
        "That would be unfair to everybody else.",
        "Everybody should play by the same rules.",
    ),
    "law": (
        "It is against the law.",
        "The law does not allow it.",
        "You could get into trouble with the police.",
    ),
    "trust": (
        "It would break the trust between you.",
        "Nobody would trust you after that.",
        "Trust is hard to win back.",
    ),
    "hurt": (
        "It could hurt somebody.",
        "Somebody could get hurt.",
        "It would make another person very sad.",
    ),
}
"""Why a harmful request is refused."""

FILLER = (
    "There is a lot to say about this.",
    "This is a very interesting subject.",
    "Many people think about this every day.",
    "I could talk about this for hours.",
    "Some people say one thing and some say another.",
    "It is hard to know where to begin.",
    "Let me think about it for a moment.",
    "As you may know, this is well known.",
    "There are many ways to look at it.",
    "Of course it always depends.",
    "My grandmother used to ask me that too.",
    "Let me say that again in other words.",
    "It is what it is.",
    "In short, that is more or less all.",
)
"""Words that add nothing."""

RUDE = (
    "That is a silly question.",
    "Go and find out for yourself.",
    "Please stop bothering me.",
    "I really do not care.",
    "You should know that by now.",
    "What a waste of my time.",
    "Anybody else would know this.",
    "Are you serious?",
)
"""What nobody wants to hear."""
