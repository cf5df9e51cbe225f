"""The values: keys that name exactly one code and configuration, and what runs during an update."""

import dataclasses
import hashlib

import samples

from lambent.kernel.models import Archive, VersionKey


def test_code_sha256_is_base64_of_the_digest() -> None:
    digest = hashlib.sha256(b"code").hexdigest()
    assert Archive(digest, 4, 4).sha256 == "VpTQii5T/8rgwxA+Wtb2B2q9lg6x+KVldwQLwQKPcCs="


def test_a_versions_key_moves_with_its_generation() -> None:
    version = samples.version()
    assert version.key == VersionKey("uid-f", "$LATEST", 1)
    assert dataclasses.replace(version, revision_id="r2").key == version.key
    assert dataclasses.replace(version, generation=2).key != version.key


def test_the_old_version_runs_while_an_update_is_in_progress() -> None:
    function = samples.full_function()
    assert function.to_run is function.serving
    assert dataclasses.replace(function, serving=None).to_run is function.latest
