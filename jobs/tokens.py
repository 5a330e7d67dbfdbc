"""Tokens of those who may call a served model.

python -m jobs.tokens add ward-3 --scopes predict,explain --days 90
"""

from typing import Annotated

import typer

from jobs.console import console, console_table, user_errors

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, no_args_is_help=True, help=(
    "The tokens of those who may call a served model: what each allows, and until when.\n\n"
    "A token is printed once; the file keeps only its hash. Running services read the file again when it changes: a "
    "revoked token is refused from its next call on. Callers send a token as the header Authorization: Bearer TOKEN."
))  # fmt: skip

Name = Annotated[str, typer.Argument(metavar="NAME", help="Who calls, for lists and the log of decisions.")]
TokenFileOption = Annotated[str, typer.Option("--file", envvar="ASSAY_TOKENS", help="File of the tokens; only its owner can read it.")]  # fmt: skip
Days = Annotated[float | None, typer.Option("--days", help="Days after which the token expires; never by default.")]
NewDays = Annotated[
    float | None,
    typer.Option(
        "--days",
        help="Days after which the new token expires; by default as many as the old one had, or never where that never does.",
    ),
]
Scopes = Annotated[str, typer.Option("--scopes", help="What the token allows, separated by commas: predict, explain, certify, or admin, which allows everything.")]  # fmt: skip
KeepHours = Annotated[float, typer.Option("--keep-hours", help="Hours for which the old token is accepted still.")]

FILE = "tokens.json"


@app.command()
def add(
    name: Name, scopes: Scopes = "predict,explain,certify", days: Days = None, file: TokenFileOption = FILE
) -> None:
    """Make a token and print it."""
    with user_errors():
        from serve.auth.tokens import add_token

        words = [word.strip() for word in scopes.split(",") if word.strip()]
        _print_token(add_token(file, name, scopes=words, days=days))
        _print_end(file, name)


@app.command()
def rotate(name: Name, keep_hours: KeepHours = 24.0, days: NewDays = None, file: TokenFileOption = FILE) -> None:
    """Make a new token for a caller and print it; the old one is accepted for a while."""
    with user_errors():
        from serve.auth.tokens import rotate_token

        _print_token(rotate_token(file, name, keep_hours=keep_hours, days=days))
        _print_end(file, name)


@app.command()
def revoke(name: Name, file: TokenFileOption = FILE) -> None:
    """Remove the tokens of a caller."""
    with user_errors():
        from serve.auth.tokens import revoke_token

        revoke_token(file, name)
        console.print(f"revoked: {name}", markup=False, highlight=False)


@app.command("list")
def list_tokens(file: TokenFileOption = FILE) -> None:
    """List the tokens: who has them, what they allow, and until when."""
    with user_errors():
        from datetime import UTC, datetime

        from serve.auth.tokens import read_tokens

        now = datetime.now(UTC)
        rows = [
            (
                one.name,
                ", ".join(one.scopes),
                one.created,
                ("" if one.is_valid(now) else "expired ") + (one.expires or "never"),
            )
            for one in read_tokens(file)
        ]
        console.print(console_table(["name", "allows", "made", "expires"], rows))


def _print_token(token: str) -> None:
    # Alone in its line, so that a shell can keep it: TOKEN=$(python -m jobs.tokens add …).
    console.print(token, markup=False, highlight=False, soft_wrap=True)


def _print_end(file: str, name: str) -> None:
    """Prints to standard error when the newest token of a caller expires."""
    from serve.auth.tokens import read_tokens

    newest = [one for one in read_tokens(file) if one.name == name][-1]
    typer.echo(f"expires: {newest.expires or 'never'}", err=True)


if __name__ == "__main__":
    app()
