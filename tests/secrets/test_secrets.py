"""agent.secrets: where the key is, what a token refuses, and how keys are changed."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from agent.errors import Conflict, SettingsError, StoreError
from agent.secrets import KEY_FILE, SecretBox, add_key, create_key, generate_key, keep_first_key, load_secret_box
from agent.settings import Settings

SECRET = "p4ss wörd $(id) \n'\""


def with_settings(settings: Settings, **values: object) -> Settings:
    return Settings(workspace=settings.workspace, **values)  # type: ignore[arg-type]


def test_a_created_key_is_private_and_makes_a_round_trip(settings: Settings) -> None:
    path = Path(create_key(settings))
    assert path == settings.workspace / KEY_FILE
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    box = load_secret_box(settings)
    token = box.encrypt(SECRET, purpose="credential:1")
    assert token.startswith("enc:v1:") and "p4ss" not in token
    assert load_secret_box(settings).decrypt(token, purpose="credential:1") == SECRET
    assert [p.name for p in settings.workspace.iterdir()] == [KEY_FILE]


def test_a_second_creation_keeps_the_first_key(settings: Settings) -> None:
    path = Path(create_key(settings))
    before = path.read_text()
    with pytest.raises(Conflict, match="exists already"):
        create_key(settings)
    assert path.read_text() == before


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644])
def test_a_key_that_others_can_read_is_refused_with_the_way_to_mend_it(settings: Settings, mode: int) -> None:
    path = Path(create_key(settings))
    path.chmod(mode)
    with pytest.raises(SettingsError, match="chmod 600"):
        load_secret_box(settings)


def test_no_key_says_where_it_was_looked_for(settings: Settings) -> None:
    with pytest.raises(SettingsError, match=r"secrets\.key"):
        load_secret_box(settings)
    with pytest.raises(SettingsError, match="EXEUNT_SECRETS_KEY"):
        load_secret_box(with_settings(settings, secrets_key_source="environment"))


def test_a_malformed_key_is_refused_and_not_shown(settings: Settings) -> None:
    with pytest.raises(SettingsError, match="malformed") as caught:
        load_secret_box(with_settings(settings, secrets_key="nearly-a-key"))
    assert "nearly" not in str(caught.value)


def test_a_wrong_key_is_named_and_the_token_is_not_shown(settings: Settings) -> None:
    token = load_secret_box(with_settings(settings, secrets_key=generate_key())).encrypt(SECRET)
    with pytest.raises(SettingsError, match="the key is not the one") as caught:
        load_secret_box(with_settings(settings, secrets_key=generate_key())).decrypt(token)
    assert token[7:20] not in str(caught.value)


def test_a_damaged_token_is_refused(settings: Settings) -> None:
    create_key(settings)
    box = load_secret_box(settings)
    token = box.encrypt(SECRET)
    with pytest.raises(SettingsError, match="damaged"):
        box.decrypt(token[:-6] + ("AAAAAA" if token[-6:] != "AAAAAA" else "BBBBBB"))
    with pytest.raises(StoreError, match="not an encrypted token") as caught:
        box.decrypt("plain text")
    assert "plain text" not in str(caught.value)


def test_a_token_is_refused_at_another_place(settings: Settings) -> None:
    create_key(settings)
    box = load_secret_box(settings)
    token = box.encrypt(SECRET, purpose="credential:1")
    with pytest.raises(StoreError, match="stored for another place"):
        box.decrypt(token, purpose="credential:2")
    with pytest.raises(StoreError, match="stored for another place"):
        box.decrypt(token)


def test_key_from_the_environment_contradicting_the_chosen_place_is_refused(settings: Settings) -> None:
    create_key(settings)
    with pytest.raises(SettingsError, match="remove one of them"):
        load_secret_box(with_settings(settings, secrets_key=generate_key(), secrets_key_source="file"))


def test_a_process_that_is_running_follows_a_rotation(settings: Settings) -> None:
    create_key(settings)
    running = load_secret_box(settings)
    old = running.encrypt(SECRET, purpose="a")
    add_key(settings)
    new = load_secret_box(settings).rotate(old)
    assert not load_secret_box(settings).fits_first_key(old)
    assert load_secret_box(settings).fits_first_key(new)
    assert running.decrypt(new, purpose="a") == SECRET  # loaded before the new key existed
    assert keep_first_key(settings) == 1
    fresh = load_secret_box(settings)
    assert fresh.decrypt(new, purpose="a") == SECRET
    assert fresh.decrypt(running.encrypt(SECRET)) == SECRET
    with pytest.raises(SettingsError, match="the key is not the one"):
        fresh.decrypt(old, purpose="a")
    assert stat.S_IMODE((settings.workspace / KEY_FILE).stat().st_mode) == 0o600


def test_the_keyring_must_be_named(settings: Settings) -> None:
    with pytest.raises(SettingsError, match="EXEUNT_SECRETS_KEYRING must name"):
        create_key(with_settings(settings, secrets_key_source="keyring"))


@pytest.mark.parametrize(
    "backend", ["keyring.backends.nothing.Keyring", "keyring.backends.fail.Nothing", "nonsense", "no.such.Keyring"]
)
def test_a_backend_that_does_not_exist_is_named(settings: Settings, backend: str) -> None:
    pytest.importorskip("keyring")
    with pytest.raises(SettingsError, match="cannot be used"):
        create_key(with_settings(settings, secrets_key_source="keyring", secrets_keyring=backend))


def test_a_backend_without_a_store_says_so(settings: Settings) -> None:
    pytest.importorskip("keyring")
    with pytest.raises(SettingsError, match="the keyring refused"):
        create_key(
            with_settings(settings, secrets_key_source="keyring", secrets_keyring="keyring.backends.fail.Keyring")
        )


def test_a_keyring_holds_the_key_and_takes_a_rotation(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("keyrings.alt.file", reason="install keyrings.alt")
    monkeypatch.setenv("XDG_DATA_HOME", str(settings.workspace))
    chosen = with_settings(settings, secrets_key_source="keyring", secrets_keyring="keyrings.alt.file.PlaintextKeyring")
    assert "PlaintextKeyring" in create_key(chosen)
    with pytest.raises(Conflict):
        create_key(chosen)
    box: SecretBox = load_secret_box(chosen)
    token = box.encrypt(SECRET)
    add_key(chosen)
    rotated = load_secret_box(chosen).rotate(token)
    keep_first_key(chosen)
    assert load_secret_box(chosen).decrypt(rotated) == SECRET
