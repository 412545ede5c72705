"""Every published form of MovieLens gives the same records; what is damaged is named."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from recloop.intake import DatasetError
from recloop.intake.movielens import read_movielens
from recloop.intake.movielens_layouts import GENRES

RATINGS = [(1, 10, 5, 881250949), (1, 20, 3, 881250950), (2, 10, 1, 891717742), (3, 30, 4, 878887116)]
FILMS = [
    (10, "Toy Story", "1995", ["Animation", "Children's", "Comedy"]),
    (20, "Café Noir, Le", "1999", ["Drama"]),
    (30, "Heat", "1995", ["Action", "Crime"]),
]
PEOPLE = [
    (1, 24, "M", "technician", "85711"),
    (2, 53, "F", "other", "V3N4P"),
    (3, 23, "M", "writer", "32067"),
]


def ml_100k(folder: Path) -> Path:
    (folder / "u.data").write_text("".join("\t".join(map(str, row)) + "\n" for row in RATINGS))
    films = [
        f"{number}|{title} ({year})|01-Jan-{year}||http://x|"
        + "|".join(str(int(g in genres)) for g in GENRES)
        for number, title, year, genres in FILMS
    ]
    (folder / "u.item").write_text("\n".join(films) + "\n", encoding="latin-1")
    (folder / "u.user").write_text("".join("|".join(map(str, row)) + "\n" for row in PEOPLE))
    return folder


def ml_1m(folder: Path) -> Path:
    (folder / "ratings.dat").write_text("".join("::".join(map(str, row)) + "\n" for row in RATINGS))
    films = [f"{n}::{title} ({year})::{'|'.join(genres)}" for n, title, year, genres in FILMS]
    (folder / "movies.dat").write_text("\n".join(films) + "\n", encoding="latin-1")
    (folder / "users.dat").write_text("1::M::25::17::85711\n2::F::50::0::V3N4P\n3::M::1::20::32067-1234\n")
    return folder


def ml_latest(folder: Path) -> Path:
    rows = "".join(",".join(map(str, row)) + "\r\n" for row in RATINGS)
    (folder / "ratings.csv").write_text("userId,movieId,rating,timestamp\r\n" + rows, newline="")
    films = [f'{n},"{title} ({year})",{"|".join(genres)}' for n, title, year, genres in FILMS]
    (folder / "movies.csv").write_text("movieId,title,genres\n" + "\n".join(films) + "\n")
    return folder


def recbole(folder: Path) -> Path:
    header = "user_id:token\titem_id:token\trating:float\ttimestamp:float\n"
    (folder / "ml.inter").write_text(header + "".join("\t".join(map(str, row)) + "\n" for row in RATINGS))
    header = "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq\n"
    films = [f"{n}\t{title}\t{year}\t{' '.join(genres)}\n" for n, title, year, genres in FILMS]
    (folder / "ml.item").write_text(header + "".join(films))
    header = "user_id:token\tage:token\tgender:token\toccupation:token\tzip_code:token\n"
    (folder / "ml.user").write_text(header + "".join("\t".join(map(str, row)) + "\n" for row in PEOPLE))
    return folder


FORMS = [ml_100k, ml_1m, ml_latest, recbole]


def records(folder: Path):
    source = read_movielens(folder)
    batches = list(source.batches())
    assert sum(map(len, batches)) == source.size
    fields = ("users", "items", "impressions", "events", "refused")
    return source, [[row for batch in batches for row in getattr(batch, name)] for name in fields]


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_ratings_and_titles(form, tmp_path):
    source, (_, items, impressions, events, refused) = records(form(tmp_path))
    assert refused == []
    assert {i.item_id: (i.title, i.category, i.attributes) for i in items} == {
        "i10": ("Toy Story (1995)", "Animation", {"genres": "Animation|Children's|Comedy", "year": 1995.0}),
        "i20": ("Café Noir, Le (1999)", "Drama", {"genres": "Drama", "year": 1999.0}),
        "i30": ("Heat (1995)", "Action", {"genres": "Action|Crime", "year": 1995.0}),
    }
    assert [(e.user_id, e.item_id, e.value, e.ts) for e in events] == [
        (f"u{u}", f"i{i}", float(r), t * 1_000_000) for u, i, r, t in sorted(RATINGS, key=lambda row: row[3])
    ]
    assert {e.kind for e in events} == {"rating"}
    assert [(s.request_id, s.user_id, s.item_id, s.ts) for s in impressions] == [
        (e.request_id, e.user_id, e.item_id, e.ts) for e in events
    ]
    assert {(s.position, s.propensity, s.policy, s.partial) for s in impressions} == {
        (0, None, "organic", False)
    }
    assert source.tables()["ratings"].kept == 4


@pytest.mark.parametrize("form", [ml_100k, recbole])
def test_people_keep_one_digit_of_their_zip_code(form, tmp_path):
    _, (users, *_) = records(form(tmp_path))
    assert [(u.user_id, u.age, u.sex, u.region, u.attributes) for u in users] == [
        ("u1", 24, "M", "8", {"occupation": "technician"}),
        ("u2", 53, "F", "other", {"occupation": "other"}),
        ("u3", 23, "M", "3", {"occupation": "writer"}),
    ]
    assert [u.created_at for u in users] == [881250949000000, 891717742000000, 878887116000000]


def test_recbole_also_calls_the_genres_genre(tmp_path):
    file = recbole(tmp_path) / "ml.item"
    file.write_text(file.read_text().replace("class:token_seq", "genre:token_seq"))
    _, (_, items, *_) = records(tmp_path)
    assert [i.category for i in items] == ["Animation", "Drama", "Action"]


def test_the_codes_of_ml_1m_are_spelt_out(tmp_path):
    _, (users, *_) = records(ml_1m(tmp_path))
    assert [(u.age, u.sex, u.region, u.attributes["occupation"]) for u in users] == [
        (25, "M", "8", "technician"),
        (50, "F", "other", "other"),
        (17, "M", "3", "writer"),
    ]


def test_without_a_users_file_the_ratings_name_the_people(tmp_path):
    source, (users, *_) = records(ml_latest(tmp_path))
    assert sorted(u.user_id for u in users) == ["u1", "u2", "u3"]
    assert {u.age for u in users} == {None}
    assert "users" not in source.tables()


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("1\t10\tgood\t881250951", "rating: no number from 0.5 to 5"),
        ("1\t10\t6\t881250951", "rating: no number from 0.5 to 5"),
        ("1\t10\tnan\t881250951", "rating: no number from 0.5 to 5"),
        ("1\t10\t4\tyesterday", "ts: no number from 0 to 4102444800"),
        ("1\t10\t4\t881250951000", "ts: no number from 0 to 4102444800"),
        ("1\t10\t4", "not 4 fields"),
        ("1\t10\t4\t881250951\t9", "not 4 fields"),
        ("", "not 4 fields"),
        ("1\t99\t4\t881250951", "item: not among the items kept"),
        ("9\t10\t4\t881250951", "user: not among the people kept"),
        ("1\t10\t5\t881250949", "user and item and ts: repeats an earlier row"),
        ("1 1\t10\t4\t881250951", "user: an identifier is 1 to 24 letters, digits or . _ : -"),
        ("\x00\x00\x00", "not 4 fields"),
    ],
)
def test_a_bad_rating_is_quarantined_and_the_rest_goes_on(line, reason, tmp_path):
    ml_100k(tmp_path)
    with (tmp_path / "u.data").open("a") as handle:
        handle.write(line + "\n")
    source, (*_, events, refused) = records(tmp_path)
    assert len(events) == 4
    assert [(row.source, row.kind, row.reason) for row in refused] == [("movielens", "ratings", reason)]
    assert refused[0].body == {"file": "u.data", "line": 5, "text": line}
    report = source.tables()["ratings"]
    assert (report.read, report.kept, report.quarantined, report.reasons) == (5, 4, 1, {reason: 1})


@pytest.mark.parametrize(
    ("file", "line", "reason"),
    [
        ("u.user", "4|200|M|writer|1", "age: no number from 0 to 120"),
        ("u.user", "4|20|?|writer|1", "sex: neither M nor F"),
        ("u.user", "1|20|M|writer|1", "user: repeats an earlier row"),
        ("u.item", "40|||||" + "|".join("0" * 19), "title: empty or above 500 characters"),
    ],
)
def test_a_bad_person_or_film_is_quarantined(file, line, reason, tmp_path):
    ml_100k(tmp_path)
    with (tmp_path / file).open("a") as handle:
        handle.write(line + "\n")
    _, (users, items, _, events, refused) = records(tmp_path)
    assert (len(users), len(items), len(events)) == (3, 3, 4)
    assert [row.reason for row in refused] == [reason]


def test_the_ratings_of_a_quarantined_person_go_with_them(tmp_path):
    ml_100k(tmp_path)
    (tmp_path / "u.user").write_text("1|24|M|technician|85711\n2|530|F|other|94043\n3|23|M|writer|32067\n")
    _, (users, _, _, events, refused) = records(tmp_path)
    assert {u.user_id for u in users} == {e.user_id for e in events} == {"u1", "u3"}
    assert [row.kind for row in refused] == ["users", "ratings"]


def remove(path: Path) -> None:
    path.unlink()


def empty(path: Path) -> None:
    path.write_bytes(b"")


def tear(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-3])


def only_header(path: Path) -> None:
    path.write_bytes(path.read_bytes().split(b"\n")[0] + b"\n")


def rename_columns(path: Path) -> None:
    path.write_bytes(b"a\tb\tc\td\te\n" + path.read_bytes().split(b"\n", 1)[1])


def garble(path: Path) -> None:
    path.write_bytes(b"\x00\xff\xfe" * 50 + b"\n")


@pytest.mark.parametrize("file", ["u.data", "u.item", "u.user"])
@pytest.mark.parametrize(
    ("damage", "says"),
    [(remove, "cannot read|looked for"), (empty, "is empty"), (tear, "truncated"), (garble, "none of")],
)
def test_a_damaged_file_is_named(file, damage, says, tmp_path):
    damage(ml_100k(tmp_path) / file)
    with pytest.raises(DatasetError, match=says) as caught:
        read_movielens(tmp_path)
    assert file in str(caught.value)
    assert str(tmp_path) in str(caught.value)


@pytest.mark.parametrize("file", ["ml.inter", "ml.item", "ml.user"])
@pytest.mark.parametrize(("damage", "says"), [(rename_columns, "has no column"), (only_header, "no rows")])
def test_another_header_is_named(file, damage, says, tmp_path):
    damage(recbole(tmp_path) / file)
    with pytest.raises(DatasetError, match=says) as caught:
        read_movielens(tmp_path)
    assert file in str(caught.value)


def test_a_missing_folder_or_another_dataset_says_what_was_looked_for(tmp_path):
    with pytest.raises(DatasetError, match="no folder"):
        read_movielens(tmp_path / "absent")
    (tmp_path / "men.csv").write_text("x\n")
    with pytest.raises(DatasetError, match=r"u\.data.*ratings\.dat.*ratings\.csv.*\.inter.*found men\.csv"):
        read_movielens(tmp_path)


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(noise=st.lists(st.binary(max_size=40), max_size=5))
def test_no_noise_crashes_the_reader_or_costs_a_good_row(noise, tmp_path):
    ml_100k(tmp_path)
    with (tmp_path / "u.data").open("ab") as handle:
        for line in noise:
            handle.write(line + b"\n")
    report = read_movielens(tmp_path).tables()["ratings"]
    assert report.kept >= 4
    assert report.read == report.kept + report.quarantined
    assert sum(report.reasons.values()) == report.quarantined
