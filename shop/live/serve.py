"""The server, ``python -m shop serve``: the shop, with the monitor in the background."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from aiops_lab.checks import FieldError, check_number
from aiops_lab.detect.sensitivity import Sensitivity
from aiops_lab.record.store import SpanStore
from aiops_lab.respond.commands import responding, typed_response
from aiops_lab.show.access import Access, access_at, checked_url
from aiops_lab.show.news import tell_until
from aiops_lab.show.otlp import otlp_receiver
from aiops_lab.show.ports import HOST, check_port
from aiops_lab.show.stopping import Stop
from shop.live.running import Receiver, Shop, running
from shop.live.traffic import background

LINE = "=" * 70

HEAD = f"""{LINE}
AIOps Lab - Automatic Failure Detection & Root Cause Analysis
{LINE}

📊 Starting AIOps background analysis... (it compiles at the first start: some seconds more)"""

OTLP_LINE = """    POST /v1/traces                         - Take traces of other services (OTLP)
"""


def serve(
    port: int,
    services: str,
    db: str,
    *,
    interval_s: float,
    window_s: float,
    traffic: float,
    seed: int,
    otlp: bool = False,
    otlp_token: str | None = None,
    host: str = HOST,
    token: str | None = None,
    private: bool = False,
    public_url: str = "",
    notify: Iterable[str] = (),
    remedies: Iterable[str] = (),
    stop: Stop,
) -> int:
    """Serve the shop until `stop` is asked for; return the exit code.

    With `otlp` it takes traces of other services, too, from those who have the `otlp_token`, if
    any, or else the `token`. `host`, `token` and `private` are as for
    `aiops_lab.show.access.access_at`. `notify`, `remedies` and `public_url` are as for
    `aiops_lab.show.watch.watch`.
    """
    check_number("port", port, 0, 65_535)
    check_number("interval_s", interval_s, 0.001, 86_400)
    check_number("traffic", traffic, 0, 100_000)
    if otlp_token is not None and not otlp:
        raise FieldError("otlp_token", "must not be given without --otlp", "***")
    sensitivity = Sensitivity(window_s=window_s)
    public_url = checked_url(public_url)
    access = access_at(host, token, private, public_url)
    receiver = _receiver(access, otlp_token) if otlp else None
    response = typed_response(notify, remedies)
    check_port(port, host)
    _check_db(db)
    with ExitStack() as stack:
        if not stop.asked:
            print(HEAD, flush=True)
            shop = stack.enter_context(
                running(
                    services,
                    db,
                    sensitivity,
                    seed,
                    port,
                    interval_s,
                    receiver=receiver,
                    host=host,
                    access=access,
                )
            )
        if not stop.asked and traffic > 0:
            stack.enter_context(background(shop, traffic, seed))
        if not stop.asked:
            shown_url = public_url or _address(shop)
            stack.enter_context(responding(shop.monitor, response, shown_url))
            print(banner(shop, db, interval_s, window_s, traffic, otlp=otlp), flush=True)
            print("\n".join(response.lines()), flush=True)
            tell_until(stop, shop.monitor, shown_url, partial(print, flush=True))
    print("Stopped.", flush=True)
    return 0


def _receiver(access: Access, otlp_token: str | None) -> Receiver:
    """Return what takes spans of other services; on other addresses from those with a token."""
    token = access.token if otlp_token is None else otlp_token
    public_url = access.public_url
    return partial(otlp_receiver, token=token, hosts=access.hosts, public_url=public_url)


def _address(shop: Shop) -> str:
    return shop.url.replace("127.0.0.1", "localhost")


def _check_db(db: str) -> None:
    try:
        SpanStore(db).close()
    except OSError:
        rule = "must be a file that can be written to, in a folder that exists"
        raise FieldError("path", rule, db) from None


def banner(
    shop: Shop, db: str, interval_s: float, window_s: float, traffic: float, *, otlp: bool = False
) -> str:
    """Return the text that is printed when the server is ready."""
    receiver = OTLP_LINE * otlp
    customers = "none (--traffic RATE sends some)"
    if traffic > 0:
        customers = f"{traffic:g} requests/s of normal customers"
    business = []
    for each in shop.topology.endpoints:
        url = ""
        if each.service != "shop":
            url = shop.urls[each.service]
        business.append(f"    {each.method:<5}{url}{each.route}")
    address = _address(shop)
    return f"""✅ Background worker started (every {interval_s:g} s, windows of {window_s:g} s)

💾 Database:        {Path(db).absolute()}
👥 Traffic:         {customers}

🌐 Starting Flask server...
Available endpoints:
  Business endpoints:
{chr(10).join(business)}

  AIOps endpoints:
    GET  /aiops/metrics                     - View endpoint metrics
    GET  /aiops/incidents                   - View active incidents (?status=all)
    GET  /aiops/incidents/latest            - View the newest
    GET  /aiops/incidents/<id>              - View one
    GET  /aiops/incidents/<id>/explain      - Why? (?why_not=/health)
    POST /aiops/incidents/<id>/acknowledge  - Somebody is at it
    POST /aiops/incidents/<id>/resolve      - It is over (?accept=true: it is normal now)
    POST /aiops/incidents/<id>/undo         - It is not normal after all
    GET  /aiops/changes                     - What was deployed or set
    POST /aiops/changes                     - Note such a change (service, what)
    GET  /aiops/graph                       - Who calls whom
    POST /aiops/analyze                     - Trigger manual analysis
    GET  /aiops/openapi.json                - What all these take and answer
    GET  /metrics                           - For Prometheus
{receiver}
  Simulation endpoints:
    POST /simulate/delay   - Add latency (?endpoint=/payment&duration=1000)
    POST /simulate/error   - Inject errors (?endpoint=/payment&rate=0.5)
    POST /simulate/hang    - Stop answering (?endpoint=/payment)
    POST /simulate/clear   - Clear simulations
    GET  /simulate/status  - View config

{LINE}
🚀 Server running on {address}
👀 Live page, in a browser: {address}/
{LINE}
Ctrl-C stops it."""
