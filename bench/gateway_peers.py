"""What W3 is compared with; each factory is run by its own server process.

Bodies come from the JSON file named by `W3_BODIES`: key `SYMBOL/TIMEFRAME` to the very
text that the gateway answers. FastAPI runs in an environment of its own.
"""

import json
import os
from collections import OrderedDict
from datetime import datetime
from pathlib import Path


def bodies() -> dict[str, bytes]:
    """Read the answers by key."""
    text = Path(os.environ["W3_BODIES"]).read_text(encoding="utf-8")
    return {key: body.encode() for key, body in json.loads(text).items()}


def bare_asgi():
    """The least an ASGI application can do: two messages from a dictionary."""
    prepared = {
        f"/p/{key}": (
            {
                "type": "http.response.start",
                "status": 200,
                "headers": [
                    (b"content-type", b"application/json"),
                    (b"content-length", str(len(body)).encode()),
                ],
            },
            {"type": "http.response.body", "body": body},
        )
        for key, body in bodies().items()
    }

    async def app(scope, receive, send):  # noqa: ARG001 - ASGI's signature
        if scope["type"] != "http":
            return
        start, body = prepared[scope["path"]]
        await send(start)
        await send(body)

    return app


def litestar_bytes():
    """A bare Litestar handler that returns bytes from a dictionary."""
    from litestar import Litestar, get

    kept = bodies()

    @get("/p/{symbol:str}/{timeframe:str}", media_type="application/json")
    async def read(symbol: str, timeframe: str) -> bytes:
        return kept[f"{symbol}/{timeframe}"]

    return Litestar([read], openapi_config=None, logging_config=None)


def fastapi_bytes():
    """FastAPI in front of an LRU of bytes."""
    from fastapi import FastAPI, Response

    app, source, lru = FastAPI(), bodies(), OrderedDict()

    @app.get("/p/{symbol}/{timeframe}")
    async def read(symbol: str, timeframe: str):
        key = f"{symbol}/{timeframe}"
        body = lru.get(key)
        if body is None:
            body = lru[key] = source[key]
            if len(lru) > 1024:
                lru.popitem(last=False)
        else:
            lru.move_to_end(key)
        return Response(content=body, media_type="application/json")

    return app


NEWEST = """
SELECT symbol, timeframe, model_name, model_version, generated_at,
       as_of, last_ts, last_close, target_ts, p10, p50, p90
FROM predictions WHERE symbol = $1 AND timeframe = $2 ORDER BY as_of DESC LIMIT 1
"""


def fastapi_postgres():
    """FastAPI, asyncpg and PostgreSQL: the newest row of a key, as a dict."""
    from contextlib import asynccontextmanager

    import asyncpg
    from fastapi import FastAPI

    @asynccontextmanager
    async def lifespan(app):
        app.state.pool = await asyncpg.create_pool(
            os.environ["W3_DSN"], min_size=8, max_size=8
        )
        yield
        await app.state.pool.close()

    app = FastAPI(lifespan=lifespan)

    @app.get("/p/{symbol}/{timeframe}")
    async def read(symbol: str, timeframe: str):
        return dict(await app.state.pool.fetchrow(NEWEST, symbol, timeframe))

    return app


CREATE = """
CREATE TABLE predictions (
    symbol text, timeframe text, model_name text, model_version text,
    generated_at timestamptz, as_of timestamptz, last_ts timestamptz,
    last_close float8, target_ts timestamptz[], p10 float8[], p50 float8[],
    p90 float8[]);
"""
TIMES = ("generated_at", "as_of", "last_ts")


async def fill_postgres(n_versions: int = 50) -> None:
    """Load every key with some history, newest last; index and analyse."""
    from datetime import timedelta

    import asyncpg

    names = CREATE.split("(", 1)[1].replace(");", "").split(",")
    columns = [name.split()[0] for name in names]
    rows = []
    for body in bodies().values():
        row = json.loads(body)
        row |= {name: datetime.fromisoformat(row[name]) for name in TIMES}
        row["target_ts"] = [datetime.fromisoformat(ts) for ts in row["target_ts"]]
        for age in range(n_versions):
            old = row | {"as_of": row["as_of"] - timedelta(hours=age)}
            rows.append(tuple(old[name] for name in columns))
    connection = await asyncpg.connect(os.environ["W3_DSN"])
    await connection.execute(CREATE)
    await connection.copy_records_to_table("predictions", records=rows, columns=columns)
    await connection.execute(
        "CREATE INDEX ON predictions (symbol, timeframe, as_of DESC); ANALYZE"
    )
    await connection.close()


if __name__ == "__main__":
    import asyncio

    asyncio.run(fill_postgres())
