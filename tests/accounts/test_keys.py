"""The life of a key. On both databases."""

from typing import Any

import pytest

from budgeting import Wall
from issued_keys import SECRET, create, refused, run
from tokenworks.accounts.key_store import KeyStore
from tokenworks.accounts.keys import ROLES
from tokenworks.accounts.limits import Allowance
from tokenworks.errors import AccessError, ConfigError, RequestError
from tokenworks.store import audit
from tokenworks.store.database import Database


def test_a_key_opens_what_it_was_made_for(store: KeyStore) -> None:
    issued = create(
        store,
        user="ada",
        name="laptop",
        role="service",
        scopes=frozenset({"usage"}),
        label="private",
        models=("small-*", "Big"),
        allowance=Allowance(requests_per_minute=5),
        priority_max=3,
    )

    key = store.find(issued.text)

    assert key == issued.key
    assert key.caller.holders == ("tenant:acme", "user:acme/ada", f"key:{key.id}")
    assert [key.may_use(model) for model in ("SMALL-1", "big", "bigger")] == [True, True, False]
    key.require("usage")
    with pytest.raises(AccessError, match="no scope 'infer'"):
        key.require("infer")


def test_keys_are_there_when_the_database_is_opened_again(
    database: Database, store: KeyStore, wall: Wall
) -> None:
    issued = create(store, models=("a",), expires_at=wall.now + 10)

    again = KeyStore(database, SECRET, wall=wall)

    assert again.find(issued.text) == issued.key


def test_a_key_ends_when_it_expires(store: KeyStore, wall: Wall) -> None:
    issued = create(store, expires_at=wall.now + 10)
    wall.now += 9.9
    store.find(issued.text)
    wall.now += 0.1

    assert "expired" in refused(store, issued.text)


def test_a_key_ends_at_once_when_it_is_revoked_and_for_good(store: KeyStore, wall: Wall) -> None:
    issued, other = create(store), create(store)

    run(store.revoke(issued.key.id, actor="test"))

    assert "revoked" in refused(store, issued.text)
    store.find(other.text)
    wall.now += 10
    run(store.revoke(issued.key.id, actor="test"))
    (key,) = (key for key in run(store.all()) if key.id == issued.key.id)
    assert key.revoked_at == wall.now - 10
    with pytest.raises(RequestError, match="was revoked"):
        run(store.rotate(issued.key.id, actor="test"))


def test_a_rotated_key_has_a_new_secret_and_the_old_one_for_a_while(
    store: KeyStore, wall: Wall
) -> None:
    first = create(store)
    second = run(store.rotate(first.key.id, actor="test", grace_s=60))

    assert store.find(first.text).id == store.find(second.text).id == first.key.id
    wall.now += 60
    assert "rotated" in refused(store, first.text)
    store.find(second.text)


def test_a_secret_before_the_last_is_forgotten(store: KeyStore) -> None:
    first = create(store)
    second = run(store.rotate(first.key.id, actor="test", grace_s=60))
    third = run(store.rotate(first.key.id, actor="test", grace_s=60))

    assert "not known" in refused(store, first.text)
    store.find(second.text)
    store.find(third.text)


def test_a_revoked_key_ends_with_its_old_secret_too(store: KeyStore) -> None:
    first = create(store)
    run(store.rotate(first.key.id, actor="test", grace_s=60))
    run(store.revoke(first.key.id, actor="test"))

    assert "revoked" in refused(store, first.text)


def test_another_process_sees_changes_when_it_looks(
    database: Database, store: KeyStore, wall: Wall
) -> None:
    other = KeyStore(database, SECRET, wall=wall)
    issued = create(store)
    refused(other, issued.text)

    assert run(other.refresh())
    assert not run(other.refresh())
    other.find(issued.text)
    run(store.revoke(issued.key.id, actor="test"))
    assert run(other.refresh())
    assert "revoked" in refused(other, issued.text)


def test_limits_of_users_and_tenants_hold_beside_those_of_the_key(store: KeyStore) -> None:
    own, tenants = Allowance(tokens_per_minute=1), Allowance(requests_per_minute=9)
    key = create(store, user="ada", allowance=own).key
    run(store.set_limit("tenant:acme", tenants, actor="test"))
    run(store.set_limit("user:acme/bob", Allowance(requests_per_minute=0), actor="test"))

    assert dict(store.allowances(key)) == {f"key:{key.id}": own, "tenant:acme": tenants}

    assert run(store.set_limit("tenant:acme", Allowance(), actor="test"))
    assert dict(store.allowances(key)) == {f"key:{key.id}": own}
    assert not run(store.set_limit("tenant:acme", Allowance(), actor="test"))


def test_the_limits_of_a_key_change_without_another_key(store: KeyStore) -> None:
    issued = create(store, allowance=Allowance(tokens_per_minute=1))
    more = Allowance(requests_per_minute=5)
    holder = f"key:{issued.key.id}"

    assert run(store.set_limit(holder, more, actor="test"))
    assert dict(store.allowances(store.find(issued.text))) == {holder: more}
    assert run(store.limits()) == {holder: more}
    with pytest.raises(RequestError, match="no key 'none'"):
        run(store.set_limit("key:none", more, actor="test"))
    run(store.revoke(issued.key.id, actor="test"))
    assert run(store.limits()) == {}


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"tenant": "a/b"}, "tenant"),
        ({"tenant": ""}, "tenant"),
        ({"user": "=cmd()"}, "user"),
        ({"role": "root"}, "role"),
        ({"scopes": frozenset({"admin"})}, "scopes"),
        ({"priority_max": 11}, "priority_max"),
        ({"expires_at": 1.0}, "expires_at"),
        ({"allowance": Allowance(tokens_per_minute=-1)}, "tokens_per_minute"),
    ],
)
def test_a_key_that_cannot_be_is_refused_by_the_field_at_fault(
    store: KeyStore, fields: dict[str, Any], param: str
) -> None:
    with pytest.raises(RequestError) as refusal:
        create(store, **fields)

    assert refusal.value.param == param
    assert run(store.all()) == []


def test_a_key_that_does_not_exist_cannot_be_changed(store: KeyStore) -> None:
    for work in (store.revoke("none", actor="test"), store.rotate("none", actor="test")):
        with pytest.raises(RequestError, match="no key 'none'"):
            run(work)


def test_every_change_is_in_the_audit_log_with_who_made_it(
    database: Database, store: KeyStore
) -> None:
    issued = create(store)
    run(store.rotate(issued.key.id, actor="key:admin"))
    run(store.revoke(issued.key.id, actor="key:admin"))
    run(store.set_limit("tenant:acme", Allowance(tokens_per_minute=9), actor="key:admin"))
    run(store.set_limit("tenant:acme", Allowance(), actor="key:admin"))

    rows = database.read_now(audit.read)

    assert [(row.actor, row.action, row.subject) for row in rows] == [
        ("test", "key.create", f"key:{issued.key.id}"),
        ("key:admin", "key.rotate", f"key:{issued.key.id}"),
        ("key:admin", "key.revoke", f"key:{issued.key.id}"),
        ("key:admin", "limit.set", "tenant:acme"),
        ("key:admin", "limit.remove", "tenant:acme"),
    ]
    assert database.read_now(audit.verify) is None


def test_a_secret_of_another_installation_is_noticed(database: Database, store: KeyStore) -> None:
    create(store)

    with pytest.raises(ConfigError, match="another secret"):
        KeyStore(database, b"t" * 32)


def test_roles_have_no_scope_that_admins_have_not() -> None:
    assert all(scopes <= ROLES["admin"] for scopes in ROLES.values())
