"""Advice and chat: open questions and small talk, with good points, bad tips and cold replies."""

from __future__ import annotations

from dataclasses import dataclass

from trueup.data.sandbox.topics import Kind, Point, Topic

ADVICE_QUESTIONS = (
    "How can I {x}?",
    "Do you have any advice on how to {x}?",
    "What would help me to {x}?",
    "I would like to {x}. What do you suggest?",
    "What can I do to {x}?",
)


@dataclass(frozen=True, slots=True)
class Talk:
    """Good points, in two wordings each, and bad ones."""

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
        ("Wait until you are older.", "Never speak before you know every word."),
    ),
    "save more money": Talk(
        (
            ("Write down what you spend each week.", "Make a list of everything that you buy."),
            ("Put some money away as soon as you are paid.", "Save a part of your pay on the first day."),
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
        ("Start to study one hour before the test.", "Do not read the book at all."),
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
        ("Give her something that you want for yourself.", "Just forget about the gift."),
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
        ("Eat only cake for a month.", "Never eat anything green."),
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
        ("Leave when you should be there already.", "Tell them that the time does not matter."),
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
        ("Do not listen when people tell you their names.", "Call everybody by the same name."),
    ),
    "find a new job": Talk(
        (
            ("Write down what you are good at.", "Make a list of what you can do well."),
            ("Tell your friends that you are looking.", "Ask your friends if they know of a job."),
            ("Practise the questions they may ask you.", "Prepare answers for the questions they may ask."),
        ),
        ("Sleep all day and wait for a call.", "Tell them that you do not like work."),
    ),
}


@dataclass(frozen=True, slots=True)
class Moment:
    """Something that a person says in small talk, in several wordings, and replies to it."""

    says: tuple[str, ...]
    points: tuple[Point, ...]
    bad: tuple[str, ...]


CHAT: dict[str, Moment] = {
    "bad-day": Moment(
        ("I had a very bad day at work.", "My day at work was really bad.", "Work was terrible today and I am tired."),
        (
            ("I'm sorry to hear that your day was bad.", "I'm sorry that work was so hard today."),
            ("Would you like to tell me what happened?", "What was the worst part of it?"),
            ("Tomorrow will be a new day.", "I hope that tomorrow will be better."),
        ),
        ("That is your own fault.", "Everybody has to work, so stop crying."),
    ),
    "lonely": Moment(
        ("I feel very lonely this evening.", "I have nobody to talk to today.", "I am alone at home and feel lonely."),
        (
            ("I'm sorry that you feel lonely.", "It is hard to feel alone."),
            ("I am here and happy to talk with you.", "We can talk for as long as you like."),
            ("Maybe you could call an old friend.", "An old friend may be happy to hear from you."),
        ),
        ("Nobody wants to talk with you.", "Then just be alone."),
    ),
    "passed-exam": Moment(
        ("I passed my big exam today!", "I just heard that I passed my exam!", "My exam went well and I passed it!"),
        (
            ("That is great news about your exam!", "What great news about the exam!"),
            ("You worked hard for it.", "All your hard work was worth it."),
            ("How will you celebrate?", "I hope that you will celebrate with your friends."),
        ),
        ("Anybody could pass that exam.", "I do not care about your exam."),
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
        ("It is only a dog.", "Just buy a new dog."),
    ),
    "birthday": Moment(
        ("Today is my birthday, so I am happy!", "It is my birthday today!", "I have my birthday today and feel old."),
        (
            ("Happy birthday to you!", "I wish you a very happy birthday!"),
            ("I hope that you get some cake today.", "Will there be a cake with candles?"),
            ("May the next year bring you joy.", "I wish you a year full of joy."),
        ),
        ("You are getting very old.", "A birthday is a day like any other."),
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
        ("Jokes are for children.", "I do not like to laugh."),
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
        ("Stories are a waste of time.", "Read a book and leave me out of it."),
    ),
    "how-are-you": Moment(
        ("How are you feeling today?", "How is your day going so far?", "Are you having a good day?"),
        (
            ("I am doing very well today.", "My day is going very well."),
            ("It is kind of you to ask.", "Thank you for your kind question."),
            ("And how are you today?", "How is your own day going?"),
        ),
        ("I do not want to talk about it.", "Why do you care how I am?"),
    ),
    "bored": Moment(
        ("I am so bored this afternoon.", "There is nothing to do and I am bored.", "I feel bored at home today."),
        (
            ("You could go for a walk in the park.", "A walk in the park may be fun."),
            ("Maybe you could bake something sweet.", "You could try to bake a cake."),
            ("You could draw or paint a picture.", "It can be fun to paint a picture."),
        ),
        ("Only boring people are bored.", "Then sit there and look at the wall."),
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
        ("You should have stayed at home.", "Nobody will like you there."),
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
        ("All children can do that.", "She will stop reading soon."),
    ),
    "miss-family": Moment(
        ("I miss my family a lot.", "My family is far away and I miss them.", "I have not seen my family for a year."),
        (
            ("It is hard to be far from your family.", "I understand that you miss your family."),
            ("A call or a letter may help a little.", "Maybe you could call them this evening."),
            ("I hope that you will see them soon.", "You will be so happy when you see them again."),
        ),
        ("They do not miss you.", "You are too old to miss your family."),
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
        ("Weddings cost far too much.", "It will not last long."),
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
        ("Eat whatever you like, but do not ask me.", "Go to bed hungry."),
    ),
    "rain": Moment(
        ("It is raining again today.", "The rain will not stop today.", "I cannot go out, because it is raining."),
        (
            ("Rain is a good reason to stay in with tea.", "A cup of tea is perfect on a rainy day."),
            ("The plants will be happy about the rain.", "At least the plants like the rain."),
            ("Maybe the sun will come out later.", "I hope that the sun will come back soon."),
        ),
        ("Do not talk about the weather.", "It will rain for the rest of your life."),
    ),
    "new-job": Moment(
        (
            "I start a new job on Monday.",
            "On Monday I have my first day at a new job.",
            "I got a new job and feel nervous.",
        ),
        (
            ("I wish you a good start in your new job!", "How great that you have a new job!"),
            ("It is normal to feel nervous at first.", "Everybody is a little nervous on the first day."),
            ("Ask many questions and be kind to people.", "Be kind, and do not be afraid to ask questions."),
        ),
        ("You will lose that job soon.", "A job is nothing special."),
    ),
    "lost-keys": Moment(
        ("I lost my keys somewhere.", "I cannot find my keys anywhere.", "My keys are gone, and I am late."),
        (
            ("Think about where you had your keys last.", "Try to remember where you used your keys last."),
            ("Look in your pockets and your bag.", "Check all your pockets and your bag again."),
            ("Stay calm, because they will turn up.", "Most lost keys turn up again."),
        ),
        ("You always lose your things.", "Then you will sleep outside."),
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
        ("All music sounds the same.", "Music is only noise."),
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
        ("Flowers die very fast.", "I have seen better gardens."),
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
        ("Your friend is right to be angry.", "Just find a better friend."),
    ),
}


def advice_topics() -> tuple[Topic, ...]:
    """One topic for every wish; two of its three tips make a full answer."""
    return tuple(
        Topic(
            key=f"advice/{wish.replace(' ', '-')}",
            kind=Kind.ADVICE,
            questions=tuple(q.format(x=wish) for q in ADVICE_QUESTIONS),
            points=talk.points,
            need=2,
            wrong=tuple((bad,) for bad in talk.bad),
        )
        for wish, talk in ADVICE.items()
    )


def chat_topics() -> tuple[Topic, ...]:
    """One topic for every moment of small talk; two replies make a full answer, but one joke is enough."""
    return tuple(
        Topic(
            key=f"chat/{name}",
            kind=Kind.CHAT,
            questions=moment.says,
            points=moment.points,
            need=1 if name == "joke" else len(moment.points) if name == "story" else 2,
            ordered=name == "story",
            wrong=tuple((bad,) for bad in moment.bad),
        )
        for name, moment in CHAT.items()
    )
