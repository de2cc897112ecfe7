"""The scripts, run as a user would run them."""

import json
import shutil

import h5py
import numpy as np
import pytest
import torch
from conftest import GOLDEN, QUICK, REPOSITORY, quick
from equihash._checksum import checksums

from equihash.datasets import MnistMosaic, ProceduralDatabase
from equihash.datasets.procedural import ENCODING_SEED
from equihash.fingerprints import job_range
from equihash.models import MnistMosaicCNN
from equihash.search import InvertedIndex
from equihash.state import load_state

LABELS = "generate_labels.py FastMnistMosaic {} -b40 -d{} -p300 -n300 -t200 -m 1 2"
TRAIN = ["train.py", "FastMnistMosaic", "HashNet", *quick()]


def folder_of(workspace, database, model="HashNet", name="main"):
    return workspace.experiments / "FastMnistMosaic" / model / name / "current" / f"test_{database}"


def contents(path):
    with h5py.File(path) as file:
        return {name: file[name][()] for name in file}


@pytest.fixture(scope="module")
def trained(shared_workspace):
    """A network that was trained for a moment, and the labels of 3,210 items."""
    shared_workspace.check(TRAIN)
    shared_workspace.check("generate_labels.py FastMnistMosaic DB -b10000 -d3210 -p300 -n300 -t200 -m 2 2")
    return shared_workspace


@pytest.fixture(scope="module")
def encoded(trained):
    trained.check("encode.py FastMnistMosaic DB HashNet -d cpu --build_index")
    return trained


def test_the_share_of_irrelevant_pairs_that_collide_in_a_prefix(trained):
    """Of few classes, where relevant items are not a negligible part; against all pairs."""
    trained.check("generate_labels.py FastMnistMosaic FEW -b2 -d2500 -p9 -n0 -t100 -m 2 2")
    trained.check("evaluate_binary_equihash.py FastMnistMosaic FEW HashNet -d cpu --encode")
    folder = folder_of(trained, "FEW")
    labels = contents(trained.folder / "data" / "labels" / "FastMnistMosaic" / "FEW.hdf5")
    codes, queries = (
        contents(folder / f"{name}_fingerprints.hdf5")["codes"] for name in ("database", "positive_queries")
    )
    same_class = (labels["positive_queries"][:, None] == labels["database"][None]).all(axis=(2, 3))
    collides = (queries[:, None] == codes[None]).all(axis=2)
    sizes = json.loads((folder / "results.json").read_text())["database_sizes"]
    assert list(sizes) == ["1000", "2500"]
    for size, part in sizes.items():
        here = np.s_[:, : int(size)]
        rate = part["lookups"]["1"]["with_relevant"]["irrelevant_pair_rate"]
        assert rate == pytest.approx(collides[here][~same_class[here]].mean())


@pytest.mark.parametrize("nb_jobs", [2, 3, 7, 11])
def test_shards_merge_to_the_unsharded_codes(encoded, nb_jobs):
    folder = folder_of(encoded, "DB")
    whole = contents(folder / "database_fingerprints.hdf5")
    index = (folder / "inverted_index.bin").read_bytes()
    assert whole["codes"].shape == (3210, 2) and whole["size"].tolist() == [3210]
    for name in ("database_fingerprints.hdf5", "inverted_index.bin"):
        (folder / name).unlink()
    for job in reversed(range(nb_jobs)):
        encoded.check(f"encode.py FastMnistMosaic DB HashNet -d cpu --job_id {job} --nb_jobs {nb_jobs}")
        assert (folder / f"database_fingerprints_{job}_{nb_jobs}.hdf5").is_file()
    encoded.check(f"merge.py FastMnistMosaic DB HashNet --nb_jobs {nb_jobs} --build_index")
    merged = contents(folder / "database_fingerprints.hdf5")
    assert all(np.array_equal(merged[key], whole[key]) for key in whole)
    assert (folder / "inverted_index.bin").read_bytes() == index


@pytest.mark.parametrize("size", [0, 1, 499, 500, 501, 12_345, 10**9])
@pytest.mark.parametrize("nb_jobs", [1, 2, 3, 10, 64])
def test_jobs_cover_the_database_in_whole_chunks(size, nb_jobs):
    ranges = [job_range(size, job, nb_jobs) for job in range(nb_jobs)]
    assert ranges[0][0] == 0 and ranges[-1][1] == size
    assert all(last == first for (_, last), (first, _) in zip(ranges, ranges[1:]))
    assert all(first % 500 == 0 or first == size for first, _ in ranges)
    sizes = [last - first for first, last in ranges]
    assert max(sizes) - min(sizes) < 1000


def test_the_codes_are_those_of_the_procedural_mosaics(encoded):
    state = torch.load(folder_of(encoded, "DB").parent / "state.pth", weights_only=True)
    network = MnistMosaicCNN(k=16).eval()
    network.load_state_dict(state["net"])
    with h5py.File(encoded.folder / "data/labels/FastMnistMosaic/DB.hdf5") as file:
        labels = {name: file[name][:] for name in file}
    with encoded.inside():
        loader = MnistMosaic("data/datasets/Mnist/mnist.hdf5", which="test")
    for name, part in (("database", "database"), ("positive_queries",) * 2, ("negative_queries",) * 2):
        made = contents(folder_of(encoded, "DB") / f"{part}_fingerprints.hdf5")
        items = ProceduralDatabase(labels[name], loader, ENCODING_SEED)[[0, 7, 299]]
        with torch.no_grad():
            logits = network(items).numpy()
        assert np.array_equal(made["codes"][[0, 7, 299]], np.packbits(logits > 0, axis=1))
    kept = contents(folder_of(encoded, "DB") / "positive_queries_logits.hdf5")["logits"]
    assert kept.dtype == np.float32 and kept.shape == (300, 16)
    codes = contents(folder_of(encoded, "DB") / "positive_queries_fingerprints.hdf5")["codes"]
    assert np.array_equal(np.packbits(kept > 0, axis=1), codes)
    triplets = contents(folder_of(encoded, "DB") / "hinge_triplets_fingerprints.hdf5")
    assert triplets["codes"].shape == (200, 3, 2) and triplets["size"].tolist() == [200]


def test_an_interrupted_encoding_goes_on(encoded, monkeypatch):
    chunk, made = ProceduralDatabase.chunk, []
    monkeypatch.setattr(ProceduralDatabase, "chunk", lambda items, number: made.append(number) or chunk(items, number))
    path = folder_of(encoded, "DB") / "database_fingerprints.hdf5"
    whole = path.read_bytes()
    with h5py.File(path, "r+") as file:
        file["size"][0] = 1300
        file["codes"][1300:] = 0
    encoded.refuse("evaluate_binary_equihash.py FastMnistMosaic DB HashNet", "unfinished (1300 of 3210", "encode.py")
    encoded.check("encode.py FastMnistMosaic DB HashNet -d cpu --flush_freq 1")
    assert path.read_bytes() == whole and sorted(made) == [2, 3, 4, 5, 6]
    made.clear()
    triplets = folder_of(encoded, "DB") / "hinge_triplets_fingerprints.hdf5"
    whole = triplets.read_bytes()
    with h5py.File(triplets, "r+") as file:
        file["size"][0] = 170
        file["codes"][170:] = 0
    encoded.check("encode.py FastMnistMosaic DB HashNet -d cpu")
    assert triplets.read_bytes() == whole and made == [1]


@pytest.mark.pictures
def test_evaluation_prints_a_table_and_writes_results_and_pictures(encoded):
    output = encoded.check("evaluate_binary_equihash.py FastMnistMosaic DB HashNet --nb_lookups 1 8")
    assert "PRR" in output and "main, 1 lookup" in output and "main, 8 lookups" in output
    assert max(map(len, output.splitlines()[1:])) <= 110
    folder = folder_of(encoded, "DB")
    results = encoded.json(folder / "results.json")
    assert results["database_size"] == 3210 and set(results["lookups"]) == {"1", "8"}
    golden = encoded.json(GOLDEN / "checkpoint" / "results.json")
    assert set(golden) - {"generate_labels_args"} <= set(results)
    assert set(results["intervals"]) >= {"recall", "irrelevant_collision_rate", "recall_at_hamming"}
    assert results["lookups"]["8"]["recall"] >= results["lookups"]["1"]["recall"] == results["recall"]
    sizes = results["database_sizes"]
    assert list(sizes) == ["1000", "3210"] and 0 < sizes["1000"]["nb_positive_queries"] < 300
    assert sizes["3210"]["lookups"]["8"]["recall"] == results["lookups"]["8"]["recall"]
    assert sum(results["set_sizes"]["lookups"]["8"]["negative"]) == sum(results["set_sizes"]["relevant"]) == 300
    for name in ("hamming_distances.png", "gallery.png", "lookups.png", "set_sizes.png", "database_sizes.png"):
        assert (folder / name).read_bytes().startswith(b"\x89PNG")
    output = encoded.check("evaluate_binary_equihash.py FastMnistMosaic DB HashNet --no_queries")
    assert "recall" not in encoded.json(folder / "results.json")


def test_an_index_in_shards_gives_the_same_results(encoded):
    """Build and count each of 4 shards alone; the sum gives the same numbers and the same table."""
    folder = folder_of(encoded, "DB")
    build = "build_index.py FastMnistMosaic DB HashNet"
    evaluate = "evaluate_binary_equihash.py FastMnistMosaic DB HashNet"
    whole = encoded.check(f"{evaluate} --nb_lookups 1 16")
    expected = (folder / "results.json").read_text()
    assert '"1000": {' in expected  # the first 1,000 items are counted in each shard, too
    (folder / "results.json").unlink()
    index = (folder / "inverted_index.bin").rename(folder / "elsewhere")

    shards = [f"--shard {shard} --nb_shards 4" for shard in range(4)]
    encoded.refuse(f"{evaluate} {shards[2]}", "inverted_index_2_4.bin", f"{build} --shard 2 --nb_shards 4")
    sizes = []
    for shard in shards:
        output = encoded.check(f"{build} {shard}")
        sizes.append(int(output.split(" fingerprints indexed")[0].replace(",", "")))
        assert "already" in encoded.check(f"{build} {shard} --memory_limit 1M")
        assert "PRR" not in encoded.check(f"{evaluate} {shard} --nb_lookups 16")
    assert sum(sizes) == 3210 and min(sizes) > 0
    output = encoded.check(f"{evaluate} --nb_shards 4 --nb_lookups 1 16")
    assert (folder / "results.json").read_text() == expected
    assert (folder / "database_sizes.png").is_file() and not (folder / "gallery.png").exists()
    assert "<table>" in (folder / "report.html").read_text()
    assert output.splitlines()[1:] == whole.splitlines()[1:]
    index.rename(folder / "inverted_index.bin")

    encoded.refuse(f"{evaluate} --nb_shards 3", "counts_0_3.hdf5", f"{evaluate} --shard 0 --nb_shards 3 --nb_lookups 1")
    words = "no counts of 8 lookups", f"{shards[0]} --nb_lookups 1 8"
    encoded.refuse(f"{evaluate} --nb_shards 4 --nb_lookups 8", *words)
    shard = folder / "counts_2_4.hdf5"
    encoded.check(f"{evaluate} {shards[2]} --no_queries")
    encoded.refuse(f"{evaluate} --nb_shards 4", "counts_2_4.hdf5 has no counts", shards[2])
    damaged = bytearray(shard.read_bytes())
    shutil.copy(folder / "counts_1_4.hdf5", shard)
    encoded.refuse(f"{evaluate} --nb_shards 4 --no_queries", "counts_2_4.hdf5 is of other fingerprints", shards[2])
    damaged[100:110] = b"?" * 10
    shard.write_bytes(damaged)
    encoded.refuse(f"{evaluate} --nb_shards 4", "counts_2_4.hdf5", shards[2])
    shard.unlink()
    encoded.refuse(f"{evaluate} --nb_shards 4", "counts_2_4.hdf5 does not exist", shards[2])
    shutil.copy(folder / "inverted_index_1_4.bin", folder / "inverted_index_2_4.bin")
    encoded.refuse(f"{evaluate} {shards[2]}", "inverted_index_2_4.bin", "build_index.py")


def test_the_published_numbers(workspace):
    """Fingerprints of the published code give the published results, exactly."""
    folder = folder_of(workspace, "GOLD", "ShannonHamming")
    folder.mkdir(parents=True)
    for name in ("database", "positive_queries", "negative_queries", "hinge_triplets"):
        shutil.copy(GOLDEN / "checkpoint" / f"{name}_fingerprints.hdf5", folder)
    shutil.copy(GOLDEN / "checkpoint" / "state.pth", folder.parent)
    labels = workspace.folder / "data" / "labels" / "FastMnistMosaic" / "GOLD.hdf5"
    workspace.check("generate_labels.py FastMnistMosaic GOLD -b12 -d20000 -p2000 -n2000 -t2000 -m 2 2 -s 11")
    made, published = contents(labels), contents(GOLDEN / "checkpoint" / "labels.hdf5")
    assert all(np.array_equal(made[key], published[key]) for key in published)
    for source in (labels, GOLDEN / "checkpoint" / "labels.hdf5"):  # with and without ground truth in the file
        if source != labels:
            shutil.copy(source, labels)
        workspace.check("build_index.py FastMnistMosaic GOLD ShannonHamming")
        workspace.check("evaluate_binary_equihash.py FastMnistMosaic GOLD ShannonHamming")
        results = workspace.json(folder / "results.json")
        for key, value in workspace.json(GOLDEN / "checkpoint" / "results.json").items():
            if key == "generate_labels_args":
                continue
            if isinstance(value, (str, int)):
                assert results[key] == value, key
            else:
                np.testing.assert_allclose(results[key], value, atol=5.1e-5, err_msg=key)  # rounded to 4 digits


def test_the_published_fingerprints():
    labels = contents(GOLDEN / "checkpoint" / "labels.hdf5")
    state = load_state(GOLDEN / "checkpoint" / "state.pth")
    network = MnistMosaicCNN()
    network.load_state_dict(state["net"])
    network.eval()
    loader = MnistMosaic(REPOSITORY / "data/datasets/Mnist/mnist.hdf5", which="test")
    for name, items in (("database", 4000), ("positive_queries", 2000), ("negative_queries", 2000)):
        database = ProceduralDatabase(labels[name], loader, ENCODING_SEED)
        with torch.no_grad():
            logits = torch.cat([network(database.chunk(number)) for number in range(items // 500)])
        codes = np.packbits((logits > 0).numpy(), axis=1)
        published = contents(GOLDEN / "checkpoint" / f"{name}_fingerprints.hdf5")["codes"][:items]
        assert (codes == published).all(axis=1).mean() >= 0.999


def test_variants_evaluate_together_and_after_training(workspace):
    words = ["-a", *QUICK, "nb_steps:2"]
    workspace.check(LABELS.format("TINY", 600).replace("-m 1 2", "-m 2 2"))
    for row in (0, 5):
        command = [
            "train.py",
            "FastMnistMosaic",
            "ShannonHamming",
            "-v",
            "lambda_ablation",
            "-i",
            row,
            "-e",
            "-d",
            "cpu",
        ]
        output = workspace.check([*command, "--database_name", "TINY", *words])
        assert "PRR" in output
    assert (folder_of(workspace, "TINY", "ShannonHamming", "s3210_l0.006") / "results.json").is_file()
    command = "evaluate_binary_equihash.py FastMnistMosaic TINY ShannonHamming -v lambda_ablation"
    output = workspace.check(f"{command} -i all")
    assert "s3210_l0.005, 1 lookup" in output and "s3210_l0.006, 1 lookup" in output
    assert output.count("left out, not trained") == 53 and "ShannonHamming -v lambda_ablation -i 1\n" in output
    folder_of(workspace, "TINY", "ShannonHamming", "s3210_l0.005").rename(workspace.folder / "elsewhere")
    output = workspace.check(f"{command} -i all")
    assert "s3210_l0.006, 1 lookup" in output and "s3210_l0.005, 1 lookup" not in output
    remedy = "encode.py FastMnistMosaic TINY ShannonHamming -v lambda_ablation -i 0 --build_index"
    assert f"left out, not encoded: python {remedy}\n" in output
    workspace.refuse(
        f"{command} -i 7", "s3212_l0.006", "train.py FastMnistMosaic ShannonHamming -v lambda_ablation -i 7"
    )


def test_kld_ablation_of_the_docs(workspace, tmp_path):
    """ "Expanding our work": a new variant table with trainer_kwargs:loss_kwargs:kld_coeff."""
    configs = workspace.folder / "configs"
    source = configs.resolve()
    configs.unlink()
    shutil.copytree(source, configs)
    table = configs / "FastMnistMosaic" / "JMLH" / "kld_ablation.json"
    table.write_text('[["name", "trainer_kwargs:loss_kwargs:kld_coeff"], ["kld0.2", 0.2]]')
    workspace.check(["train.py", "FastMnistMosaic", "JMLH", "-v", "kld_ablation", "-i0", *quick()])
    state = workspace.state("JMLH", "kld0.2")
    assert state["config"]["trainer_kwargs"]["loss_kwargs"]["kld_coeff"] == 0.2


ENCODE = "encode.py FastMnistMosaic DB HashNet -d cpu"


@pytest.mark.parametrize(
    "command, words",
    [
        ("train.py FastMnistMosaik HashNet", ["unknown task", "'FastMnistMosaic'"]),
        ("train.py FastMnistMosaic HashNett", ["unknown model", "'HashNet'"]),
        ("train.py FastMnistMosaic HashNet -v alpha_ablatio -i 0", ["unknown variant", "'alpha_ablation'"]),
        ("train.py FastMnistMosaic HashNet -v alpha_ablation -i 50", ["rows 0 to 49"]),
        ("train.py FastMnistMosaic HashNet -v alpha_ablation -i -1", ["rows 0 to 49"]),
        ("train.py FastMnistMosaic HashNet -v alpha_ablation", ["choose a row with -i/--variant_id, 0 to 49"]),
        ("train.py FastMnistMosaic HashNet -i 0", ["name the table with -v/--variant"]),
        ("train.py FastMnistMosaic HashNet -a trainer_kwargs:alpa:0.2", ["unknown key", "'alpha'"]),
        ("train.py FastMnistMosaic HashNet -a trainer_kwargs:alpha:big", ["must be float"]),
        ("train.py FastMnistMosaic HashNet --no_load -a loader_kwargs:path:no.hdf5", ["no.hdf5", "prepare_data.py"]),
        ("train.py FastMnistMosaic HashNet -d gpu", ["unknown device", "cuda"]),
        ("train.py FastMnistMosaic HashNet --database_name NONE", ["NONE.hdf5", "generate_labels.py"]),
        ("train.py FastMnistMosaic HashNet -l 77", ["checkpoint77", "train"]),
        ("train.py FastMnistMosaic", ["model"]),
        (f"{ENCODE} --job_id 3 --nb_jobs 3", ["0 to 2"]),
        (f"{ENCODE} --job_id -1 --nb_jobs 3", ["0 to 2"]),
        (f"{ENCODE} --nb_jobs 3", ["nb_jobs 3 needs job_id 0 to 2"]),
        ("encode.py FastMnistMosaic DB JMLH", ["state.pth", "python train.py FastMnistMosaic JMLH"]),
        ("encode.py FastMnistMosaic NODB HashNet -d cpu", ["NODB.hdf5", "python generate_labels.py FastMnistMosaic"]),
        (f"{ENCODE} --precision bfloat16", ["precision float32, not bfloat16", "use precision float32"]),
        ("merge.py FastMnistMosaic DB HashNet --nb_jobs 5", ["_0_5.hdf5", "encode.py", "--job_id 0 --nb_jobs 5"]),
        ("build_index.py FastMnistMosaic DB2 HashNet", ["encode.py"]),
        ("build_index.py FastMnistMosaic DB HashNet --memory_limit 16", ["--memory_limit", "16G"]),
        ("evaluate_binary_equihash.py FastMnistMosaic DB2 HashNet", ["encode.py"]),
        ("evaluate_binary_equihash.py FastMnistMosaic DB HashNet -i all", ["-v/--variant"]),
        ("evaluate_binary_equihash.py FastMnistMosaic DB HashNet -l 77", ["checkpoint77", "train.py", "-p 77"]),
        ("evaluate_binary_equihash.py FastMnistMosaic DB HashNet --nb_lookups 0", ["--nb_lookups"]),
        ("evaluate_binary_equihash.py FastMnistMosaic DB HashNet --nb_lookups 65537", ["16 bits allow at most 65536"]),
        ("evaluate_binary_equihash.py FastMnistMosaic DB HashNet --shard 1", ["--shard must be 0 to 0"]),
        ("evaluate_binary_equihash.py FastMnistMosaic DB HashNet --nb_shards 2 -e", ["--encode", "build_index.py"]),
        ("build_index.py FastMnistMosaic DB HashNet --nb_shards 2", ["--shard 0 to 1"]),
        ("build_index.py FastMnistMosaic DB HashNet --shard 4 --nb_shards 4", ["--shard must be 0 to 3"]),
        ("build_index.py FastMnistMosaic DB HashNet --nb_shards 0", ["--nb_shards must be at least 1"]),
        ("generate_labels.py FastMnistMosaic DB -b40 -d9 -p1 -n1 -t1 -m 1 2", ["exists", "--force"]),
        ("generate_labels.py FastMnistMosaic DB3 -b40 -d0 -p1 -n1 -t1 -m 1 2", ["database_size must be at least 1"]),
        ("generate_labels.py FastMnistMosaic DB3 -b40 -d9 -p1 -n1 -t1 -m 0 2", ["mosaic_shape must be at least 1 1"]),
        ("generate_labels.py FastMnistMosaic DB3 -b40 -d9 -p1 -n1 -t1 -m 1 2 -s -1", ["seed 0 to"]),
        ("generate_labels.py FastMnistMosaik DB3 -b40 -d9 -p1 -n1 -t1 -m 1 2", ["unknown task"]),
    ],
)
def test_wrong_input_ends_in_one_clear_line(encoded, command, words):
    labels = encoded.folder / "data" / "labels" / "FastMnistMosaic"
    if not (labels / "DB2.hdf5").exists():
        shutil.copy(labels / "DB.hdf5", labels / "DB2.hdf5")
    encoded.refuse(command, *words)


def test_stale_and_unfinished_files_are_noticed(trained):
    """A shard is unfinished; then labels and weights change under the fingerprints."""
    trained.check("generate_labels.py FastMnistMosaic STALE -b10000 -d1200 -p50 -n50 -t50 -m 2 2")
    for job in (0, 1):
        trained.check(f"encode.py FastMnistMosaic STALE HashNet -d cpu -j {job} -n 2")
    shard = folder_of(trained, "STALE") / "database_fingerprints_1_2.hdf5"
    with h5py.File(shard, "r+") as file:
        file["size"][0] = 100
    merge = "merge.py FastMnistMosaic STALE HashNet --nb_jobs 2 --build_index"
    trained.refuse(merge, "_1_2.hdf5", "unfinished (100 of", "--job_id 1 --nb_jobs 2")
    trained.check("encode.py FastMnistMosaic STALE HashNet -d cpu -j 1 -n 2")
    trained.check(merge)
    assert "already" in trained.check(merge)
    trained.check("evaluate_binary_equihash.py FastMnistMosaic STALE HashNet")

    trained.check("generate_labels.py FastMnistMosaic STALE -b10000 -d1200 -p50 -n50 -t50 -m 2 2 -s 5 --force")
    trained.refuse("evaluate_binary_equihash.py FastMnistMosaic STALE HashNet", "labels", "encode.py")
    trained.check("encode.py FastMnistMosaic STALE HashNet -d cpu")
    trained.refuse("evaluate_binary_equihash.py FastMnistMosaic STALE HashNet", "other fingerprints", "build_index.py")
    trained.check("build_index.py FastMnistMosaic STALE HashNet")
    trained.check("evaluate_binary_equihash.py FastMnistMosaic STALE HashNet")

    state = trained.experiments / "FastMnistMosaic" / "HashNet" / "main" / "current" / "state.pth"
    before = state.read_bytes()
    trained.check([*TRAIN, "nb_steps:5"])
    trained.refuse("build_index.py FastMnistMosaic STALE HashNet", "weights", "encode.py")
    trained.refuse(merge, "weights", "encode.py")
    state.write_bytes(before)


def test_labels_that_do_not_fit_the_data(trained):
    trained.check("generate_labels.py FastMnistMosaic WIDE -b100 -d100 -p5 -n5 -t5 -m 1 2")
    trained.refuse("encode.py FastMnistMosaic WIDE HashNet -d cpu", "(1, 2)", "(2, 2)")
    trained.check("generate_labels.py FastMnistMosaic BIG -b10001 -d100 -p5 -n5 -t5 -m 2 2")
    trained.refuse("encode.py FastMnistMosaic BIG HashNet -d cpu", "10001", "10000")


@pytest.mark.pictures
def test_one_job_and_no_queries_at_all(trained):
    """nb_jobs 1 goes through merge.py like any other; a database without queries or pairs is evaluated."""
    trained.check("generate_labels.py FastMnistMosaic BARE -b10000 -d700 -p0 -n0 -t0 -m 2 2")
    trained.check("encode.py FastMnistMosaic BARE HashNet -d cpu --job_id 0 --nb_jobs 1 -w valid")
    trained.check("merge.py FastMnistMosaic BARE HashNet --nb_jobs 1 --build_index -w valid")
    output = trained.check("evaluate_binary_equihash.py FastMnistMosaic BARE HashNet -w valid -d cpu")
    row = next(line for line in output.splitlines() if "main, 1 lookup" in line)
    assert row.split()[3:8] == ["-"] * 5
    folder = folder_of(trained, "BARE").with_name("valid_BARE")
    assert trained.json(folder / "results.json")["recall"] is None


def test_evaluate_encodes_first(workspace):
    workspace.check(TRAIN)
    workspace.check("generate_labels.py FastMnistMosaic DB -b10000 -d600 -p50 -n50 -t50 -m 2 2")
    command = "evaluate_binary_equihash.py FastMnistMosaic DB HashNet -d cpu"
    workspace.refuse(command, "encode.py FastMnistMosaic DB HashNet")
    assert "main, 1 lookup" in workspace.check(f"{command} --encode")


@pytest.mark.pictures
def test_a_collapsed_network_is_told(trained):
    trained.check("generate_labels.py FastMnistMosaic SAME -b10000 -d600 -p50 -n50 -t50 -m 2 2")
    trained.check("encode.py FastMnistMosaic SAME HashNet -d cpu")
    with h5py.File(folder_of(trained, "SAME") / "database_fingerprints.hdf5", "r+") as file:
        file["codes"][:] = 3
        file["checksums"][:] = checksums(file["codes"][:], 500)
    trained.check("build_index.py FastMnistMosaic SAME HashNet")
    output = trained.check("evaluate_binary_equihash.py FastMnistMosaic SAME HashNet -d cpu")
    assert "warning: main: collapsed, 100% of the items" in output


def test_index_of_another_memory_limit_is_the_same(encoded, monkeypatch):
    limits = []

    class Recorded(InvertedIndex):
        @classmethod
        def build_from_file(cls, codes, path, memory_limit, **options):
            limits.append(memory_limit)
            InvertedIndex.build_from_file(codes, path, memory_limit // 1000, **options)  # 1M holds all these items

    monkeypatch.setattr("equihash.fingerprints.indexing.InvertedIndex", Recorded)
    path = folder_of(encoded, "DB") / "inverted_index.bin"
    made = []
    index, encode = "build_index.py FastMnistMosaic DB HashNet", "encode.py FastMnistMosaic DB HashNet -d cpu -b"
    for command in (f"{index} --memory_limit 1M --force", f"{index} --force", f"{encode} --memory_limit 2M"):
        encoded.check(command)
        made.append(path.read_bytes())
        path.unlink()
    assert made[0] == made[1] == made[2] and limits == [2**20, 2**33, 2**21]
    path.write_bytes(made[0])


def test_every_script_has_help(workspace):
    scripts = {path.name for path in REPOSITORY.glob("*.py")} - {"setup.py"}
    assert len(scripts) == 11
    for script in scripts:
        assert "usage" in workspace.check(f"{script} --help")
