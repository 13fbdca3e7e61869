"""A library: class views in nested blueprints.

The fault: the view of a loan does not answer, or POST of a loan fails.
"""

from __future__ import annotations

import time
from typing import Any

from flask import Blueprint, Flask, abort, request, views

from tests.apps.switch import fault

PATIENCE_S = 60.0


class Loans(views.MethodView):
    def get(self) -> Any:
        return [1, 2, 3]

    def post(self) -> Any:
        if fault() == "fail":
            raise RuntimeError("no copy is left")
        return request.get_json(), 201


class Loan(views.MethodView):
    init_every_request = False

    def get(self, number: int) -> Any:
        deadline = time.monotonic() + PATIENCE_S
        while fault() == "hang" and time.monotonic() < deadline:
            time.sleep(0.05)
        return {"id": number}

    def delete(self, number: int) -> Any:
        return "", 204


class Members(views.View):
    methods = ["GET", "POST"]

    def dispatch_request(self) -> Any:
        return {"method": request.method}


class Member(views.View):
    def dispatch_request(self, name: str) -> Any:  # type: ignore[override]
        return {"name": name} if name == "ada" else abort(404)


def create_app() -> Flask:
    app = Flask(__name__)
    api = Blueprint("api", __name__, url_prefix="/api")
    first = Blueprint("first", __name__, url_prefix="/v1")
    loans = Blueprint("loans", __name__, url_prefix="/loans")
    members = Blueprint("members", __name__, url_prefix="/members")
    loans.add_url_rule("", view_func=Loans.as_view("all"))
    loans.add_url_rule("/<int:number>", view_func=Loan.as_view("one"))
    members.add_url_rule("", view_func=Members.as_view("all"))
    members.add_url_rule("/<name>", view_func=Member.as_view("one"))
    first.register_blueprint(loans)
    first.register_blueprint(members)
    api.register_blueprint(first)
    app.register_blueprint(api)
    return app
