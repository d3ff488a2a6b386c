"What reads bytes of strangers, fuzzed: only its own errors come out, in bounded memory and time."
import pytest
from fuzz.bombs import BOMBS, bombs
from fuzz.mutate import mutated
from fuzz.runner import CORPUS, MOST_MB, Child, seeds_of
from fuzz.targets import TARGETS

MUTATIONS = 40   # of each target; `scripts/fuzz` makes more


def told(answer, label):
    return f"{label}: {answer['defect']}\n{answer.get('trace', '')}"


@pytest.mark.slow
@pytest.mark.parametrize('name', TARGETS)
def test_only_own_errors_come_out(name):
    seeds = seeds_of(name)
    inputs = seeds | {f'mutation {n}': mutated([*seeds.values()], name, 'test', n) for n in range(MUTATIONS)}
    with Child(name) as child:
        for label, data in inputs.items():
            answer = child.run(data)
            assert not answer['defect'], told(answer, label)


@pytest.mark.slow
@pytest.mark.parametrize('name', [name for name in TARGETS if name in BOMBS])
def test_a_megabyte_is_no_bomb(name):
    with Child(name) as child:
        for label, data in bombs(name).items():
            assert len(data) < 1.01*(1 << 20), label
            answer = child.run(data)
            assert not answer['defect'], told(answer, label)


def test_what_a_defect_does_is_seen():
    with Child('probe') as child:
        assert not child.run(b'')['defect']
        assert child.run(b'x')['defect'].startswith('KeyError')
        assert child.run(b'memory')['peak_mb'] > MOST_MB and 'MB' in child.run(b'memory')['defect']
        assert child.run(b'room')['defect'].startswith('MemoryError')
        assert child.run(b'')['peak_mb'] < 10, 'an input pays for the one before'
        assert child.run(b'killed')['defect'] == 'ended by SIGSEGV'
        assert not child.run(b'')['defect'], 'it is started again'


def test_the_corpus_is_small_and_every_target_has_some():
    files = [file for file in CORPUS.rglob('*') if file.is_file()]
    assert sum(file.stat().st_size for file in files) < 200_000
    assert {file.parent.name for file in files} == {*TARGETS}


def test_a_mutation_depends_on_its_name_alone():
    seeds = [*seeds_of('driver_message').values()]
    once = [mutated(seeds, 'a', n) for n in range(50)]
    assert [mutated(seeds, 'a', n) for n in reversed(range(50))] == once[::-1]
    assert len({*once}) > 40
