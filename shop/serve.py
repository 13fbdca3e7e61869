"""How does the shop run by itself? ``python -m shop serve``: until Ctrl-C, with the monitor in the background."""

from __future__ import annotations

import signal
import time
from contextlib import ExitStack
from pathlib import Path

from aiops_lab.faults import check_number
from aiops_lab.sensitivity import Sensitivity
from shop.live import Shop, running
from shop.traffic import background

LINE = "=" * 70


def serve(port: int, services: str, db: str, interval_s: float, window_s: float, traffic: float, seed: int) -> int:
    """Serve the shop until it is interrupted; return the exit code."""
    check_number("port", port, 0, 65_535)
    check_number("traffic", traffic, 0, 100_000)
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)  # stop as Ctrl-C does
    try:
        with ExitStack() as stack:
            print(f"{LINE}\nAIOps Lab - Automatic Failure Detection & Root Cause Analysis\n{LINE}\n")
            print("📊 Starting AIOps background analysis...")
            sensitivity = Sensitivity(window_s=window_s)
            shop = stack.enter_context(running(services, db, sensitivity, seed, port, interval_s))
            print(banner(shop, db, interval_s, window_s, traffic), flush=True)
            if traffic > 0:
                stack.enter_context(background(shop, traffic, seed))
            while True:
                time.sleep(3600)
    except KeyboardInterrupt:
        print("Stopped.", flush=True)
    finally:
        signal.signal(signal.SIGTERM, before)
    return 0


def banner(shop: Shop, db: str, interval_s: float, window_s: float, traffic: float) -> str:
    """Return what the server says when it is ready."""
    customers = f"{traffic:g} requests/s of normal customers" if traffic > 0 else "none (--traffic RATE sends some)"
    business = [
        f"    {e.method:<5}{shop.urls[e.service] * (e.service != 'shop')}{e.route}" for e in shop.topology.endpoints
    ]
    address = shop.url.replace("127.0.0.1", "localhost")
    return f"""✅ Background worker started (every {interval_s:g} s, windows of {window_s:g} s)

💾 Database:        {Path(db).absolute()}
👥 Traffic:         {customers}

🌐 Starting Flask server...
Available endpoints:
  Business endpoints:
{chr(10).join(business)}

  AIOps endpoints:
    GET  /aiops/metrics    - View endpoint metrics
    GET  /aiops/incidents  - View active incidents
    POST /aiops/analyze    - Trigger manual analysis

  Simulation endpoints:
    POST /simulate/delay   - Add latency
    POST /simulate/error   - Inject errors
    POST /simulate/hang    - Stop answering
    POST /simulate/clear   - Clear simulations
    GET  /simulate/status  - View config

{LINE}
🚀 Server running on {address}
{LINE}
Ctrl-C stops it."""
