"""Tickets of a help desk: Flask-RESTful with arguments, abort and errors of its own.

The fault: the view of a ticket's comments fails.
"""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Flask
from flask_restful import Api, Resource, abort, reqparse

from tests.apps.switch import fault

SUBJECTS = {1: "no sound", 2: "no picture"}

parser = reqparse.RequestParser()
parser.add_argument("subject", required=True, location="json")


class ClosedError(Exception):
    """The ticket is closed."""


ERRORS = {"ClosedError": {"message": "the ticket is closed", "status": 409}}


class Tickets(Resource):  # type: ignore[misc]
    def get(self) -> Any:
        return list(SUBJECTS.values())

    def post(self) -> Any:
        return parser.parse_args(), 201


class Ticket(Resource):  # type: ignore[misc]
    def get(self, number: int) -> Any:
        if number not in SUBJECTS:
            abort(404, message=f"ticket {number} is gone")
        return {"subject": SUBJECTS[number]}

    def put(self, number: int) -> Any:
        raise ClosedError


class Comments(Resource):  # type: ignore[misc]
    def get(self, number: int) -> Any:
        comments = None if fault() == "fail" else ["any news?"]
        return {"count": len(comments)}  # type: ignore[arg-type]


def create_app() -> Flask:
    app = Flask(__name__)
    blueprint = Blueprint("desk", __name__, url_prefix="/desk")
    api = Api(blueprint, errors=ERRORS)
    api.add_resource(Tickets, "/tickets")
    api.add_resource(Ticket, "/tickets/<int:number>")
    api.add_resource(Comments, "/tickets/<int:number>/comments")
    app.register_blueprint(blueprint)
    return app
