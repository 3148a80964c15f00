"""The config that the sections read, with what they have to tell the user."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from shared.config.mm_config.config_faults import Report
from shared.config.mm_config.config_reader import Section


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingConfig:
    """A config file while it is read.

    Args:
        whole: all its top-level names.
        is_mmengine: whether it is written for mmengine.
        notes: what holds here in another way than in mm, one sentence each.
    """

    whole: Section
    is_mmengine: bool
    notes: list[str] = field(default_factory=list)

    @property
    def report(self) -> Report:
        """Collects the faults, which stop the run, unlike notes."""
        return self.whole.report

    def note(self, sentence: str) -> None:
        """Tell the user about a difference."""
        self.notes.append(sentence)

    def listed(self, name: str) -> list[Section]:
        """Read a top-level list of dicts, however long."""
        value = self.whole.value(name)
        items = value if isinstance(value, Sequence) and not isinstance(value, str) else [value]
        sections = []
        for index, item in enumerate(items):
            if isinstance(item, dict):
                sections.append(Section(item, f"{name}[{index}]", self.report))
            else:
                self.whole.fault(name, value, "a list of dicts is expected")
        return sections
