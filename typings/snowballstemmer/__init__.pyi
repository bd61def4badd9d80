class Stemmer:
    def stemWord(self, word: str) -> str: ...  # noqa: N802 - the library's name

def stemmer(lang: str) -> Stemmer: ...
