"""Where a backend may be: each test is named after what it stops."""

import asyncio
import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenworks.errors import BackendError, ConfigError
from tokenworks.gateway.upstream.address import checked, endpoint_of, kind_of, system_resolve

PRIVATE = (
    *("127.0.0.1", "127.255.255.254", "10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1"),
    *("100.64.0.1", "::1", "fc00::1", "fd12:3456::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1"),
)
FORBIDDEN = (
    *("0.0.0.0", "0.1.2.3", "169.254.169.254", "169.254.0.1", "224.0.0.1", "255.255.255.255"),
    *("240.0.0.1", "192.0.0.192", "198.18.0.1", "203.0.113.9", "100.100.100.200"),
    *("168.63.129.16", "::", "fe80::1", "fe80::1%eth0", "fec0::1", "ff02::1", "fd00:ec2::254"),
    *("2001:db8::1", "::ffff:169.254.169.254", "::ffff:0.0.0.0", "fd20:ce::254"),
)
TUNNELS = (
    *("::127.0.0.1", "::169.254.169.254", "::8.8.8.8", "2002:7f00:1::", "2002:a9fe:a9fe::1"),
    *("64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "64:ff9b::a00:1", "64:ff9b:1::7f00:1"),
    *("2001:0:7f00:1::1", "2600::5efe:7f00:1", "2600::200:5efe:7f00:1"),
)
PUBLIC = ("8.8.8.8", "1.1.1.1", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808")


@pytest.mark.parametrize("address", PRIVATE)
def test_loopback_and_private_addresses_are_private(address: str) -> None:
    assert kind_of(ipaddress.ip_address(address)) == "private"


@pytest.mark.parametrize("address", FORBIDDEN)
def test_metadata_link_local_and_reserved_addresses_are_forbidden(address: str) -> None:
    assert kind_of(ipaddress.ip_address(address)) == "forbidden"


@pytest.mark.parametrize("address", TUNNELS)
def test_an_ipv4_address_inside_one_of_ipv6_gets_nowhere_it_could_not_get_itself(
    address: str,
) -> None:
    assert kind_of(ipaddress.ip_address(address)) == "forbidden"


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_are_public(address: str) -> None:
    assert kind_of(ipaddress.ip_address(address)) == "public"


@given(st.integers(0, 2**32 - 1).map(ipaddress.IPv4Address))
def test_no_address_that_python_calls_special_passes_for_public(
    address: ipaddress.IPv4Address,
) -> None:
    if not address.is_global or address.is_multicast:
        assert kind_of(address) != "public"
    for outside in (f"::ffff:{address}", f"64:ff9b::{address}"):
        assert (kind_of(ipaddress.ip_address(outside)) == "public") == (
            kind_of(address) == "public"
        )


@pytest.mark.parametrize(
    "host",
    [
        *("0x7f.1", "0x7f000001", "2130706433", "127.1", "0177.0.0.1", "017700000001", "127.0.1"),
        *("0", "127.0.0.01", "127.0.0.1.", "0x7f.0x0.0x0.0x1", "1.2.3.4.5", "256.1.1.1"),
    ],
)
def test_odd_forms_of_an_address_are_refused(host: str) -> None:
    with pytest.raises(ConfigError, match="odd form"):
        endpoint_of(f"https://{host}/v1", allow_private=True)


@pytest.mark.parametrize(
    "url",
    [
        *("https://localhost./v1", "https://a..b/", "https://-a.com", "https://①②⑦.0.0.1/"),
        *("https://a.com\\@b.com/", "https://a.com/ b", "https://a.com/\n", "ftp://a.com", "a.com"),
        *("https://", "https:///v1", "https://a.com:0/", "https://a.com:99999/", "https://a.com:/"),
        *("https://a.com/?q=1", "https://a.com/#x", "https://a.com/%2e%2e", "HTTPS://a.com"),
        *("https://[::1", "https://[fe80::1%25eth0]/", "https://" + "a." * 200 + "com"),
        "https://a.com//b",
    ],
)
def test_a_url_that_two_readers_could_read_differently_is_refused(url: str) -> None:
    with pytest.raises(ConfigError):
        endpoint_of(url, allow_private=True)


def test_a_password_in_a_url_is_refused_and_not_shown() -> None:
    with pytest.raises(ConfigError, match="password") as refused:
        endpoint_of("https://user:hunter2@example.com/v1", allow_private=False)

    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]", "10.1.2.3", "[::ffff:127.0.0.1]"])
def test_private_literals_need_to_be_allowed(host: str) -> None:
    with pytest.raises(ConfigError, match="own network"):
        endpoint_of(f"https://{host}/v1", allow_private=False)

    assert endpoint_of(f"https://{host}/v1", allow_private=True).host == host.strip("[]")


def test_a_metadata_service_is_never_allowed() -> None:
    for host in ("169.254.169.254", "[fd00:ec2::254]", "[::ffff:a9fe:a9fe]"):
        with pytest.raises(ConfigError, match="no backend"):
            endpoint_of(f"https://{host}/", allow_private=True)


def test_a_url_without_tls_is_for_own_networks_only() -> None:
    with pytest.raises(ConfigError, match="no TLS"):
        endpoint_of("http://example.com/v1", allow_private=False)

    there = endpoint_of("http://gpu-box:8000/v1/", allow_private=True)

    assert (there.tls, there.host, there.port, there.path) == (False, "gpu-box", 8000, "/v1")
    assert there.authority == "gpu-box:8000"
    with pytest.raises(BackendError, match="without TLS nothing is sent"):
        checked(there, ["10.0.0.1", "8.8.8.8"])


def test_the_host_header_has_the_name_and_no_port_that_goes_without_saying() -> None:
    assert (
        endpoint_of("https://API.Example.com", allow_private=False).authority == "api.example.com"
    )
    assert endpoint_of("https://[::1]:8443", allow_private=True).authority == "[::1]:8443"


def test_a_name_that_leads_to_one_wrong_address_among_right_ones_is_refused() -> None:
    cloud = endpoint_of("https://api.example.com/v1", allow_private=False)

    assert checked(cloud, ["8.8.8.8", "2606:4700::1111"]) == ["8.8.8.8", "2606:4700::1111"]
    for wrong in (*PRIVATE, *FORBIDDEN, *TUNNELS, "no address"):
        with pytest.raises(BackendError, match="may not be"):
            checked(cloud, ["8.8.8.8", wrong])
    with pytest.raises(BackendError, match="no address"):
        checked(cloud, [])


def test_private_is_not_forbidden() -> None:
    site = endpoint_of("http://gpu-box/v1", allow_private=True)

    assert checked(site, list(PRIVATE)) == list(PRIVATE)
    for wrong in FORBIDDEN:
        with pytest.raises(BackendError, match="may not be"):
            checked(site, [wrong])


def test_the_system_resolves_localhost() -> None:
    assert set(asyncio.run(system_resolve("localhost", 80))) <= {"127.0.0.1", "::1"}


@given(st.text(max_size=60))
def test_any_text_is_refused_or_read_in_one_way(text: str) -> None:
    try:
        endpoint = endpoint_of("https://" + text, allow_private=True)
    except ConfigError:
        return
    assert endpoint.host.isascii()
    assert not set(endpoint.host + endpoint.path) & set(" @\\\r\n\t?#%")
