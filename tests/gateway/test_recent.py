import asyncio

from tokenworks.gateway.recent import Recent, Record


def record(identity: str) -> Record:
    return Record(request_id=identity, at=0.0, tenant="t", key_id="", model="m", label="public")


def test_the_newest_are_found_and_the_oldest_forgotten() -> None:
    recent = Recent(most=3)
    for number in range(5):
        recent.add(record(str(number)))

    assert [one.request_id for one in recent.newest(2)] == ["4", "3"]
    assert recent.find("2") is not None
    assert recent.find("1") is None
    assert len(recent) == 3


def test_followers_hear_of_requests_as_they_end() -> None:
    recent = Recent()

    async def main() -> None:
        with recent.followed() as one, recent.followed() as other:
            recent.ended(record("a"))
            assert (await one.get()).request_id == (await other.get()).request_id == "a"
        recent.ended(record("b"))
        assert one.empty()

    asyncio.run(main())


def test_a_brief_record_has_no_route() -> None:
    one = record("a")
    one.route = {"ranked": []}

    assert "route" not in one.brief()
    assert one.whole()["route"] == {"ranked": []}


def test_a_second_request_with_the_same_id_hides_nothing_of_the_first() -> None:
    recent = Recent(most=3)
    first = record("same")
    recent.add(first)
    recent.add(record("same"))
    recent.add(record("same"))
    assert recent.find("same") is first
    assert len(recent.newest(10)) == 3
    recent.add(record("other"))
    assert recent.find("same") is None  # the oldest is forgotten
    assert len(recent) == 3
