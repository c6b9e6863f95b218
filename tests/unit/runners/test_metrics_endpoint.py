import pytest

from testground.runners import metrics_endpoint


@pytest.mark.parametrize(
    ("url", "seen", "host", "port"),
    [
        ("http://localhost:8086", "http://testground-influxdb:8086", "localhost", 8086),
        ("http://me:secret@10.0.0.7/base?x=1", "http://me:secret@testground-influxdb:80/base?x=1", "10.0.0.7", 80),
        ("https://metrics.example", "https://metrics.example:443", "metrics.example", 443),
        ("https://localhost:8086", "https://testground-influxdb:8086", "localhost", 8086),
        ("https://[::1]:8086/", "https://testground-influxdb:8086/", "::1", 8086),
    ],
)
def test_what_instances_call_the_endpoint(url, seen, host, port):
    endpoint = metrics_endpoint.parse(url)
    assert (endpoint.url, endpoint.host, endpoint.port) == (seen, host, port)
    assert f"{endpoint.name}:{port}" in seen


@pytest.mark.parametrize(
    "url", ["localhost:8086", "udp://localhost:8089", "http://", "http://localhost:many", "http://a..b"]
)
def test_what_is_no_endpoint(url):
    with pytest.raises(ValueError, match=r"URL|[Pp]ort|label"):
        metrics_endpoint.parse(url)
