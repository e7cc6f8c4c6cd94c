import httpx
import pytest

from tests.web.explorer.planted import Served


@pytest.fixture
def serve(tmp_path):
    """Serves ``tmp_path / "runs"``; gives the server, and a client of its API."""
    opened = []

    def make():
        (tmp_path / "runs").mkdir(exist_ok=True)
        served = Served(tmp_path / "runs")
        client = httpx.Client(base_url=f"{served.url}/api/v1", timeout=30)
        opened.append((served, client))
        return served, client

    yield make
    for served, client in opened:
        client.close()
        served.stop()
