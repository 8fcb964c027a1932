"""A noise case by pages: its contributor reads the figures and answers, and whoever decides is not told who that is."""

from __future__ import annotations

from django.urls import reverse

from attribution.models import NoiseCase
from marketplace import mydata, noise_cases
from tests.api.world import program_of
from tests.datanets.cast import person
from tests.marketplace.noise_shop import judged
from tests.marketplace.pages.test_build import sign_in
from tests.marketplace.pages.test_explore import page
from tests.marketplace.pages.world import admin
from tests.marketplace.test_noise_cases import judging, version  # noqa: F401 - fixtures


def test_a_case_by_pages_and_by_program(version, client):  # noqa: F811
    (case,) = judged()
    here, listed = reverse("noise_case", args=[case.pk]), reverse("noise_cases")

    # The contributor reads why their earnings are held, with figures, and answers once
    sign_in(client, "mallory")
    for place in ("/en/wallet/pending/", "/en/earnings/"):
        held = page(client, place)
        assert "look like noise for a model" in held and listed in held
    mine = page(client, here)
    assert f'value="{noise_cases.held_nano(case)}"' in mine and f"{case.figures['z']:.1f}" in mine
    assert here in page(client, listed) and "look like noise" in page(client, "/en/inbox/")
    state = reverse("noise_state", args=[case.pk])
    assert client.post(state, {"text": ""})["Location"] == here
    assert client.post(state, {"text": "They are <b>measurements</b>."}).status_code == 302
    assert client.post(state, {"text": "Again."}).status_code == 409
    assert client.post(reverse("noise_decide", args=[case.pk]), {"answer": "clear", "note": "Mine."}).status_code == 403

    # Whoever decides reads rows and figures, and no name or number of theirs
    sign_in(client, "erin")
    asked = page(client, here)
    assert "They are &lt;b&gt;measurements" in asked and "They are noise" in asked
    assert "mallory" not in asked
    assert not [pk for pk in case.records.values_list("record_id", flat=True) if f"/records/{pk}/" in asked]
    assert here in page(client, listed)
    by_program = program_of(person("erin"))
    assert [row["id"] for row in by_program.get("/api/v1/noise-cases/to-decide/").json()["results"]] == [str(case.pk)]
    assert "mallory" not in by_program.get(f"/api/v1/noise-cases/{case.pk}/").content.decode()
    decide = reverse("noise_decide", args=[case.pk])
    assert client.post(decide, {"answer": "uphold", "note": ""})["Location"] == here
    client.post(decide, {"answer": "uphold", "note": "Random numbers."})
    assert here not in page(client, listed)

    # The contributor appeals, by program; somebody else does not read the first reason, and clears it
    sign_in(client, "mallory")
    assert "Random numbers." in page(client, here)
    appeal = program_of(person("mallory")).post(
        f"/api/v1/noise-cases/{case.pk}/appeal/", {"text": "Look again."}, format="json"
    )
    assert (appeal.status_code, appeal.json()["status"]) == (200, "appealed")
    sign_in(client, admin("ada").username)
    second = page(client, here)
    assert "Look again." in second and "Random numbers." not in second and "mallory" not in second
    assert here in page(client, listed)
    client.post(decide, {"answer": "clear", "note": "They are rare, and right."})
    case.refresh_from_db()
    assert (case.status, NoiseCase.objects.count()) == ("cleared", 1)

    sign_in(client, "mallory")
    ended = page(client, here)
    assert "Random numbers." in ended and "They are rare, and right." in ended
    assert [row["status"] for row in mydata.export(person("mallory"))["noise_cases"]] == ["cleared"]
    sign_in(client, "zoe")
    assert client.get(here).status_code == 404
    assert (
        client.get("/en/models/devi/check/attribution/").content.decode().count("Noise: judged in epoch 1: 1 case") == 1
    )
