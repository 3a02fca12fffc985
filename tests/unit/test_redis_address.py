from __future__ import annotations

import ssl

import pytest
from kombu import Connection

from gsd_tasks.domain.errors import ConfigurationError
from gsd_tasks.domain.redis_address import Login, Tls, parse_redis_url
from gsd_tasks.service import transport
from gsd_tasks.service.broker import connect, sentinel_options, sentinels

SENTINELS = "sentinel://us%65r:p%40%3Bss@one:26379;sentinel://two:26380;[::1]/3?master_name=m&sentinel_password=s%26s"


def test_an_address_of_one_server_is_read() -> None:
    address = parse_redis_url("redis://:p%2Fw@host/2")

    assert (address.hosts, address.database) == ((("host", 6379),), 2)
    assert (address.login, address.tls, address.master_name) == (Login(password="p/w"), None, None)
    assert str(address) == "host:6379/2"


def test_a_server_with_tls_is_checked_unless_it_is_asked_not_to_be() -> None:
    plain = parse_redis_url("rediss://host").tls
    files = parse_redis_url("rediss://host?ssl_ca_certs=/a%20b&ssl_certfile=/c&ssl_keyfile=/k").tls
    lax = parse_redis_url("rediss://host?ssl_cert_reqs=none").tls

    assert plain == Tls()
    assert files == Tls(ca_certs="/a b", certfile="/c", keyfile="/k")
    assert lax == Tls(is_checked=False, checks_host=False)


def test_sentinels_are_read_in_celerys_way_of_writing_them() -> None:
    address = parse_redis_url(SENTINELS)

    assert address.hosts == (("one", 26379), ("two", 26380), ("::1", 26379))
    assert (address.database, address.master_name) == (3, "m")
    assert (address.login, address.sentinel_login) == (Login(username="user", password="p@;ss"), Login(password="s&s"))
    assert str(address) == "m/3 of Sentinel one:26379, two:26380, [::1]:26379"
    again = parse_redis_url("sentinel://:w@one/0;sentinel://:w@two/0?master_name=m")
    assert (again.hosts, again.login) == ((("one", 26379), ("two", 26379)), Login(password="w"))


def test_nobody_shows_a_password_of_an_address() -> None:
    assert "p@;ss" not in repr(parse_redis_url(SENTINELS))
    assert "s&s" not in repr(parse_redis_url(SENTINELS))


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("", "no address like redis://:"),
        ("host:6379", "no address like redis://:"),
        ("http://secret@host", "no address like redis://:"),
        ("redis://", "no address like redis://:"),
        ("redis://:secret@host:port", "no address like redis://:"),
        ("redis://:secret@host/zero", "no address like redis://:"),
        ("redis://:secret@one;redis://two", "no address like redis://:"),
        ("redis://:sec#ret@host", "no address like redis://:"),
        ("sentinel://one;redis://two?master_name=m", "no address like sentinel://:"),
        ("sentinel://one/1;two/2?master_name=m", "no address like sentinel://:"),
        ("sentinel://one;two", "add [?]master_name=NAME"),
        ("redis://host?ssl_ca_certs=/secret", "begin the address with rediss://"),
        ("rediss://host?ssl_ca_cert=/secret", "there are ssl_ca_certs, "),
        ("redis://host?socket_timeout=secret", "there are none"),
        ("rediss://host?ssl_cert_reqs=secret", "required, or none"),
        ("rediss://host?ssl_check_hostname=secret", "true or false"),
        ("rediss://host?ssl_keyfile=/secret", "needs ssl_certfile"),
    ],
)
def test_an_address_that_cannot_be_used_is_refused_without_showing_it(url: str, words: str) -> None:
    with pytest.raises(ConfigurationError, match=rf"^GSD_REDIS_URL: .*{words}") as refused:
        parse_redis_url(url)
    assert "secret" not in str(refused.value)


def test_celery_checks_a_certificate_as_we_do() -> None:
    url = "rediss://gsd:p%40w@host:6380/2?ssl_ca_certs=/ca.pem"

    assert transport.broker_url(url) == "rediss://gsd:p%40w@host:6380/2"
    assert transport.broker_use_ssl(url) == {
        "ssl_cert_reqs": ssl.CERT_REQUIRED,
        "ssl_check_hostname": True,
        "ssl_ca_certs": "/ca.pem",
    }
    assert transport.broker_use_ssl("redis://host") is None
    assert "master_name" not in transport.transport_options(url)


def test_celery_asks_the_same_sentinels_with_the_same_words() -> None:
    options = transport.transport_options(SENTINELS, socket_timeout=5)
    connection = Connection(transport.broker_url(SENTINELS), transport_options=options)

    login = "sentinel://user:p%40%3Bss@"
    assert connection.alt == [f"{login}one:26379/3", f"{login}two:26380/3", f"{login}[::1]:26379/3"]
    assert (connection.userid, connection.password, connection.virtual_host) == ("user", "p@;ss", "3")
    assert (options["master_name"], options["socket_timeout"]) == ("m", 5)
    assert options["sentinel_kwargs"] == sentinel_options(parse_redis_url(SENTINELS))
    assert options["sentinel_kwargs"]["password"] == "s&s"


def test_with_tls_the_sentinels_are_reached_so_too() -> None:
    with connect("sentinel://one;two?master_name=m&ssl_ca_certs=/ca.pem") as client:
        (first, _) = sentinels(client).sentinels
        for pool in (client.connection_pool, first.connection_pool):
            assert pool.connection_kwargs["ssl_ca_certs"] == "/ca.pem"
    assert transport.transport_options("sentinel://one?master_name=m&ssl=true")["sentinel_kwargs"]["ssl"] is True
