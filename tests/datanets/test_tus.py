"""The tus 1.0 protocol: what a resumable client sees."""

from __future__ import annotations

import base64
import hashlib
from datetime import timedelta

import pytest
from django.utils import timezone

from datanets import media, storage, submissions
from datanets.models import SubmissionFile
from tests.datanets.cast import make_datanet, measured, person, table

pytestmark = [pytest.mark.django_db, pytest.mark.urls("tests.datanets.upload_urls")]

CONTENT = table(measured(100))
TUS = {"Tus-Resumable": "1.0.0"}
BYTES = "application/offset+octet-stream"


@pytest.fixture
def alice(client):
    client.force_login(person("alice"))
    return client


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def create(client, *, size: int = len(CONTENT), of: str = "alice", **metadata):
    submission = submissions.start(datanet=make_datanet(f"Of {of} {size}"), contributor=person(of))
    pairs = {"submission": str(submission.pk), "filename": "rows.csv"} | metadata
    header = ",".join(f"{key} {encoded(value)}" for key, value in pairs.items())
    return client.post("/files/", headers=TUS | {"Upload-Length": str(size), "Upload-Metadata": header})


def patch(client, location: str, content: bytes, *, at: int, **headers):
    headers = TUS | {"Upload-Offset": str(at)} | {key.replace("_", "-"): value for key, value in headers.items()}
    return client.patch(location, data=content, content_type=BYTES, headers=headers)


def test_a_file_is_created_resumed_and_finished(alice):
    created = create(alice, sha256=hashlib.sha256(CONTENT).hexdigest())
    location = created["Location"]
    assert (created.status_code, created["Tus-Resumable"], "Upload-Expires" in created) == (201, "1.0.0", True)

    first = patch(alice, location, CONTENT[:700], at=0)
    assert (first.status_code, first["Upload-Offset"]) == (204, "700")
    standing = alice.head(location, headers=TUS)
    assert (standing["Upload-Offset"], standing["Upload-Length"]) == ("700", str(len(CONTENT)))
    assert standing["Cache-Control"] == "no-store"
    last = patch(alice, location, CONTENT[700:], at=700)

    assert (last.status_code, last["Upload-Offset"]) == (204, str(len(CONTENT)))
    file = SubmissionFile.objects.get()
    assert (file.status, storage.get(file.storage_key)) == ("waiting", CONTENT)


def test_a_wrong_offset_is_a_conflict_that_tells_the_right_one(alice):
    location = create(alice)["Location"]
    patch(alice, location, CONTENT[:10], at=0)
    refused = patch(alice, location, CONTENT[:10], at=0)
    assert (refused.status_code, refused["Upload-Offset"]) == (409, "10")


def test_an_upload_is_its_owners_alone(alice, client):
    location = create(alice)["Location"]
    client.force_login(person("bob"))
    assert client.head(location, headers=TUS).status_code == 404
    assert patch(client, location, b"x", at=0).status_code == 404
    assert client.delete(location, headers=TUS).status_code == 404
    assert create(client, of="alice", size=3).status_code == 404
    client.logout()
    assert client.head(location, headers=TUS).status_code == 401


def test_what_is_too_large_is_refused_before_its_body(alice, settings):
    settings.UPLOAD_FILE_MAX_BYTES = 100
    assert create(alice, size=101).status_code == 413
    location = create(alice, size=50)["Location"]
    assert patch(alice, location, b"x" * 51, at=0).status_code == 413


def test_an_expired_upload_is_gone(alice):
    location = create(alice)["Location"]
    SubmissionFile.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    assert patch(alice, location, b"x", at=0).status_code == 410


def test_an_upload_can_be_terminated(alice):
    location = create(alice)["Location"]
    patch(alice, location, CONTENT[:10], at=0)
    assert alice.delete(location, headers=TUS).status_code == 204
    assert alice.head(location, headers=TUS).status_code == 410


def test_a_part_with_a_wrong_checksum_is_told_so(alice):
    location = create(alice)["Location"]
    right = base64.b64encode(hashlib.sha1(CONTENT[:10]).digest()).decode()
    assert patch(alice, location, b"0123456789", at=0, Upload_Checksum=f"sha1 {right}").status_code == 460
    assert patch(alice, location, CONTENT[:10], at=0, Upload_Checksum=f"sha1 {right}").status_code == 204
    assert patch(alice, location, b"x", at=10, Upload_Checksum="md5 AAAA").status_code == 400
    assert patch(alice, location, b"x", at=10, Upload_Checksum="sha1 ???").status_code == 400


def test_another_version_of_the_protocol_is_refused(alice):
    answer = alice.post("/files/", headers={"Tus-Resumable": "0.2.2", "Upload-Length": "1"})
    assert (answer.status_code, answer["Tus-Version"]) == (412, "1.0.0")


def test_options_tell_what_the_server_can_do(alice):
    answer = alice.options("/files/")
    assert (answer.status_code, answer["Tus-Version"]) == (204, "1.0.0")
    assert set(answer["Tus-Extension"].split(",")) == {"creation", "expiration", "checksum", "termination"}


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Upload-Length": "-1", "Upload-Metadata": "filename YQ=="},
        {"Upload-Length": "1" * 30, "Upload-Metadata": "filename YQ=="},
        {"Upload-Length": "5", "Upload-Metadata": "filename ???"},
        {"Upload-Length": "5", "Upload-Metadata": "filename /w=="},
        {"Upload-Length": "5"},
    ],
)
def test_a_creation_that_makes_no_sense_is_a_bad_request(alice, headers):
    assert alice.post("/files/", headers=TUS | headers).status_code == 400


def test_a_creation_for_no_submission_is_not_found(alice):
    for submission in ("not-a-uuid", "5b7a2b1e-0000-4000-8000-000000000000"):
        header = f"submission {encoded(submission)},filename {encoded('a.csv')}"
        answer = alice.post("/files/", headers=TUS | {"Upload-Length": "5", "Upload-Metadata": header})
        assert answer.status_code == 404


def test_a_body_of_another_type_is_refused(alice):
    location = create(alice)["Location"]
    headers = TUS | {"Upload-Offset": "0"}
    assert alice.patch(location, data=b"x", content_type="text/plain", headers=headers).status_code == 415


def test_an_empty_file_is_finished_when_it_is_announced(alice):
    create(alice, size=0)
    assert SubmissionFile.objects.get().status == "waiting"


def test_a_picture_is_shown_only_by_its_signed_address(client):
    key = storage.new_key("thumbs")
    storage.put(key, b"\x89PNG\r\n\x1a\n")
    url = media.url_of(key)
    answer = client.get(url)
    assert (answer.status_code, answer["Content-Type"]) == (200, "image/png")
    stolen = media.url_of("originals/aa/secret")
    for address in (url[:-2] + "xx", stolen):
        assert client.get(address).status_code == 404
