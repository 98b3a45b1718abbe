"""Every error that ipai_bridge raises, and the code to recognise it by.

    BridgeError                       bridge_error
    ├── EventInvalid                  event_invalid            the event breaks a rule of the contract
    ├── PayloadError                  payload_error            a record could not be turned into JSON
    │   ├── UnknownField              unknown_field
    │   ├── FieldNotSendable          field_not_sendable
    │   └── RecordUnreadable          record_unreadable
    ├── SettingsError                 settings_error           a setting is missing or refused
    │   ├── DeprecatedProject         deprecated_project
    │   ├── SecretUnreadable          secret_unreadable
    │   └── WeakSecret                weak_secret
    ├── SignatureError                signature_error          a request is not to be trusted
    │   ├── HeaderMissing             header_missing
    │   ├── HeaderMalformed           header_malformed
    │   ├── TimestampStale            timestamp_stale
    │   ├── SignatureMismatch         signature_mismatch
    │   └── IdMismatch                id_mismatch
    ├── OutboxError                   outbox_error             the outbox could not do what was asked
    │   ├── SchemaMissing             schema_missing
    │   ├── EventNotFound             event_not_found
    │   ├── NotElected                not_elected
    │   └── OutboxUnavailable         outbox_unavailable
    ├── DeliveryError                 delivery_error           the receiver will not take the event
    │   └── EndpointGone              endpoint_gone
    ├── ServerActionError             server_action_error      what server-action code gets to see
    ├── SyncError                     sync_error               a scheduled sync did not come to its end
    │   ├── OdooRefused               odoo_refused
    │   ├── OdooUnavailable           odoo_unavailable
    │   ├── SyncRefused               sync_refused
    │   └── SyncUnavailable           sync_unavailable
    └── InputUnreadable               input_unreadable         a command's input could not be read

Catch `BridgeError` for all of them. Branch on the class, or on `code`, which never changes; the text may. An error
made without a text says the first line of its class's docstring. Each text says what failed, why, and what to do; none
holds a secret, a password or a body. All of them survive pickling.
"""

# ruff: noqa: N818 -- named after what is the case (WeakSecret, SchemaMissing): the suffix would only repeat the base class

__all__ = [
    "BridgeError",
    "DeliveryError",
    "DeprecatedProject",
    "EndpointGone",
    "EventInvalid",
    "EventNotFound",
    "FieldNotSendable",
    "HeaderMalformed",
    "HeaderMissing",
    "IdMismatch",
    "InputUnreadable",
    "NotElected",
    "OdooRefused",
    "OdooUnavailable",
    "OutboxError",
    "OutboxUnavailable",
    "PayloadError",
    "RecordUnreadable",
    "SchemaMissing",
    "SecretUnreadable",
    "ServerActionError",
    "SettingsError",
    "SignatureError",
    "SignatureMismatch",
    "SyncError",
    "SyncRefused",
    "SyncUnavailable",
    "TimestampStale",
    "UnknownField",
    "WeakSecret",
]


class BridgeError(Exception):
    """ipai_bridge could not do what was asked."""

    code: str = "bridge_error"

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or type(self).default_message())

    @classmethod
    def default_message(cls) -> str:
        """The first line of the class's docstring; that of the nearest documented base under `python -OO`."""
        return (cls.__doc__ or cls.__name__).strip().partition("\n")[0]

    @property
    def message(self) -> str:
        """The text, without the class and the code."""
        return str(self)

    def __reduce__(self) -> tuple[object, ...]:
        # Exception's own way calls the class with `args`, which fails for every subclass that takes other arguments.
        return _restore, (type(self), self.args, self.__dict__.copy())


def _restore(cls: type[BridgeError], args: tuple[object, ...], state: dict[str, object]) -> BridgeError:
    error = cls.__new__(cls)
    error.args = args
    error.__dict__.update(state)
    return error


class EventInvalid(BridgeError):
    """The event breaks a rule of the webhook contract: correct the field that is named, and emit again.

    `field` is the path to what was refused (`event_type`, `payload.lines[3].amount`), `rule` is what it must be.
    """

    code = "event_invalid"

    def __init__(self, field: str, rule: str) -> None:
        self.field = field
        self.rule = rule
        super().__init__(f"{field} {rule}")


class PayloadError(BridgeError):
    """The records could not be turned into a JSON payload."""

    code = "payload_error"


class UnknownField(PayloadError):
    """The model has no field of this name: correct the name in the field list."""

    code = "unknown_field"


class FieldNotSendable(PayloadError):
    """The field's type is never sent (binary, image): leave it out, and send a link or a digest instead."""

    code = "field_not_sendable"


class RecordUnreadable(PayloadError):
    """A record or a field may not be read by this user, or is gone: emit as a user who may, or leave it out."""

    code = "record_unreadable"


class SettingsError(BridgeError):
    """A setting is missing or refused: correct it where `ipai-bridge doctor` says it comes from.

    `name` is the setting as its source spells it, `rule` is what it must be. Neither ever holds a secret's value.
    """

    code = "settings_error"

    def __init__(self, name: str, rule: str) -> None:
        self.name = name
        self.rule = rule
        super().__init__(f"{name} {rule}")


class DeprecatedProject(SettingsError):
    """The setting names a Supabase project that is deprecated: name the project in use."""

    code = "deprecated_project"


class SecretUnreadable(SettingsError):
    """The file that holds the secret could not be read, or others may read it too: see the reason named."""

    code = "secret_unreadable"


class WeakSecret(SettingsError):
    """The secret is too short to sign with: make one with `ipai-bridge keygen`."""

    code = "weak_secret"


class SignatureError(BridgeError):
    """The request is not to be trusted: nothing of it may be stored."""

    code = "signature_error"


class HeaderMissing(SignatureError):
    """A header that the contract demands is not there: send every header that `ipai-bridge sign` prints."""

    code = "header_missing"


class HeaderMalformed(SignatureError):
    """A header is not of the form that the contract demands, or is there twice."""

    code = "header_malformed"


class TimestampStale(SignatureError):
    """The timestamp is outside the replay window: sign each attempt afresh, and set both clocks by NTP."""

    code = "timestamp_stale"


class SignatureMismatch(SignatureError):
    """No active secret made this signature for this body: sign the raw bytes, with the secret that both sides hold."""

    code = "signature_mismatch"


class IdMismatch(SignatureError):
    """`x-idempotency-key` and `webhook-id` are not the same: the request was put together from two."""

    code = "id_mismatch"


class OutboxError(BridgeError):
    """The outbox could not do what was asked."""

    code = "outbox_error"


class SchemaMissing(OutboxError):
    """The outbox is not installed in this database: run `ipai-bridge install`."""

    code = "schema_missing"


class EventNotFound(OutboxError):
    """The outbox holds no event of this id: it was purged, or it is in another database."""

    code = "event_not_found"


class NotElected(OutboxError):
    """Another inline relay of this database is at work: this one stands by, and there is nothing to do."""

    code = "not_elected"


class OutboxUnavailable(OutboxError):
    """The outbox's database cannot be reached now: the events are kept, and trying again helps when it is up."""

    code = "outbox_unavailable"


class DeliveryError(BridgeError):
    """The receiver did not take the event, and trying again as things are will not help."""

    code = "delivery_error"


class EndpointGone(DeliveryError):
    """The receiver answered 410 Gone, so delivery to it has stopped: correct `url`, then start the relay again."""

    code = "endpoint_gone"


class ServerActionError(BridgeError):
    """The event was not emitted, and the transaction that asked for it should not go on."""

    code = "server_action_error"


class InputUnreadable(BridgeError):
    """The file named on the command line could not be read: check the path and the permissions."""

    code = "input_unreadable"


class SyncError(BridgeError):
    """The sync did not come to its end: what it had sent by then stands, and the next run takes it up."""

    code = "sync_error"


class OdooRefused(SyncError):
    """Odoo would not let this user read what is synced: give it the rights, or log in as another."""

    code = "odoo_refused"


class OdooUnavailable(SyncError):
    """Odoo does not answer at the URL that is set: check `odoo_url`, and that the server runs."""

    code = "odoo_unavailable"


class SyncRefused(SyncError):
    """The Edge Function refused the sync, and would refuse the same again: see the reason named.

    `reason` is the code that the function answered with, such as `run_in_progress`; None where it gave none.
    """

    code = "sync_refused"
    reason: str | None = None


class SyncUnavailable(SyncError):
    """The Edge Function could not be reached, or not do its work now: nothing is lost, run the sync again later."""

    code = "sync_unavailable"
