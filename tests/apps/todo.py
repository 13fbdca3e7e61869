"""To-do lists: Flask-SQLAlchemy on an SQLite file, Flask-Login, two blueprints.

The fault: the query of the list takes half a second.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from flask import Blueprint, Flask, redirect, request, url_for
from flask_login import (
    LoginManager,
    UserMixin,
    current_user,
    login_required,
    login_user,
    logout_user,
)
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import event, func, select

from tests.apps.switch import fault

db: Any = SQLAlchemy()
login_manager = LoginManager()
auth = Blueprint("auth", __name__)
todos = Blueprint("todos", __name__, url_prefix="/todos")


class User(UserMixin, db.Model):  # type: ignore[misc]
    id = db.Column(db.Integer, primary_key=True)
    name = db.Column(db.String, unique=True, nullable=False)
    todos = db.relationship("Todo", back_populates="user")


class Todo(db.Model):  # type: ignore[misc]
    id = db.Column(db.Integer, primary_key=True)
    text = db.Column(db.String, nullable=False)
    done = db.Column(db.Boolean, default=False, nullable=False)
    user_id = db.Column(db.ForeignKey("user.id"), nullable=False)
    user = db.relationship("User", back_populates="todos")

    def as_json(self) -> dict[str, Any]:
        return {"id": self.id, "text": self.text, "done": self.done}


@login_manager.user_loader
def load_user(number: str) -> Any:
    return db.session.get(User, int(number))


@auth.post("/login")
def login() -> Any:
    query = select(User).where(User.name == request.form["name"])
    user = db.first_or_404(query)
    login_user(user)
    return redirect(url_for("todos.list_all"))


@auth.get("/logout")
@login_required
def logout() -> Any:
    logout_user()
    return "", 204


@todos.get("")
@login_required
def list_all() -> Any:
    if fault() == "slow":
        db.session.execute(select(func.pause(0.5)))
    query = select(Todo).where(Todo.user_id == current_user.id).limit(20)
    return [todo.as_json() for todo in db.session.scalars(query)]


@todos.post("")
@login_required
def add() -> Any:
    todo = Todo(text=request.json["text"], user=current_user)
    db.session.add(todo)
    db.session.commit()
    return todo.as_json(), 201


@todos.get("/<int:number>")
@login_required
def show(number: int) -> Any:
    return db.get_or_404(Todo, number).as_json()


@todos.post("/<int:number>/done")
@login_required
def finish(number: int) -> Any:
    todo = db.get_or_404(Todo, number)
    todo.done = True
    db.session.commit()
    return todo.as_json()


def create_app() -> Flask:
    app = Flask(__name__)
    file = Path(os.environ["DATA"], "todo.sqlite")
    app.config.update(SECRET_KEY="for tests", SQLALCHEMY_DATABASE_URI=f"sqlite:///{file}")
    db.init_app(app)
    login_manager.init_app(app)
    app.register_blueprint(auth)
    app.register_blueprint(todos)
    with app.app_context():
        event.listen(db.engine, "connect", _add_pause)
        db.create_all()
        if db.session.scalar(select(User)) is None:
            _fill()
        db.engine.dispose()  # a connection must not cross a fork
    return app


def _fill() -> None:
    ada = User(name="ada")
    texts = ("buy milk", "call Grace", "write")
    db.session.add_all(Todo(text=text, user=ada) for text in texts)
    db.session.commit()


def _add_pause(connection: Any, _record: object) -> None:
    connection.create_function("pause", 1, time.sleep)
