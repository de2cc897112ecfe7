"""Every stage is killed at random moments; the same command again ends as an undisturbed run does."""

import random

import pytest
from stages import STAGES, Stages


@pytest.fixture(scope="module")
def stages(tmp_path_factory):
    stages = Stages(tmp_path_factory.mktemp("crashes"))
    yield stages
    stages.server.kill()
    stages.server.wait()


def kill_and_finish(stages, stage, moments):
    """Kill a stage again and again, let it come to its end, and compare what it made; return the number of kills."""
    command, names = STAGES[stage]
    contents, seconds = stages.undisturbed(stage)
    for name in names:
        (stages.folder / name).unlink(missing_ok=True)  # an evaluation takes away what another drew
    if stage.startswith("evaluate"):  # the old results stay until the new ones are there
        (stages.folder / names[0]).write_text("old")
    killed = 0
    for moment in moments:
        killed += not stages.start(command, moment * seconds)
        for name in names:
            path = stages.folder / name
            if path.exists() and not (stage == "encode" or path.suffix in (".pth", ".jsonl") or "curve" in path.stem):
                assert path.read_bytes() in (contents[name], b"old"), name  # written whole or not at all
    assert stages.start(command)
    made = stages.contents(names)
    for name in names:
        assert made[name] == contents[name], name
    left = [path for name in names for path in (stages.folder / name).parent.glob(".*")]
    assert not left
    return killed


@pytest.mark.parametrize("stage", [stage for stage in STAGES if stage not in ("evaluate", "prepare_mnist")])
def test_a_stage_that_is_killed_goes_on(stages, stage):
    chance = random.Random(stage)
    assert any(kill_and_finish(stages, stage, [chance.random() * 0.8] * 2) for _ in range(3))


@pytest.mark.slow
@pytest.mark.pictures
@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_that_is_killed_twenty_times(stages, stage):
    """Once, and twice in a row."""
    chance = random.Random(stage)
    killed = rounds = 0
    while killed < 20 and rounds < 60:  # it may be done before its moment
        rounds += 1
        killed += kill_and_finish(stages, stage, [chance.random() for _ in range(1 + rounds % 3 // 2)])
    print(f"{stage}: {killed} kills in {rounds} rounds")
    assert killed >= 20
