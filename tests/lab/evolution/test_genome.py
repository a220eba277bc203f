import json

import numpy as np
import pytest

from lab.errors import EvolutionError
from lab.evolution.alphabet import COUNTS, ROLES, Choice, Range, Scope
from lab.evolution.breeding import draw_part, random_genome
from lab.evolution.genome import Genome, from_json, from_text, make_part
from lab.evolution.sleeve import GenomeSleeve, is_genome, sleeve_from
from lab.sleeves._base import Sleeve

SCOPE = Scope()


def genomes(count, seed=0):
    rng = np.random.default_rng(seed)
    return [random_genome(rng, SCOPE) for _ in range(count)]


def plain():
    return {
        "signals": [
            {
                "kind": "trend",
                "parameters": {
                    "lookback": 20,
                    "threshold": 0.5,
                    "weight": 1.0,
                },
            }
        ],
        "filters": [{"kind": "weekday", "parameters": {"day": 2}}],
        "sizing": {"kind": "equal", "parameters": {"cap": 0.2, "hold": 5}},
        "universe": {"kind": "all", "parameters": {}},
    }


def test_a_genome_and_its_text_are_each_other_exactly():
    for genome in genomes(300):
        again = from_text(genome.text)
        assert again == genome
        assert again.text == genome.text
        assert again.genome_id == genome.genome_id
        assert from_json(genome.to_json()) == genome


def test_every_kind_is_drawn_and_survives_its_text():
    rng = np.random.default_rng(3)
    for role, kinds in ROLES.items():
        for kind in kinds:
            parts = tuple(draw_part(role, kind, rng, SCOPE) for _ in range(20))
            assert {part.kind for part in parts} == {kind}
    drawn = {
        part.kind for one in genomes(300) for role in ROLES for part in one.parts(role)
    }
    assert drawn == {kind for kinds in ROLES.values() for kind in kinds}


def test_the_order_in_which_signals_are_written_does_not_matter():
    several = next(one for one in genomes(50) if len(one.signals) == 3)
    turned = Genome(
        several.signals[::-1], several.filters[::-1], several.sizing, several.universe
    )
    assert turned == several
    assert turned.genome_id == several.genome_id


def test_one_written_with_a_point_or_without_is_one_genome():
    content = plain()
    content["signals"][0]["parameters"]["weight"] = 1
    assert from_json(content).text == from_json(plain()).text


def test_two_genomes_have_one_id_only_if_they_are_equal():
    found = genomes(500)
    assert len({one.genome_id for one in found}) == len(set(found))
    assert genomes(1, seed=1)[0] != found[0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda g: g.pop("sizing"), "an object with exactly signals, filters"),
        (lambda g: g.update(signals=[]), r"0 signals: between 1 and 3"),
        (lambda g: g.update(signals={}), "signals: a list"),
        (lambda g: g["signals"].extend(g["signals"]), "two are the same"),
        (lambda g: g["filters"].extend(g["filters"] * 2), "3 filters: between 0 and 2"),
        (lambda g: g["filters"].extend(g["filters"]), "one of a kind"),
        (
            lambda g: g["sizing"].update(kind="kelly"),
            "sizing: kelly: one of equal, inv",
        ),
        (lambda g: g["sizing"].update(kind=7), "kind is a name"),
        (lambda g: g["sizing"].update(extra=7), "exactly kind, parameters"),
        (
            lambda g: g["sizing"]["parameters"].pop("cap"),
            "equal: parameters hold: exactly cap, hold",
        ),
        (
            lambda g: g["sizing"]["parameters"].update(hold=2.5),
            "hold = 2.5: a whole number",
        ),
        (
            lambda g: g["sizing"]["parameters"].update(hold=True),
            "hold = True: a whole number",
        ),
        (
            lambda g: g["sizing"]["parameters"].update(cap=1.5),
            r"cap = 1.5: between 0.05 and 1",
        ),
        (
            lambda g: g["sizing"]["parameters"].update(cap=0.12345),
            "at most 3 decimals",
        ),
        (
            lambda g: g["sizing"]["parameters"].update(cap=float("nan")),
            "cap = nan: a number",
        ),
        (
            lambda g: g.update(
                universe={"kind": "asset-class", "parameters": {"asset_class": "art"}}
            ),
            "asset_class = 'art': one of crypto, fx",
        ),
    ],
)
def test_what_is_no_genome_is_refused_in_one_clear_line(change, message):
    content = plain()
    change(content)
    with pytest.raises(EvolutionError, match=message) as caught:
        from_json(content)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "[]", "{", "7", '{"signals": []}'])
def test_a_text_that_is_no_genome_is_refused(text):
    with pytest.raises(EvolutionError, match="genome: "):
        from_text(text)


def test_a_sleeve_is_named_by_its_genome_and_found_by_its_configuration():
    for genome in genomes(20):
        sleeve = GenomeSleeve(genome)
        assert isinstance(sleeve, Sleeve)
        assert sleeve.sleeve_id == f"ga-{genome.genome_id[:8]}"
        assert sleeve_from(sleeve.configuration) == sleeve
        assert is_genome(sleeve.configuration)
        assert sleeve.content_hash == sleeve_from(sleeve.configuration).content_hash
        assert json.loads(sleeve.configuration)["parameters"] == genome.to_json()


def test_a_configuration_under_another_genomes_name_is_refused():
    first, second = (GenomeSleeve(one) for one in genomes(2))
    swapped = first.configuration.replace(first.sleeve_id, second.sleeve_id)
    with pytest.raises(EvolutionError, match=f"has the genome of {first.sleeve_id}"):
        sleeve_from(swapped)
    for text in ("", "{}", '{"sleeve": "phase37"}'):
        with pytest.raises(EvolutionError, match="configuration: "):
            sleeve_from(text)


def test_every_range_draws_and_varies_inside_itself():
    rng = np.random.default_rng(5)
    for kinds in ROLES.values():
        for declared in kinds.values():
            for one in declared.values():
                for _ in range(50):
                    value = one.draw(rng)
                    moved = one.vary(value, rng)
                    assert one.fault(value) is None
                    assert one.fault(moved) is None
                    assert moved != value


def test_a_log_range_draws_equal_ratios_equally_often():
    rng = np.random.default_rng(0)
    drawn = np.array([Range(1, 100, is_log=True).draw(rng) for _ in range(4000)])
    assert abs(np.mean(drawn < 10) - 0.5) < 0.03


def test_a_choice_of_one_stays():
    only = Choice(("fx",))
    assert only.vary("fx", np.random.default_rng(0)) == "fx"


def test_parts_of_a_role_are_as_many_as_declared():
    for genome in genomes(200):
        for role, (low, high) in COUNTS.items():
            assert low <= len(genome.parts(role)) <= high
    one = genomes(1)[0]
    with pytest.raises(EvolutionError, match="2 sizing: exactly 1"):
        one.with_parts("sizing", (one.sizing, make_part("equal", {})))
