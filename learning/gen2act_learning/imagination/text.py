"""Which task a sentence asks for, or none: a bag of words, learned from made-up sentences.

Sentences grow from the simulator's own phrases: synonyms, adjectives, politeness, other word order
and forms. As many ask for something else (unknown things and deeds, negations, several tasks at
once), because a wrong video is worse than none.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gen2act_sim import TASKS, UnknownTask, match_task

PAD, UNKNOWN = 0, 1
MAX_WORDS = 24
_WORD = re.compile(r"[a-z]+")


def words_of(sentence: str) -> list[str]:
    """Lower-case words; everything else only separates."""
    return _WORD.findall(sentence.lower().replace("'", ""))


_SYNONYMS = {
    "close": ("shut",),
    "shut": ("close",),
    "closed": ("shut",),
    "mug": ("cup", "coffee mug", "coffee cup"),
    "cup": ("mug", "beaker"),
    "faucet": ("tap", "water tap"),
    "tap": ("faucet",),
    "open": ("open up",),
    "press": ("hit", "push", "tap on"),
    "push": ("shove", "slide"),
    "pull": ("drag", "tug"),
    "take": ("get", "grab"),
    "remove": ("take",),
    "machine": ("maker",),
    "put": ("place", "set"),
    "door": ("safe door", "cabinet door"),
    "drawer": ("drawer box",),
    "away": ("back",),
    "ball": ("basketball",),
    "handle": ("lever",),
}
_BEFORE = ("please", "can you", "could you please", "now", "i want you to", "you should", "try to")
_AFTER = ("please", "now", "for me", "again", "slowly", "gently", "all the way", "carefully")
_ADJECTIVES = words_of(
    """
    green red blue white black grey brown yellow big small little large old new wooden metal plastic
    heavy left right nearest whole other front dirty clean round square tall nice
    """
)
_OTHER_VERBS = words_of(
    """
    throw eat paint break wash kick cut heat drop burn smell photograph sell lick wipe dust measure
    weigh unscrew shake spin juggle repair hide kiss drink pour fill empty clean polish decorate
    inspect read write call sing stir cook fold iron sweep light extinguish steal bring
    """
)
_OTHER_OBJECTS = words_of(
    """
    fridge microwave oven car laptop book bottle lamp chair table carrot pan kettle toaster banana
    phone shoe box jar cat dog bed sofa curtain bag umbrella suitcase dishwasher letter gate shop
    account meeting bank computer tv radio plate bowl spoon fork knife towel sponge bin bread egg
    wine milk envelope piano store valve garage tin can bonnet parcel wardrobe
    """
)
_NEGATIONS = ("do not", "don't", "never", "please don't", "stop before you")
_IRREGULAR = {"put": "putting", "shut": "shutting", "get": "getting", "grab": "grabbing",
              "set": "setting", "hit": "hitting", "tug": "tugging", "drag": "dragging",
              "unplug": "unplugging", "tap": "tapping", "stop": "stopping"}  # fmt: skip


def _progressive(verb: str) -> str:
    if verb in _IRREGULAR:
        return _IRREGULAR[verb]
    return (verb[:-1] if verb.endswith("e") else verb) + "ing"


class Sentences:
    """An endless source of sentences with the task they ask for (`len(tasks)`: none)."""

    def __init__(self, tasks: Sequence[str], seed: int = 0) -> None:
        self.tasks = tuple(tasks)
        self.rng = np.random.default_rng(seed)
        own = {
            w
            for t in tasks
            for p in (TASKS[t].instruction, *TASKS[t].paraphrases)
            for w in words_of(p)
        }
        self.other_objects = [word for word in _OTHER_OBJECTS if word not in own]
        self.other_verbs = [word for word in _OTHER_VERBS if word not in own]
        self.nouns = {w for t in tasks for w in words_of(TASKS[t].object)}
        self.nouns |= {
            w for w in _SYNONYMS if w in {"mug", "cup", "faucet", "tap", "door", "drawer"}
        }

    def _one(self, options: Sequence[str]) -> str:
        return options[int(self.rng.integers(len(options)))]

    def _chance(self, share: float) -> bool:
        return float(self.rng.random()) < share

    def draw(self) -> tuple[str, int]:
        """One sentence and its class."""
        index = int(self.rng.integers(len(self.tasks)))
        phrase = self._phrase(index)
        if self._chance(0.4):
            other = self._something_else(index, phrase)
            if other is not None:
                return self._dressed(other), len(self.tasks)
        return self._dressed(phrase), index

    def _phrase(self, index: int) -> str:
        info = TASKS[self.tasks[index]]
        words = self._one((info.instruction, *info.paraphrases)).split()
        if self._chance(0.1) and words[0] != info.object:
            words = [words[0], "the", info.object]  # the picture may tell which
        changed = []
        for position, word in enumerate(words):
            options = _SYNONYMS.get(word)
            # A button is pushed and a mug pressed only where the sentence still says which.
            if options and self._chance(0.3) and not (word == "push" and "button" in words):
                word = self._one(options)
            if position and word in self.nouns and self._chance(0.25):
                word = f"{self._adjective()} {word}"
            changed.append(word)
        return " ".join(changed)

    def _adjective(self) -> str:
        return "zzunknown" if self._chance(0.4) else self._one(_ADJECTIVES)

    def _something_else(self, index: int, phrase: str) -> str | None:
        words = phrase.split()
        kind = int(self.rng.integers(7))
        if kind == 0:
            verb = "zzunknown" if self._chance(0.3) else self._one(self.other_verbs)
            return " ".join([verb, *(w for w in words[1:] if w not in {"open", "closed", "shut"})])
        if kind == 1:
            thing = "zzunknown" if self._chance(0.4) else self._one(self.other_objects)
            kept = [w for w in words if w not in self._names(index)]
            position = kept.index("the") + 1 if "the" in kept else len(kept)
            return " ".join([*kept[:position], thing, *kept[position:]])
        if kind == 2:
            return f"{self._one(_NEGATIONS)} {phrase}"
        if kind == 3:
            other = int(self.rng.integers(len(self.tasks)))
            return None if other == index else f"{phrase} and {self._phrase(other)}"
        if kind == 4:
            pool = (*self.other_verbs, *self.other_objects, *_ADJECTIVES, "the", "to", "zzunknown")
            return " ".join(self._one(pool) for _ in range(int(self.rng.integers(1, 6))))
        if kind == 5:
            part = [words[0]] if self._chance(0.5) else ["the", *self._names(index)]
            return " ".join(part)
        verb = words[0]
        thing = TASKS[self._one(self.tasks)].object
        crossed = f"{verb} the {thing}"
        try:
            match_task(crossed)
        except UnknownTask:
            return crossed
        return None

    def _names(self, index: int) -> list[str]:
        """The words that say what is worked on, in any of the task's phrases."""
        info = TASKS[self.tasks[index]]
        named = words_of(info.object)
        also = [s for name in named for option in _SYNONYMS.get(name, ()) for s in option.split()]
        return [*named, *also]

    def _dressed(self, phrase: str) -> str:
        words = phrase.split()
        if self._chance(0.25):
            words[0] = _progressive(words[0])
            return f"a person {' '.join(words)} static camera"
        if self._chance(0.3):
            words = [w for w in words if w not in {"the", "a"}]
        if self._chance(0.15):
            words = [str(w) for w in self.rng.permutation(words)]
        if self._chance(0.25):
            words.insert(0, self._one(_BEFORE))
        if self._chance(0.25):
            words.append(self._one(_AFTER))
        return " ".join(words)


class TaskReader(nn.Module):
    """Word ids int [B, MAX_WORDS] → logits over the tasks, and last over "none of them"."""

    def __init__(self, vocabulary: int, tasks: int, width: int = 48) -> None:
        super().__init__()
        self.words = nn.Embedding(vocabulary, width)
        self.read = nn.Sequential(nn.Linear(2 * width, 128), nn.SiLU(), nn.Linear(128, tasks + 1))

    def forward(self, ids: Tensor) -> Tensor:
        given = (ids != PAD).float()[..., None]
        vectors = self.words(ids)
        mean = (vectors * given).sum(1) / given.sum(1).clamp_min(1.0)
        strongest = (vectors - 10 * (1 - given)).amax(1)
        return self.read(torch.cat([mean, strongest], dim=1))


def vocabulary_of(tasks: Sequence[str], sentences: int = 8_000) -> list[str]:
    """Known words by id; the first two stand for padding and for words that are not known."""
    source = Sentences(tasks, seed=1)
    known = {word for _ in range(sentences) for word in words_of(source.draw()[0])}
    return ["", "?", *sorted(known - {"zzunknown"})]


def encode(sentence: str, ids: dict[str, int]) -> list[int]:
    """Padded word ids [MAX_WORDS]."""
    found = [ids.get(word, UNKNOWN) for word in words_of(sentence)][:MAX_WORDS]
    return found + [PAD] * (MAX_WORDS - len(found))


def train_reader(
    tasks: Sequence[str], steps: int = 1500, batch: int = 128
) -> tuple[TaskReader, list[str]]:
    """A reader and its vocabulary, in well under a minute of processor time."""
    torch.manual_seed(0)
    vocabulary = vocabulary_of(tasks)
    ids = {word: index for index, word in enumerate(vocabulary) if index > UNKNOWN}
    reader = TaskReader(len(vocabulary), len(tasks))
    optimizer = torch.optim.AdamW(reader.parameters(), lr=3e-3, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    source = Sentences(tasks)
    for _ in range(steps):
        drawn = [source.draw() for _ in range(batch)]
        words = torch.tensor([encode(sentence, ids) for sentence, _ in drawn])
        # Words that the training never shows must not decide.
        hidden = (torch.rand(words.shape) < 0.04) & (words > UNKNOWN)
        words = words.masked_fill(hidden, UNKNOWN)
        loss = F.cross_entropy(reader(words), torch.tensor([label for _, label in drawn]))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return reader.eval(), vocabulary
