"""Who may not ask: without the token, by another name, with too much; and what is measured."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from mrff.serving.guard import MOST_BYTES, token_of
from tests.support.serving import TOKEN, asking

DATA = ("/v1/users", "/v1/users/1/recommendations", "/v1/users/1/history", "/metrics", "/nowhere")


@pytest.mark.parametrize("token", ["", "another-token-of-the-tests", TOKEN + "x", TOKEN[:-1]])
def test_nothing_of_anybody_without_the_token(next_home: Path, token: str) -> None:
    with asking(next_home, "next", token=token) as client:
        for path in DATA:
            assert client.get(path).status_code == 401
        assert client.post("/v1/batch", json={"users": ["1"]}).status_code == 401
        for path in ("/", "/page.js", "/page.css", "/health", "/docs", "/openapi.json"):
            assert client.get(path).status_code == 200


def test_the_open_pages_name_no_user_and_no_item(next_home: Path) -> None:
    with asking(next_home, "next") as client:
        user = client.get("/v1/users?limit=1").json()[0]
        lists = client.get(f"/v1/users/{user}/recommendations?top=5").json()
        named = [line["item"] for line in lists["items"]]
        assert len(named) == 5
        for path in ("/", "/page.js", "/page.css", "/health", "/openapi.json"):
            text = client.get(path).text
            assert not [title for title in named if title in text]


@pytest.mark.parametrize("host", ["attacker.example", "127.0.0.1.attacker.example", "10.0.0.1"])
def test_a_page_that_lets_its_own_name_point_here_is_refused(next_home: Path, host: str) -> None:
    with asking(next_home, "next") as client:
        assert client.get("/v1/users", headers={"Host": host}).status_code == 400
        assert client.get("/", headers={"Host": host}).status_code == 400
        for own in ("localhost:8765", "127.0.0.1:1"):
            assert client.get("/v1/users", headers={"Host": own}).status_code == 200


def test_other_sites_get_no_permission_to_read_answers(next_home: Path) -> None:
    with asking(next_home, "next") as client:
        headers = {"Origin": "https://attacker.example", "Access-Control-Request-Method": "GET"}
        said = client.options("/v1/users", headers=headers)
        assert not [name for name in said.headers if name.startswith("access-control-")]
        assert "frame-ancestors 'none'" in client.get("/").headers["content-security-policy"]


def test_long_and_unmeasured_bodies_are_not_read(next_home: Path) -> None:
    with asking(next_home, "next") as client:
        said = client.post("/v1/batch", content=b"x" * (MOST_BYTES + 1))
        assert (said.status_code, said.json()["detail"][:29]) == (
            413,
            "a request has at most 1048576",
        )
        with asking(next_home, "next", token="") as stranger:
            assert stranger.post("/v1/batch", content=b"x" * (MOST_BYTES + 1)).status_code == 401
        headers = {"Transfer-Encoding": "chunked"}
        assert client.get("/v1/users", headers=headers).status_code == 411


def test_answers_are_counted_by_route_and_status_not_by_user(next_home: Path) -> None:
    with asking(next_home, "next") as client:
        user = client.get("/v1/users?limit=1").json()[0]
        for _ in range(3):
            client.get(f"/v1/users/{user}/recommendations")
        client.get("/v1/users/nobody/recommendations")
        client.get("/v1/users", headers={"Authorization": ""})
        told = client.get("/metrics").text
    route = 'route="/v1/users/{user}/recommendations"'
    assert f'mrff_answers_total{{{route},status="200"}} 3.0' in told
    assert f'mrff_answers_total{{{route},status="404"}} 1.0' in told
    assert 'mrff_answers_total{route="none",status="401"} 1.0' in told
    assert f"mrff_answer_seconds_count{{{route}}} 4.0" in told
    assert "nobody" not in told


def test_a_token_is_made_once_for_its_owner_alone(tmp_path: Path) -> None:
    file = tmp_path / "new" / "token"
    token = token_of(file)
    assert len(token) >= 32
    assert token_of(file) == token
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    file.write_text("short\n")
    with pytest.raises(ValueError, match="has 5 characters, it needs 16: remove it"):
        token_of(file)
