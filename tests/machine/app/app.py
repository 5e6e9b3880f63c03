"""The middle one of three tiers: a page of rows that PostgreSQL keeps.

GET  /              the last rows and how many there are, as a page
POST /rows          with text=…: adds a row, and answers with its id once it is committed
GET  /rows?after=N  the rows after that id, one a line: id, tab, text
GET  /healthz       whether the database answers

DATABASE_URL says where it is; libpq takes the password from PGPASSWORD.
"""

import atexit
import html
import os
from urllib.parse import parse_qs

import psycopg
from psycopg_pool import ConnectionPool

LONGEST_TEXT = 1000

PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>Three tiers</title>
<h1>Rows: {count}</h1>
<p>from PostgreSQL at {host} ({address})
<ol reversed>
{rows}
</ol>
<form method="post" action="/rows"><input name="text" maxlength="1000" required> <button>Add</button></form>
"""


def make_table(connection):
    """Run for each new connection. Of several workers that come at once, one makes the table."""
    connection.autocommit = True
    if connection.execute("select to_regclass('rows') is null").fetchone()[0]:
        with connection.transaction():
            connection.execute("select pg_advisory_xact_lock(1)")
            connection.execute(
                "create table if not exists rows (id bigint generated always as identity primary key,"
                " text text not null, at timestamptz not null default now())"
            )
    connection.autocommit = False


# A connection is tried before it is handed out, and replaced when the database has gone since. Attempts to
# connect are given up after seconds, so that a request soon makes the next one: kept up, they would come at
# ever longer intervals.
pool = ConnectionPool(
    os.environ["DATABASE_URL"],
    min_size=1,
    max_size=4,
    timeout=5,
    reconnect_timeout=2,
    check=ConnectionPool.check_connection,
    configure=make_table,
    # A host that is gone answers nothing at all: wait seconds for it, not minutes.
    kwargs={"connect_timeout": 2, "tcp_user_timeout": 3000},
    open=True,
)
# Its threads would keep a worker from ending, until gunicorn kills it after graceful_timeout.
atexit.register(pool.close)


def page(connection):
    count, address = connection.execute("select count(*), host(inet_server_addr()) from rows").fetchone()
    last = connection.execute("select id, text from rows order by id desc limit 10").fetchall()
    rows = "\n".join(f'<li value="{number}">{html.escape(text)}' for number, text in last)
    return "200 OK", PAGE.format(count=count, host=connection.info.host, address=address, rows=rows)


def add(connection, text):
    [number] = connection.execute("insert into rows (text) values (%s) returning id", [text]).fetchone()
    return "303 See Other", f"{number}\n"


def rows(connection, after):
    found = connection.execute("select id, text from rows where id > %s order by id", [after])
    return "200 OK", "".join(f"{number}\t{' '.join(text.split())}\n" for number, text in found)


def health(connection):
    connection.execute("select 1")
    return "200 OK", "well\n"


def asked(environ):
    """What a request wants of a connection, or the answer to one that is wrong."""
    try:
        size = int(environ.get("CONTENT_LENGTH") or 0)
        fields = parse_qs(environ["wsgi.input"].read(min(size, 8 * LONGEST_TEXT)).decode())
        query = parse_qs(environ.get("QUERY_STRING", ""))
        match environ["REQUEST_METHOD"], environ["PATH_INFO"]:
            case ("GET" | "HEAD"), "/":
                return page, None
            case "POST", "/rows":
                text = fields.get("text", [""])[0].replace("\0", "")
                if not 0 < len(text) <= LONGEST_TEXT:
                    return None, ("400 Bad Request", f"text has to have 1 to {LONGEST_TEXT} characters\n")
                return lambda connection: add(connection, text), None
            case ("GET" | "HEAD"), "/rows":
                after = int(query.get("after", ["0"])[0])
                return lambda connection: rows(connection, after), None
            case ("GET" | "HEAD"), "/healthz":
                return health, None
    except ValueError as error:
        return None, ("400 Bad Request", f"{error}\n")
    return None, ("404 Not Found", "there is no such page\n")


def application(environ, start_response):
    """What gunicorn calls for each request."""
    work, answer = asked(environ)
    headers = []
    if work:
        try:
            # Leaving the block commits: what is answered after it is in the database.
            with pool.connection() as connection:
                answer = work(connection)
        except (psycopg.OperationalError, psycopg.InterfaceError) as error:
            reason = str(error).strip().splitlines() or ["no reason is given"]
            answer = "503 Service Unavailable", f"the database does not answer: {reason[0]}\n"
            headers.append(("Retry-After", "1"))
    status, text = answer
    body = text.encode()
    kind = "text/html" if work is page and status == "200 OK" else "text/plain"
    headers += [("Content-Type", f"{kind}; charset=utf-8"), ("Content-Length", str(len(body)))]
    if status.startswith("303"):
        headers.append(("Location", "/"))
    start_response(status, headers)
    return [b"" if environ["REQUEST_METHOD"] == "HEAD" else body]
