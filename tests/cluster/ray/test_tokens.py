"""Ray's token is found where Ray finds it, and shown nowhere."""

from cluster.ray.tokens import find_token, make_token, redacted


def test_the_order_is_rays(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("RAY_AUTH_TOKEN", raising=False)
    monkeypatch.delenv("RAY_AUTH_TOKEN_PATH", raising=False)
    assert find_token() is None
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray/auth_token").write_text("of-home\n")
    assert find_token() == "of-home"
    (tmp_path / "named").write_text("of-file\n")
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "named"))
    assert find_token() == "of-file"
    monkeypatch.setenv("RAY_AUTH_TOKEN", "of-environment")
    assert find_token() == "of-environment"


def test_a_file_that_is_not_there_is_no_token(monkeypatch, tmp_path):
    monkeypatch.delenv("RAY_AUTH_TOKEN", raising=False)
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "none"))
    assert find_token() is None
    assert redacted("text") == "text"


def test_it_is_shown_nowhere(monkeypatch):
    monkeypatch.setenv("RAY_AUTH_TOKEN", "5eed5eed")
    assert redacted("Bearer 5eed5eed; 5eed5eed5eed") == "Bearer [token]; [token]5eed"


def test_a_token_is_made_where_it_is_named(monkeypatch, tmp_path):
    monkeypatch.delenv("RAY_AUTH_TOKEN", raising=False)
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "new" / "token"))
    make_token()
    token = (tmp_path / "new" / "token").read_text()
    assert find_token() == token
    assert len(token) == 64
    assert (tmp_path / "new" / "token").stat().st_mode & 0o777 == 0o600


def test_a_home_that_cannot_be_written_is_no_hindrance(monkeypatch):
    monkeypatch.setenv("RAY_AUTH_TOKEN", "")
    monkeypatch.delenv("RAY_AUTH_TOKEN_PATH", raising=False)
    monkeypatch.setenv("HOME", "/proc")
    make_token()
    assert len(find_token()) == 64
