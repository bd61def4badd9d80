"""Words that say little: *function words* are never looked for, *light words* count for less.

A word that is a function word in one language and a word of its own in another ("son", "or", "pour") does not tell
which language a text is in; `TELLING` has those that do.
"""

from __future__ import annotations

__all__ = ["FUNCTION", "LIGHT", "TELLING", "Language"]

from typing import Literal

Language = Literal["en", "fr"]

_ENGLISH = """
a an the and or but if then of to in on at by for with from about as into onto is are was were be been being am do does
did doing done have has had having i you he she it we they me him her us them my your his its our their mine yours hers
ours theirs this that these those there here what which who whom whose when where why how can could will would shall
should may might must not no nor so than too very just also more most some any all both each few other such only own
same isn't aren't wasn't weren't don't doesn't didn't can't couldn't won't wouldn't shouldn't haven't hasn't hadn't i'm
i've i'd i'll you're you've you'd you'll he's he'd he'll she's she'd she'll it's it'll we're we've we'd we'll they're
they've they'd they'll that's there's here's what's who's where's let's s t d m re ve ll
"""
_FRENCH = """
le la les un une des du de d l et ou mais donc or ni car si que qu qui quoi dont où quel quelle quels quelles quand
comment pourquoi combien est sont était étaient être été suis es sommes êtes serait sera avoir a ai as avons avez ont
avait avaient aura fait font faire je j tu il elle on nous vous ils elles me m te t se s lui leur leurs y en mon ma mes
ton ta tes son sa ses notre nos votre vos ce c cet cette ces cela ça ceci ne n pas plus moins très trop aussi bien même
tout toute tous toutes autre autres au aux à dans par pour sur sous avec sans chez vers entre depuis pendant avant après
comme ainsi alors puis là ici moi toi soi eux peu peut peux peuvent doit dois doivent
"""
_LIGHT_ENGLISH = """
mention say said tell told use used way thing things kind type get got go went going one new like want make made take
know think feel time day good really lot now much many still ever even hey yeah wow thank thanks sure great
"""
_LIGHT_FRENCH = """
dire dit dis chose choses genre type façon aller va vais veut veux vouloir prendre pris savoir sait sais penser pense
temps jour bon bonne vraiment beaucoup encore toujours merci oui voilà super nouveau nouvelle
"""
_BOTH = "a an as c d des en es est if l m me mine n on or ont par pas plus pour s sans si son sur t ton tout y"

FUNCTION: dict[Language, frozenset[str]] = {
    "en": frozenset(_ENGLISH.split()),
    "fr": frozenset(_FRENCH.split()),
}
LIGHT: dict[Language, frozenset[str]] = {
    "en": frozenset(_LIGHT_ENGLISH.split()),
    "fr": frozenset(_LIGHT_FRENCH.split()),
}
TELLING: dict[Language, frozenset[str]] = {
    language: words - frozenset(_BOTH.split()) - (FUNCTION["fr"] if language == "en" else FUNCTION["en"])
    for language, words in FUNCTION.items()
}
