"""The context window: what one model call sees, as a projection of the journal.

A prompt is, in this order: the instructions and the memory blocks; the summary of what came before the window; the
turns of the window, oldest first, each led by what was recalled for it; the running turn. Four things are deliberate:

* **Append-only prefix.** The window of the next call is the window of the last one plus what was said since, so a
  provider's prompt cache hits. What is recalled stands before the turn it was recalled for and stays there: at the head
  of the prompt it would change every turn and no prefix would ever be the same. When the budget is reached the window
  is cut once, to about half, instead of sliding.
* **No unpaired call.** A reply enters together with the results of all its calls, once the journal has closed the last
  of them; a fork in mid-turn closes what it inherited. When the running turn alone is over the budget, its oldest steps
  (a reply and all its results) are left out whole; what people said in it stays.
* **Nothing stored twice.** A model call journals where its window starts and the digest of everything that was sent;
  the prompt can be rebuilt from the records, and the digest proves it.
* **Nothing lost that is still in use.** Bulky results become a line that names what they held and where to open them;
  turns that leave the window become a summary that keeps the identifiers the rest refers to (`ContextCompacted`).
"""

from remanence.core.context.compaction import (
    Asked,
    compaction_due,
    cut_summary,
    lost_identifiers,
    summary_prompt,
    turns_line,
)
from remanence.core.context.fitting import fit, window_now
from remanence.core.context.prompt import LAYOUT, Prompt, Rebuilt, instructions_of, prompt_of, rebuild_prompt
from remanence.core.context.recall import Known, Place, Remembered, places_in, remembered
from remanence.core.context.reopening import offered, reopens, shown_bytes, with_reopening
from remanence.core.context.stubs import OPEN_RESULT
from remanence.core.context.transcript import Content, Transcript

__all__ = [
    "LAYOUT",
    "OPEN_RESULT",
    "Asked",
    "Content",
    "Known",
    "Place",
    "Prompt",
    "Rebuilt",
    "Remembered",
    "Transcript",
    "compaction_due",
    "cut_summary",
    "fit",
    "instructions_of",
    "lost_identifiers",
    "offered",
    "places_in",
    "prompt_of",
    "rebuild_prompt",
    "remembered",
    "reopens",
    "shown_bytes",
    "summary_prompt",
    "turns_line",
    "window_now",
    "with_reopening",
]
