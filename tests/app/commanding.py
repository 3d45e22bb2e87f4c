"""Commands run in this process, as a person types them."""

import json

from app import cli


def run(capsys, *arguments):
    """Return (exit code, stdout, stderr) of one command."""
    code = cli.main([str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    return code, out, err


def asked(capsys, *arguments):
    """Return the JSON of a command that must succeed."""
    code, out, err = run(capsys, *arguments, "--json")
    assert code == 0, err
    return json.loads(out)


def fails(capsys, *arguments):
    """Return the one line of a command that must fail as bad input does."""
    code, out, err = run(capsys, *arguments)
    assert code == 2 and out == "" and len(err.splitlines()) == 1 and err.startswith("hotbench: error: "), err
    return err
