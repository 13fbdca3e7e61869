"""A catalogue of books: Flask-RESTX with two namespaces and handlers for its errors.

The fault: POST of a book fails, GET of the same path does not.
"""

from __future__ import annotations

from typing import Any

from flask import Flask
from flask_restx import Api, Namespace, Resource, fields
from werkzeug.middleware.proxy_fix import ProxyFix

from tests.apps.switch import fault

BOOKS = {number: {"id": number, "title": f"Volume {number}"} for number in range(1, 6)}

books = Namespace("books", path="/books")
authors = Namespace("authors", path="/authors")
book = books.model(
    "Book", {"id": fields.Integer(readonly=True), "title": fields.String(required=True)}
)


class TakenError(Exception):
    """The title is taken."""


@books.errorhandler(TakenError)  # type: ignore[untyped-decorator]
def answer_taken(error: TakenError) -> Any:
    return {"message": str(error)}, 409


@books.route("")
class Books(Resource):  # type: ignore[misc]
    @books.marshal_list_with(book)  # type: ignore[untyped-decorator]
    def get(self) -> Any:
        return list(BOOKS.values())

    @books.expect(book, validate=True)  # type: ignore[untyped-decorator]
    @books.marshal_with(book, code=201)  # type: ignore[untyped-decorator]
    def post(self) -> Any:
        if fault() == "fail":
            raise KeyError("isbn")
        title = books.payload["title"]
        if title in [known["title"] for known in BOOKS.values()]:
            raise TakenError(title)
        return {"id": 0, "title": title}, 201


@books.route("/<int:number>")
class Book(Resource):  # type: ignore[misc]
    @books.marshal_with(book)  # type: ignore[untyped-decorator]
    def get(self, number: int) -> Any:
        return BOOKS.get(number) or books.abort(404, "no such book")

    def delete(self, number: int) -> Any:
        return "", 204


@authors.route("/<string:name>")
class Author(Resource):  # type: ignore[misc]
    def get(self, name: str) -> Any:
        return {"name": name}


def create_app() -> Flask:
    app = Flask(__name__)
    app.wsgi_app = ProxyFix(app.wsgi_app, x_prefix=1)  # type: ignore[method-assign]
    app.config["ERROR_INCLUDE_MESSAGE"] = False
    api = Api(app, prefix="/api", doc="/doc")
    api.add_namespace(books)
    api.add_namespace(authors)
    return app
