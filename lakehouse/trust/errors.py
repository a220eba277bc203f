"""Why an artefact was refused: one class per reason.

Every class carries `reason`, the label of the metric `artefact_refused_total{reason}`.
Bytes that somebody else wrote never raise anything but these.
"""

from typing import ClassVar

from lakehouse.errors import TrustError


class UnverifiedError(TrustError):
    """Root of what verification refuses; the last verified payload stays."""

    reason: ClassVar[str] = "unverified"


class MetadataFormatError(UnverifiedError):
    """Metadata that cannot be read as its role's."""

    reason = "malformed_metadata"


class SignatureError(UnverifiedError):
    """Fewer valid signatures by distinct keys than the role's threshold."""

    reason = "signature"


class RollbackError(UnverifiedError):
    """A version older than one that was already accepted."""

    reason = "rollback"


class FreezeError(UnverifiedError):
    """Something that expired: an old state is being shown as the present one."""

    reason = "expired"


class MixAndMatchError(UnverifiedError):
    """Metadata of different repository states shown together."""

    reason = "mix_and_match"


class WrongRoleError(UnverifiedError):
    """A role vouches for what was not delegated to it."""

    reason = "wrong_role"


class LengthError(UnverifiedError):
    """A file that is longer or shorter than was signed or is allowed."""

    reason = "length"


class HashError(UnverifiedError):
    """A file whose content is not the signed one."""

    reason = "hash"


class KeyPolicyError(UnverifiedError):
    """Keys or approvals that the enrolment rules do not allow."""

    reason = "key_policy"


class ManifestError(UnverifiedError):
    """A manifest that does not say what a manifest must say."""

    reason = "manifest"


class ArtefactDataError(UnverifiedError):
    """A signed data file that is not readable as a table."""

    reason = "data"


class NotYetValidError(UnverifiedError):
    """A manifest whose period has not begun."""

    reason = "not_yet_valid"


class StateError(UnverifiedError):
    """The client's own folder cannot be written, so nothing new is accepted."""

    reason = "state"


class DownloadError(UnverifiedError):
    """The repository could not be read."""

    reason = "download"


class FileAbsentError(DownloadError):
    """The repository answered that it has no such file."""

    reason = "absent"


class SlowRetrievalError(DownloadError):
    """The repository sent too little in the time allowed."""

    reason = "slow_retrieval"


class KeyStoreError(TrustError):
    """The key folder refuses: unsafe place, unknown or missing key."""


class PublishError(TrustError):
    """The repository refuses to publish."""
