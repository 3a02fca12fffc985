"""What people say to a Claude session after its first prompt."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple
from uuid import UUID, uuid4, uuid5

from sqlalchemy import Text, insert, literal, select, update

from gsd_tasks.domain.session import Kind, MessageKind
from gsd_tasks.domain.state import Status
from gsd_tasks.domain.transcript import PROMPT
from gsd_tasks.store import transcript
from gsd_tasks.store.tables import messages, sessions

if TYPE_CHECKING:
    from sqlalchemy import CTE, Connection
    from sqlalchemy.sql.dml import ReturningInsert

    from gsd_tasks.domain.session import SessionId

#: Where a message still comes into the conversation by itself.
RECEIVING: Final = (Status.QUEUED, Status.RUNNING, Status.PAUSED)


class Message(NamedTuple):
    """One message; an interrupt has no `text`."""

    number: int
    uuid: UUID
    kind: MessageKind
    text: str | None


def prompt(session_id: SessionId, text: str) -> Message:
    """A session's first prompt: its message number 0."""
    return Message(0, uuid5(session_id, "0"), MessageKind.TEXT, text)


def send(connection: Connection, session_id: SessionId, text: str | None) -> int | None:
    """Add a message, or an interrupt (no text), and give its number. None: the session takes none as it stands.

    An interrupt is taken while the session runs, a text also before that and while it is paused.
    """
    receiving = [Status.RUNNING] if text is None else RECEIVING
    guard = sessions.c.status.in_(receiving), sessions.c.kind == Kind.CLAUDE
    numbered = (
        update(sessions)
        .where(sessions.c.id == session_id, *guard)
        .values(last_message=sessions.c.last_message + 1)
        .returning(sessions.c.id, sessions.c.last_message)
        .cte("numbered")
    )
    return connection.execute(adding(numbered, text)).scalar_one_or_none()


def adding(numbered: CTE, text: str | None) -> ReturningInsert[int]:
    """The statement that adds a message to the session in `numbered`, whose `last_message` is its number."""
    kind = MessageKind.INTERRUPT if text is None else MessageKind.TEXT
    return (
        insert(messages)
        .from_select(
            ["session_id", "number", "uuid", "kind", "body"],
            select(numbered.c.id, numbered.c.last_message, literal(uuid4()), literal(kind.value), literal(text, Text)),
        )
        .returning(messages.c.number)
    )


def after(connection: Connection, session_id: SessionId, number: int) -> list[Message]:
    """Messages with a higher number, in order."""
    found = select(messages).where(messages.c.session_id == session_id, messages.c.number > number)
    rows = connection.execute(found.order_by(messages.c.number)).mappings()
    return [Message(row["number"], row["uuid"], MessageKind(row["kind"]), row["body"]) for row in rows]


def waiting(connection: Connection, session_id: SessionId) -> list[Message]:
    """Texts that have not come into the conversation yet, in order; the first prompt among them."""
    texts = [message for message in after(connection, session_id, 0) if message.text is not None]
    first = connection.execute(select(sessions.c.prompt).where(sessions.c.id == session_id)).scalar_one_or_none()
    everything = texts if first is None else [prompt(session_id, first), *texts]
    came = transcript.delivered(connection, session_id, [message.uuid for message in everything])
    known = {uuid for uuid, _ in came}
    # Between two turns the CLI makes one prompt of all that it was told by then, in order, and of their uuids it keeps
    # the last. While a turn runs each is an entry of its own, and a slash command is overtaken.
    prompts = [message.number for message in everything if (str(message.uuid), PROMPT) in came]
    through = prompts[-1] if prompts else -1
    return [message for message in everything if message.number > through and str(message.uuid) not in known]


def newest(connection: Connection, session_id: SessionId) -> int:
    """The number of the last message; 0 if there is none but the first prompt."""
    number = select(sessions.c.last_message).where(sessions.c.id == session_id)
    return connection.execute(number).scalar_one_or_none() or 0
