"""The tests' own PostgreSQL."""

import pytest
import sqlalchemy


@pytest.mark.postgres
def test_databases_are_new_and_apart(postgres):
    """And are opened with the password from the environment, which no address has."""
    first, second = postgres.create_database(), postgres.create_database()
    assert postgres.password not in first + second
    for url in (first, second):
        engine = sqlalchemy.create_engine(url)
        with engine.begin() as connection:
            connection.execute(sqlalchemy.text("CREATE TABLE t (x INT)"))
            connection.execute(sqlalchemy.text("INSERT INTO t VALUES (1)"))
            assert connection.execute(sqlalchemy.text("SELECT count(*) FROM t")).scalar() == 1
        engine.dispose()


@pytest.mark.postgres
def test_a_wrong_password_is_refused(postgres_url, monkeypatch):
    monkeypatch.setenv("PGPASSWORD", "wrong")
    with pytest.raises(sqlalchemy.exc.OperationalError, match="password authentication failed"):
        sqlalchemy.create_engine(postgres_url).connect()
