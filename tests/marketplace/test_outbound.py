import pytest

from marketplace import outbound


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com/",  # plain http
        "https://127.0.0.1/",
        "https://localhost/",
        "https://[::1]/",
        "https://10.0.0.8/",
        "https://172.16.3.4/",
        "https://192.168.1.1/",
        "https://169.254.169.254/latest/meta-data/",
        "https://100.64.0.1/",
        "https://0.0.0.0/",
        "https://[::ffff:127.0.0.1]/",
        "https://[::ffff:10.0.0.1]/",
        "https://[64:ff9b::7f00:1]/",
        "https://[2002:7f00:1::]/",
        "https://[fe80::1]/",
        "https://[fc00::1]/",
        "https://224.0.0.1/",
        "https://2130706433/",  # 127.0.0.1 as one number
        "https://0x7f.1/",
        "https://user:secret@8.8.8.8/",
        "https://8.8.8.8/#fragment",
        "ftp://8.8.8.8/",
        "file:///etc/passwd",
        "https:///nothing",
        "https://8.8.8.8:notaport/",
        "gopher://8.8.8.8/",
        "https://[::1/",  # not even an address
    ],
)
def test_private_and_strange_addresses_are_never_reached(url):
    with pytest.raises(outbound.OutboundRefused):
        outbound.resolve(url)


def test_a_public_address_passes_and_is_resolved_once():
    target = outbound.resolve("https://8.8.8.8/v1/chat?x=1")

    assert (target.address, target.authority, target.path) == ("8.8.8.8", "8.8.8.8", "/v1/chat?x=1")


def test_a_host_named_in_the_allow_list_may_be_private_and_plain():
    target = outbound.resolve("http://127.0.0.1:8002/v1", allow=["127.0.0.1:8002"])

    assert (target.address, target.port) == ("127.0.0.1", 8002)


def test_the_allow_list_names_a_port_and_opens_no_other():
    with pytest.raises(outbound.OutboundRefused):
        outbound.resolve("http://127.0.0.1:8003/", allow=["127.0.0.1:8002"])
