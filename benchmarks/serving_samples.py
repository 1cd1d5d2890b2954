"""A little text of our own to serve, where no folder with real text is given."""

DIALOGUES = (
    ("How do bees find their way home?", "Explain it once more, to a child of seven."),
    ("Describe a lighthouse on a stormy night.", "Now tell it as the keeper would."),
    ("What makes bread rise?", "And why does it stop rising in the oven?"),
    ("Give three reasons to learn to swim.", "Which of them matters most, and why?"),
    ("Plan a quiet Sunday in a small town.", "It rains. Change the plan."),
    ("Why is the sky blue, and why are sunsets red?", "What colour is it on Mars?"),
    ("Write a short letter to a new neighbour.", "Make it half as long."),
    ("How does a bicycle stay upright?", "Does that also hold for a scooter?"),
)

PROBLEMS = (
    (
        "A baker makes 12 trays of 8 rolls and sells 70. How many rolls are left?",
        "She makes 12 * 8 = 96 rolls. After selling 70 there are 96 - 70 = 26 left.",
    ),
    (
        "A train runs 90 km in an hour and a half. How far does it run in 4 hours?",
        "Its speed is 90 / 1.5 = 60 km an hour. In 4 hours it runs 4 * 60 = 240 km.",
    ),
    (
        "Three friends share a bill of 54 in parts of 1, 2 and 3. What does each pay?",
        "There are 1 + 2 + 3 = 6 parts of 54 / 6 = 9. They pay 9, 18 and 27.",
    ),
    (
        "A tank holds 200 litres and loses 5 litres a day. When is it three quarters full?",
        "Three quarters are 150 litres. It has to lose 50 litres: 50 / 5 = 10 days.",
    ),
    (
        "Tom reads 15 pages a day and then, after 6 days, 20 a day. How many after 10 days?",
        "In 6 days he reads 6 * 15 = 90 pages, in 4 more 4 * 20 = 80. Together 170 pages.",
    ),
    (
        "A garden is 7 m by 9 m. A fence costs 4 a metre. What does it cost to fence it?",
        "The way around is 2 * (7 + 9) = 32 m. The fence costs 32 * 4 = 128.",
    ),
)

FUNCTIONS = (
    '''def mean(values: list[float]) -> float:
    """The arithmetic mean of values, of which there is at least one."""
    total = 0.0
    for value in values:
        total += value
    return total / len(values)
''',
    '''def is_palindrome(text: str) -> bool:
    """Whether a text reads the same from both ends, whatever its case."""
    letters = [letter.lower() for letter in text if letter.isalpha()]
    return letters == letters[::-1]
''',
    '''def count_words(text: str) -> dict[str, int]:
    """How often each word is in a text."""
    counts: dict[str, int] = {}
    for word in text.lower().split():
        counts[word] = counts.get(word, 0) + 1
    return counts
''',
    '''def greatest_common_divisor(a: int, b: int) -> int:
    """Euclid's algorithm on two numbers that are not negative."""
    while b:
        a, b = b, a % b
    return a
''',
)

TRACE = tuple(
    (3.0 * turn, (0, *range(10 * talk + 1, 10 * talk + 2 + turn)), 8)
    for turn in range(4)
    for talk in range(3)
)
"""Arrivals as `serving_texts.Arrival` has them: seconds, blocks of the prompt, length of the
answer. Three conversations that begin alike, each of four turns."""
