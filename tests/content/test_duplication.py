"""Duplicates of scripts: complete, inactive, never over something, and each client its own."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from agent.content import duplication
from agent.content.duplication import drift, duplicate, duplicate_name, unuse, use
from agent.content.repository import ContentRepository
from agent.errors import Conflict, ContentError, NotFound, StoreError, UsageError

TEMPLATE_NAME = "Test Scripts - Partner [Template]"
WRAPPER = "Test Wrapper"


def tree(root: Path) -> dict[str, bytes]:
    """Every file below a folder with its content."""
    return {str(p.relative_to(root)): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


@pytest.mark.parametrize(
    ("original", "label", "expected"),
    [
        ("Offboarding Scripts - Partner [Template]", "Contoso", "Offboarding Scripts - Contoso"),
        ("Offboarding Scripts - Partner [Template]", "Partner", "Offboarding Scripts - Partner"),
        ("Offboarding Template - Partner", r"A\1 & B", r"Offboarding - A\1 & B"),
        ("Zoom [TEMPLATE]", "Contoso", "Zoom"),
        ("Partnership Templates", "Contoso", "Partnership Templates"),
    ],
)
def test_the_name_loses_template_and_gets_the_client(original: str, label: str, expected: str) -> None:
    assert duplicate_name(original, label) == expected


def test_a_duplicate_keeps_every_word_of_the_original(repository: ContentRepository) -> None:
    origin = repository.script(TEMPLATE_NAME)
    made = duplicate(repository, TEMPLATE_NAME, "contoso")
    assert made.name == "Test Scripts - Contoso"
    assert made.client == "contoso"
    assert made.definition.copied_from is not None
    assert made.definition.copied_from.digest == origin.digest
    text, old = made.file.read_text(encoding="utf-8"), origin.file.read_text(encoding="utf-8")
    kept = [line for line in text.splitlines() if not line.startswith("copied_from:")]
    assert kept == old.replace(TEMPLATE_NAME, made.name).splitlines()
    assert made.file.is_relative_to(repository.workspace / "content" / "scripts" / "clients" / "contoso")


def test_bodies_are_copied(repository: ContentRepository) -> None:
    made = duplicate(repository, "Test Removal", "contoso")
    assert made.name == "Test Removal - Contoso"
    assert made.bodies == repository.script("Test Removal").bodies
    assert sorted(p.name for p in made.file.parent.iterdir()) == ["remove.sh", "script.yaml", "verify.sh"]


def test_only_its_own_client_finds_a_duplicate(repository: ContentRepository) -> None:
    made = duplicate(repository, TEMPLATE_NAME, "contoso")
    assert repository.script(made.name, "contoso") == made
    assert repository.script(made.key, "contoso") == made
    with pytest.raises(NotFound, match="contoso"):
        repository.script(made.name, "fabrikam")
    with pytest.raises(NotFound):
        repository.script(made.name)


def test_a_fresh_duplicate_is_inactive_until_it_is_listed(repository: ContentRepository) -> None:
    made = duplicate(repository, TEMPLATE_NAME, "contoso")
    with pytest.raises(NotFound, match=r"exeunt script duplicate .*exeunt script use"):
        repository.children(WRAPPER, "contoso")
    use(repository, "contoso", WRAPPER, made.key)
    selection = repository.children(WRAPPER, "contoso")
    assert (selection.scripts, selection.source) == ((made,), "client")
    with pytest.raises(NotFound):
        repository.children(WRAPPER, "fabrikam")


def test_a_client_without_a_list_gets_the_partner_default(repository: ContentRepository) -> None:
    partner = duplicate(repository, TEMPLATE_NAME, "partner")
    use(repository, "partner", WRAPPER, partner.name)
    own = duplicate(repository, TEMPLATE_NAME, "contoso")
    use(repository, "contoso", WRAPPER, own.name)
    theirs = repository.children(WRAPPER, "fabrikam")
    assert (theirs.scripts, theirs.source) == ((partner,), "partner")
    assert "fabrikam" in theirs.reason
    assert repository.children(WRAPPER, "contoso").scripts == (own,)


@pytest.mark.parametrize("again", ["name", "folder"])
def test_nothing_is_overwritten(repository: ContentRepository, again: str) -> None:
    made = duplicate(repository, TEMPLATE_NAME, "contoso")
    before = tree(repository.workspace)
    # The same folder under another name: `/` and ` ` become the same `_`.
    name = made.name if again == "name" else made.name.replace(" - ", " / ")
    with pytest.raises(Conflict):
        duplicate(repository, TEMPLATE_NAME, "contoso", new_name=name)
    assert tree(repository.workspace) == before


def test_an_empty_folder_is_not_taken_over(repository: ContentRepository) -> None:
    folder = repository.workspace / "content/scripts/clients/contoso/test_scripts_contoso"
    folder.mkdir(parents=True)
    with pytest.raises(Conflict):
        duplicate(repository, TEMPLATE_NAME, "contoso")
    assert list(folder.iterdir()) == []


def test_the_name_of_a_shared_script_is_refused(repository: ContentRepository) -> None:
    with pytest.raises(Conflict, match="name"):
        duplicate(repository, TEMPLATE_NAME, "contoso", new_name="Test Removal")


def test_a_folder_that_appears_meanwhile_is_left_alone(
    repository: ContentRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    def sneak_in(repository: ContentRepository, name: str, client: str, folder: Path) -> None:
        folder.mkdir(parents=True)
        (folder / "script.yaml").write_text("somebody else's")

    monkeypatch.setattr(duplication, "_refuse_taken", sneak_in)
    with pytest.raises(Conflict):
        duplicate(repository, TEMPLATE_NAME, "contoso")
    clients = repository.workspace / "content" / "scripts" / "clients"
    assert tree(clients) == {"contoso/test_scripts_contoso/script.yaml": b"somebody else's"}
    assert [p.name for p in (clients / "contoso").iterdir()] == ["test_scripts_contoso"]


@pytest.mark.parametrize("stop_at", [1, 2, 3])
def test_it_is_written_wholly_or_not_at_all(
    repository: ContentRepository, monkeypatch: pytest.MonkeyPatch, stop_at: int
) -> None:
    before = tree(repository.workspace)
    written: list[int] = []
    real = os.fsync

    def full_disk(descriptor: int) -> None:
        written.append(descriptor)
        if len(written) == stop_at:
            raise OSError(28, "No space left on device")
        real(descriptor)

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(StoreError, match="No space left"):
        duplicate(repository, "Test Removal", "contoso")
    assert tree(repository.workspace) == before
    monkeypatch.undo()


@pytest.mark.parametrize("slug", ["", "../contoso", "Contoso", "a/b", "a b", "ä", ".", "a\n"])
def test_a_wrong_slug_is_refused(repository: ContentRepository, slug: str) -> None:
    before = tree(repository.workspace.parent)
    with pytest.raises(UsageError):
        duplicate(repository, TEMPLATE_NAME, slug)
    with pytest.raises(UsageError):
        use(repository, slug, WRAPPER, "test_removal")
    assert tree(repository.workspace.parent) == before


@pytest.mark.parametrize("name", ["a\nb", " ", "", "../up", "x: y", "null", "- [a] #b", '△ "it\'s" @x@ %y% $(z)'])
def test_any_new_name_is_kept_or_refused(repository: ContentRepository, name: str) -> None:
    try:
        made = duplicate(repository, TEMPLATE_NAME, "contoso", new_name=name)
    except UsageError:
        assert not name.strip() or "\n" in name
        return
    assert made.name == name
    assert made.file.parent.parent.name == "contoso"


def test_a_duplicate_can_be_duplicated(repository: ContentRepository) -> None:
    first = duplicate(repository, TEMPLATE_NAME, "contoso")
    second = duplicate(repository, first.name, "contoso", new_name="Second")
    assert second.definition.copied_from is not None
    assert (second.definition.copied_from.script, second.definition.copied_from.digest) == (first.name, first.digest)


def test_drift_is_seen_when_the_origin_moves_on(repository: ContentRepository) -> None:
    made = duplicate(repository, "Test Removal", "contoso")
    assert drift(repository) == []
    origin = repository.script("Test Removal")
    (origin.file.parent / "remove.sh").write_text("echo removing better\n")
    repository.reload()
    (moved,) = drift(repository)
    assert moved.script == made
    assert moved.origin is not None
    assert moved.origin.digest in moved.reason


def test_positions_have_no_gaps(repository: ContentRepository) -> None:
    names = [duplicate(repository, TEMPLATE_NAME, "contoso", new_name=f"Child {n}").name for n in range(4)]
    use(repository, "contoso", WRAPPER, names[0])
    use(repository, "contoso", WRAPPER, names[1])
    use(repository, "contoso", WRAPPER, names[2], position=1)
    listing = use(repository, "contoso", WRAPPER, names[3], position=3)
    assert list(listing.definition.scripts[WRAPPER]) == [names[2], names[0], names[3], names[1]]
    for position in (0, -1, 6):
        with pytest.raises(UsageError, match="position"):
            use(repository, "contoso", WRAPPER, "test_removal", position=position)
    unuse(repository, "contoso", WRAPPER, names[0])
    listing = unuse(repository, "contoso", WRAPPER, "child_3")
    assert list(listing.definition.scripts[WRAPPER]) == [names[2], names[1]]


def test_what_cannot_be_a_child_is_not_listed(repository: ContentRepository) -> None:
    use(repository, "contoso", WRAPPER, "test_removal")
    before = tree(repository.workspace)
    for script, wrapper, error in (
        ("Test Removal", WRAPPER, Conflict),
        (TEMPLATE_NAME, WRAPPER, UsageError),
        (WRAPPER, WRAPPER, UsageError),
        ("test_removal", "Test Removal", UsageError),
        ("Nothing", WRAPPER, NotFound),
    ):
        with pytest.raises(error):
            use(repository, "contoso", wrapper, script)
    with pytest.raises(NotFound):
        unuse(repository, "fabrikam", WRAPPER, "Test Removal")
    assert tree(repository.workspace) == before


@pytest.mark.parametrize(
    "text",
    [
        "client: contoso\n",
        "# head\nclient: contoso   # why\nscripts:   # these\n  # first\n  Other Wrapper:\n    - x # y\n",
        "client: contoso\nscripts:\n    Test Wrapper: []   \n",
        "client: contoso\nscripts: {Test Wrapper: [], Other Wrapper: [x]}",
        "client: contoso # a\nscripts:\n  Test Wrapper:\n  - test_wrapper_b # keep\n\n  # end",
    ],
)
def test_use_keeps_what_people_wrote(repository: ContentRepository, text: str) -> None:
    file = repository.workspace / "content/scripts/clients/contoso/client.yaml"
    file.parent.mkdir(parents=True)
    file.write_text(text)
    other = "Other Wrapper" in text
    listing = use(repository, "contoso", WRAPPER, "Test Removal")
    assert listing.definition.scripts[WRAPPER][-1] == "Test Removal"
    assert ("Other Wrapper" in listing.definition.scripts) is other
    after = file.read_text()
    assert [c for c in text.split() if "#" in c] == [c for c in after.split() if "#" in c]
    listing = unuse(repository, "contoso", WRAPPER, "Test Removal")
    assert "Test Removal" not in listing.definition.scripts[WRAPPER]


def test_a_list_that_cannot_be_edited_is_left_alone(repository: ContentRepository) -> None:
    file = repository.workspace / "content/scripts/clients/contoso/client.yaml"
    file.parent.mkdir(parents=True)
    file.write_text("client: contoso\nscripts: {Test Wrapper: [x]} # why\n")
    with pytest.raises(ContentError, match="comments"):
        use(repository, "contoso", WRAPPER, "Test Removal")
    assert file.read_text().endswith("# why\n")


def test_an_emptied_list_stops_the_wrapper_instead_of_taking_the_partner_default(repository: ContentRepository) -> None:
    partner = duplicate(repository, TEMPLATE_NAME, "partner")
    use(repository, "partner", WRAPPER, partner.name)
    use(repository, "contoso", WRAPPER, "Test Removal")
    unuse(repository, "contoso", WRAPPER, "Test Removal")
    with pytest.raises(NotFound, match="lists no script"):
        repository.children(WRAPPER, "contoso")
    assert repository.children(WRAPPER, "fabrikam").scripts == (partner,)
