"""An exit report as a PDF, made with fpdf2 (the extra `pdf`), in DejaVu Sans, which is shipped with its licence.

DejaVu Sans has Latin, Greek, Cyrillic, Armenian, Georgian, Hebrew, Arabic and many signs. A character that it lacks, such as
a Chinese one, is written as its number, [U+4E2D], and the last page says so; the HTML and JSON reports have it as it is.
`EXEUNT_PDF_FONT` names a TrueType font that is asked for such characters first.
"""

from __future__ import annotations

from importlib.resources import as_file, files
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from agent.errors import SettingsError
from agent.reporting.exit_view import Block, View

if TYPE_CHECKING:
    from fpdf import FPDF

_FONT, _EXTRA = "DejaVu", "Further"
_INK, _QUIET, _LINE, _SHADE, _WARN = (34, 38, 43), (100, 107, 117), (227, 225, 220), (243, 241, 237), (138, 90, 0)
_MARGIN, _TABLE_SIZE = 16.0, 7.5
#: The first bytes of TrueType and OpenType fonts.
_FONT_STARTS = (b"\x00\x01\x00\x00", b"OTTO", b"true", b"ttcf")
#: Lines of a cell, counted without what breaking at words costs: at most twice as many, 60 of 4 mm, fit a page.
_CELL_LINES = 28
#: Longer texts are cut in the PDF: a message can hold a page of a server's answer.
_CELL_CHARACTERS = 2_000


def available() -> bool:
    """Whether the library for PDF is installed."""
    return find_spec("fpdf") is not None


def exit_pdf(view: View, *, further_font: Path | None = None) -> bytes:
    """The view of `exit_view.view_of` as a PDF. Raises SettingsError when fpdf2 or a font is missing."""
    if not available():
        raise SettingsError("PDF reports need the library fpdf2: install exeunt[pdf], or ask for html or json")
    page = _Page()
    try:
        page.add_fonts(further_font)
        return page.draw(view)
    finally:
        page.close()


class _Page:
    """Draws one report. Knows which characters its fonts have."""

    def __init__(self) -> None:
        from fpdf import FPDF

        self.pdf: FPDF = FPDF(format="A4")
        self.lacking: set[str] = set()
        self.pdf.set_margins(_MARGIN, _MARGIN)
        self.pdf.set_auto_page_break(True, margin=_MARGIN)
        self.pdf.set_creator("Exeunt")
        self.known: set[int] = set()

    def add_fonts(self, further_font: Path | None) -> None:
        """Those that are shipped, and one more. Raises SettingsError for one that is no font."""
        for name in ("DejaVuSans.ttf", "DejaVuSans-Bold.ttf"):
            with as_file(files("agent.reporting").joinpath("fonts", name)) as file:
                self.pdf.add_font(_FONT, "B" if "Bold" in name else "", str(file))
        self.known = self._characters(_FONT)
        if further_font is not None:
            self._add_further(further_font)

    def close(self) -> None:
        """fpdf2 keeps the files of fonts open."""
        from fpdf.fonts import TTFFont

        for font in self.pdf.fonts.values():
            if isinstance(font, TTFFont):
                font.close()

    def _add_further(self, file: Path) -> None:
        from fontTools.ttLib import TTLibError  # type: ignore[import-untyped]

        try:
            with file.open("rb") as start:
                if start.read(4) not in _FONT_STARTS:
                    raise ValueError("it does not begin like one")
            self.pdf.add_font(_EXTRA, "", str(file))
        except (OSError, TTLibError, ValueError, KeyError) as error:
            raise SettingsError(f"EXEUNT_PDF_FONT: {file} cannot be read as a TrueType font: {error}") from error
        self.known |= self._characters(_EXTRA)
        self.pdf.set_fallback_fonts([_EXTRA], exact_match=False)

    def _characters(self, family: str) -> set[int]:
        from fpdf.fonts import TTFFont

        font = self.pdf.fonts[family.lower()]
        assert isinstance(font, TTFFont), family
        return set(font.cmap)

    def draw(self, view: View) -> bytes:
        """The whole report."""
        self.pdf.set_title(self._text(f"Exit report: {view.title}"))
        self.pdf.add_page()
        self._line("EXIT REPORT", 8, colour=_QUIET)
        self._line(view.title, 18, bold=True)
        self._line(" · ".join([view.state, *view.under]), 9, colour=_QUIET)
        for warning in view.warnings:
            self._line(warning, 9, bold=True, colour=_WARN)
        self._line(" · ".join(f"{number} {words}" for number, words in view.figures), 9)
        if view.actions:
            self._title("What to do now")
            for action in view.actions:
                self._line(f"– {action}", 9)
        for block in view.blocks:
            self._block(block)
        self.pdf.ln(4)
        self._line(view.foot, 7, colour=_QUIET)
        if self.lacking:
            self._line(
                "Characters that the font lacks are written as [U+...]; the HTML report has them.", 7, colour=_QUIET
            )
        return bytes(self.pdf.output())

    def _block(self, block: Block) -> None:
        self._title(block.title)
        if block.rows:
            self._table(block)
        for name, text in block.pairs:
            self._line(f"{name}: {text}", 9)
        if block.unmeasured:
            self._line(f"Not known: {', '.join(block.unmeasured)}", 7.5, colour=_QUIET)

    def _table(self, block: Block) -> None:
        from fpdf.enums import WrapMode
        from fpdf.fonts import FontFace

        self.pdf.set_font(_FONT)
        self.pdf.set_font_size(_TABLE_SIZE)
        self.pdf.set_text_color(*_INK)
        shares = _shares(block)
        self.pdf.set_draw_color(*_LINE)
        headings = FontFace(emphasis="BOLD", color=_QUIET, fill_color=_SHADE)
        with self.pdf.table(
            headings_style=headings, line_height=4, padding=1, text_align="LEFT", borders_layout="HORIZONTAL_LINES",
            wrapmode=WrapMode.WORD, col_widths=shares,
        ) as table:  # fmt: skip
            for cells in [block.head, *block.rows]:
                row = table.row()
                for cell, share in zip(cells, shares, strict=True):
                    row.cell(self._fitted(cell, self.pdf.epw * share / sum(shares) - 2))

    def _fitted(self, text: str, width: float) -> str:
        """The text of a cell, cut so that its row is never higher than a page, however wide its characters are."""
        text = self._text(text)
        most, cut = width * _CELL_LINES, False
        while (wide := self.pdf.get_string_width(text)) > most:
            text, cut = text[: int(len(text) * most / wide)], True
        return text + "…" if cut else text

    def _title(self, text: str) -> None:
        self.pdf.ln(3)
        # A title does not stand alone at the foot of a page.
        if self.pdf.will_page_break(16):
            self.pdf.add_page()
        self._line(text, 11, bold=True)

    def _line(self, text: str, size: float, *, bold: bool = False, colour: tuple[int, int, int] = _INK) -> None:
        self.pdf.set_font(_FONT, "B" if bold else "")
        self.pdf.set_font_size(size)
        self.pdf.set_text_color(*colour)
        self.pdf.multi_cell(0, size * 0.5, self._text(text), new_x="LMARGIN", new_y="NEXT", align="LEFT")

    def _text(self, text: str) -> str:
        """The text on one line, with the number of each character that no font has."""
        flat = " ".join(text.split())
        if len(flat) > _CELL_CHARACTERS:
            flat = flat[:_CELL_CHARACTERS] + "…"
        found = []
        for character in flat:
            if ord(character) in self.known:
                found.append(character)
            else:
                self.lacking.add(character)
                found.append(f"[U+{ord(character):04X}]")
        return "".join(found)


def _shares(block: Block) -> tuple[int, ...]:
    """Shares of the width: by the longest text of each column, so that none is squeezed and none takes it all."""
    columns = zip(block.head, *block.rows, strict=True)
    return tuple(min(40, max(8, *(len(cell) for cell in column))) for column in columns)
