"""What a person does with the own account: password, authenticator app, sessions, tokens."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Request, Response
from fastapi import Form as FormBody
from markupsafe import Markup
from sqlmodel import col, select

from agent.access import sessions, tokens, totp, users
from agent.access.digests import digest
from agent.access.principal import Permission, Principal
from agent.access.sign_in import check_password
from agent.errors import Forbidden, UsageError
from agent.installation import Installation
from agent.model.access import User
from agent.model.base import utcnow
from agent.model.places import Client
from agent.web.asking import Here, Who, session_token
from agent.web.forms import Form
from agent.web.pages.signing import Password
from agent.web.rendering import page, redirect

router = APIRouter(prefix="/account")


class ChangePassword(Form):
    """The present one, and the new one twice."""

    old: Password
    new: Password
    again: Password


class Code(Form):
    """What the authenticator app shows."""

    code: str


class PresentPassword(Form):
    """What takes a second factor away asks for the first once more."""

    password: Password


class NewToken(Form):
    """A token for programs; no scope chosen: all that its person may do."""

    name: str
    days: int
    scopes: list[Permission] = []


@router.get("")
def show_account(request: Request, here: Here, who: Who) -> Response:
    """The own account."""
    return _account(request, here, who)


@router.post("/password")
def change_password(request: Request, here: Here, who: Who, form: Annotated[ChangePassword, FormBody()]) -> Response:
    """Change the password; other sessions end."""
    try:
        if form.new != form.again:
            raise UsageError("the two new passwords differ: write the same one twice")
        users.change_password(here, who.user_id, form.old, form.new, keep=session_token(request))
    except UsageError as error:
        return _account(request, here, who, password_wrong=str(error))
    return redirect(request, "/account", said="The password is changed. All other sessions ended.")


@router.post("/app")
def begin_app(request: Request, here: Here, who: Who) -> Response:
    """Make the secret of an authenticator app."""
    _require_password_account(here, who)
    totp.begin(here, who.user_id, actor=who.name)
    return redirect(request, "/account/app")


@router.get("/app")
def show_app(request: Request, here: Here, who: Who) -> Response:
    """The secret that waits for its first code, as a picture and as text."""
    return _app(request, here, who)


@router.post("/app/confirm")
def confirm_app(request: Request, here: Here, who: Who, form: Annotated[Code, FormBody()]) -> Response:
    """From now on each sign-in asks for a code."""
    try:
        totp.confirm(here, who.user_id, form.code, actor=who.name)
    except UsageError as error:
        return _app(request, here, who, wrong=str(error))
    return redirect(
        request, "/account", said="The authenticator app is set up: each sign-in asks for its code from now on."
    )


@router.post("/app/remove")
def remove_app(request: Request, here: Here, who: Who, form: Annotated[PresentPassword, FormBody()]) -> Response:
    """Do without the app again."""
    try:
        check_password(here, who.user_id, form.password)
    except UsageError as error:
        return _account(request, here, who, app_wrong=str(error))
    totp.reset(here, who.user_id, actor=who.name)
    return redirect(request, "/account", said="The authenticator app is removed.")


@router.post("/sessions/end")
def end_sessions(request: Request, here: Here, who: Who) -> Response:
    """End all other sessions."""
    ended = sessions.end_sessions(here, who.user_id, actor=who.name, keep=session_token(request))
    return redirect(request, "/account", said=f"Other sessions ended: {ended}.")


@router.post("/tokens")
def add_token(request: Request, here: Here, who: Who, form: Annotated[NewToken, FormBody()]) -> Response:
    """Make a token and show it once."""
    try:
        _, text = tokens.create(
            here, who.user_id, name=form.name, scopes=form.scopes or None, days=form.days, actor=who.name
        )
    except UsageError as error:
        return _account(request, here, who, token_wrong=str(error), token_name=form.name)
    return page(
        request, "shown_once.html", title="The new token", what=f"Token {form.name}", secret=text, back="/account",
        lead="Copy it now: it is not shown again. Programs send it as `Authorization: Bearer TOKEN`.",
    )  # fmt: skip


@router.post("/tokens/{token_id}/revoke")
def revoke_token(request: Request, here: Here, who: Who, token_id: str) -> Response:
    """End one of the own tokens."""
    tokens.revoke(here, token_id, actor=who.name, user_id=who.user_id)
    return redirect(request, "/account", said="The token is revoked.")


def qr_code(text: str) -> Markup:
    """A QR code as SVG, made here. Dark on light in both colour schemes: cameras want it so."""
    import segno

    return Markup(segno.make(text, error="m", micro=False).svg_inline(scale=5, border=4, dark="#000", light="#fff"))


def client_names(here: Installation, ids: set[int]) -> dict[int, str]:
    """Names of clients by id."""
    with here.database.reading() as session:
        return dict(session.exec(select(Client.client_id, Client.name).where(col(Client.client_id).in_(ids))).all())  # type: ignore[arg-type]


def _app(request: Request, here: Installation, who: Principal, wrong: str | None = None) -> Response:
    enrolment = totp.pending(here, who.user_id)
    if enrolment is None:
        return redirect(request, "/account")
    answer = page(request, "account_app.html", secret=enrolment.secret, picture=qr_code(enrolment.uri), wrong=wrong)
    answer.status_code = 200 if wrong is None else 400
    return answer


def _account(request: Request, here: Installation, who: Principal, **wrong: Any) -> Response:
    with here.database.reading() as session:
        user = users.view(session, session.get_one(User, who.user_id))
        open_ones = sessions.sessions_of(here, session, who.user_id)
        held = tokens.list_tokens(session, user_id=who.user_id)
    now, mine = utcnow(), digest(session_token(request) or "")
    answer = page(
        request, "account.html", user=user, held=[t for t in held if t.revoked_at is None and t.expires_at > now],
        sessions=[(s, s.token_digest == mine) for s in open_ones], permissions=list(Permission),
        clients=client_names(here, {g.client_id for g in user.grants if g.client_id is not None}),
        **{"password_wrong": None, "app_wrong": None, "token_wrong": None, "token_name": "", **wrong},
    )  # fmt: skip
    answer.status_code = 400 if wrong else 200
    return answer


def _require_password_account(here: Installation, who: Principal) -> None:
    with here.database.reading() as session:
        if session.get_one(User, who.user_id).password_hash is None:
            raise Forbidden("you sign in by OpenID Connect: the identity provider asks for the second factor")
