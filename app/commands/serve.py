"""`hotbench serve`: the page, in a browser."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from analyzer.errors import HotbenchError

if TYPE_CHECKING:
    from app.server import Server
    from app.terminal import Terminal

NAME = "serve"
HELP = "show the page: sessions in a browser, live jobs, one click"
_CHECKOUT = Path(__file__).resolve().parent.parent.parent


def configure(parser: argparse.ArgumentParser) -> None:
    """Add where to listen and whose code may run."""
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on; any but the loopback needs users")
    parser.add_argument("--port", type=_port, default=8050, help="port to listen on (default: 8050); 0: any free one")
    parser.add_argument(
        "--workloads",
        action="append",
        type=Path,
        metavar="DIR",
        help="a folder whose .py files may be run from the page; may be given again (default: the examples, if here)",
    )
    parser.add_argument("--login", action="store_true", help="ask for name and password on the loopback as well")
    parser.add_argument(
        "--trusted-host",
        action="append",
        default=[],
        metavar="NAME",
        help="a further name under which this server is reached, such as a proxy's; may be given again",
    )
    parser.add_argument("--open", action="store_true", help="open the page in a browser")
    parser.add_argument(
        "--example", action="store_true", help="profile the bundled example first, when the store holds no run"
    )


def run(options: argparse.Namespace) -> int:
    """Serve until SIGTERM or Ctrl-C."""
    from app.server import serve
    from app.terminal import Terminal
    from app.web.context import ServerSettings

    terminal = Terminal(options.json)
    settings = ServerSettings(
        store=options.store,
        workloads=_folders(options.workloads),
        host=options.host,
        port=options.port,
        trusted_hosts=tuple(options.trusted_host),
        login=options.login,
    )
    example = _example() if options.example else None

    def ready(server: Server, url: str) -> None:
        if example is not None:
            from app.first_start import submit_first_run

            submit_first_run(server.context, example)
        _tell(terminal, server, url)
        sys.stdout.flush()
        if options.open:
            import webbrowser

            webbrowser.open(url)

    serve(settings, ready)
    terminal.note("stopped")
    return 0


def _tell(terminal: Terminal, server: Server, url: str) -> None:
    from app.terminal import invocation, store_option

    settings = server.context.settings
    folders = ", ".join(str(folder) for folder in settings.workloads)
    data = {
        "url": url,
        "store": server.context.store.label,
        "workloads": [str(folder) for folder in settings.workloads],
        "login": server.context.login,
    }
    command = f"{invocation()} serve --workloads DIR{store_option(settings.store)}"
    terminal.result(
        data,
        f"Hotbench is at {url} (Ctrl-C stops it)",
        f"store      {server.context.store.label}",
        f"workloads  {folders or f'none: start with `{command}` to run your own from the page'}",
        f"login      {'needed' if server.context.login else 'none: whoever reaches this address may do everything'}",
    )


def _folders(given: list[Path] | None) -> tuple[Path, ...]:
    if given is None:
        examples = _CHECKOUT / "examples"
        return (examples,) if (examples / "lstm.py").is_file() else ()
    for folder in given:
        if not folder.is_dir():
            raise HotbenchError(f"--workloads {str(folder)!r} is no folder; name the one that holds your .py files")
    return tuple(dict.fromkeys(folder.resolve() for folder in given))


def _example() -> str:
    file = _CHECKOUT / "examples" / "lstm.py"
    if not file.is_file():
        raise HotbenchError("--example needs the examples folder of a checkout; profile your own workload instead")
    return f"{file}:workload"


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is no port; give a number from 0 to 65535")
    return int(text)
