"""Words by language: those that carry little stress, and those that hands illustrate."""

from __future__ import annotations

_FUNCTION = {
    "en": "a an the of to in on at for with from and but or so as is was were are be been has have had will would could can do "
    "did does i me my we us our you your he him his she her it its they them their this that there than then when what who if "
    "not no by into",
    "de": "der die das den dem des ein eine einen einem einer und oder aber so wie ist war waren sind hat habe haben wird kann "
    "ich mich mir wir uns du er sie es ihr ihm in im an am auf für mit von vom zu zum zur bei nach aus dass wenn als nicht man",
    "fr": "le la les l un une des du de d et ou mais si que qui ce cette c est était sont a ont on je j me m nous il elle ils "
    "vous se s en y à au aux dans sur pour par avec pas ne n plus quand son sa ses mon ma mes",
    "es": "el la los las un una unos unas de del y o pero si que es era son ha he han se me nos te lo le mi mis su sus yo a al "
    "en con por para sin no cuando como",
    "it": "il lo la i gli le l un uno una di del della dei e o ma se che è era sono ha ho hanno si mi ci ti lo mio mia suo sua "
    "a al alla in nel nella con per da dal non quando come",
    "pt": "o a os as um uma de do da dos das e ou mas se que é era são há me nos te lhe meu minha seu sua eu ele ela em no na "
    "com por para sem não quando como ao à",
}
FUNCTION_WORDS = {language: frozenset(words.split()) for language, words in _FUNCTION.items()}

# form of samples.builders.forms → the words, as they come in samples.builders.texts, that it pictures
_PICTURED = {
    "big": "big huge whole everything everybody wide world large enormous groß große ganze ganzen alles welt grand grande entier "
    "monde tout todo mundo entero intero tutto inteiro",
    "small": "small tiny little narrow less smallest klein kleine kleinen kleiner petit petite petits pequeño pequeña piccolo piccola "
    "pequeno pequena",
    "rise": "rise rises grow grows growing up higher climbs climb more wächst steigt oben monte grandit sube crece sale cresce sobe",
    "round": "round turn turns wheel circle again clock dreht rad wieder uhr roue tourne horloge gira vuelta ruota rueda reloj "
    "orologio roda relógio",
    "point": "you there look that dort schau sie là regardez allí mire guardi olhe ali lì",
    "self": "i me my myself ich mir mein meine je moi mon ma yo mi io mio mia eu meu minha",
    "weigh": "or either between heavy weight zwischen schwer entre pesado pesada lourd tra pesante",
    "rolling": "changes change moves slowly becomes ändert langsam change lentement cambia despacio piano muda devagar",
}  # fmt: skip
PICTURED = {word: form for form, words in _PICTURED.items() for word in words.split()}


def bare(word: str) -> str:
    """As the tables above have it."""
    return word.lower().strip(".,!?:;'’\"¿¡…()")


def is_content(word: str, language: str) -> bool:
    """Whether a word carries stress; `language` is a BCP 47 tag, and where no list is known every long word does."""
    known = FUNCTION_WORDS.get(language.split("-")[0].lower())
    return bare(word) not in known if known is not None else len(bare(word)) > 3
