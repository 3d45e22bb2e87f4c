import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from optimizers.placement.backend_costs import cost_named
from optimizers.placement.cluster import load_cluster
from optimizers.placement.clusters import cluster_folder, find_cluster, known_clusters
from optimizers.placement.errors import PlacementError
from optimizers.placement.exchange import all_reduce, capacities, through_server
from optimizers.placement.seats import seat
from optimizers.placement.this_machine import this_machine

EXAMPLES = sorted(cluster_folder().glob("*.yaml"))
TEXT = """
hosts:
  box: {count: 3, cores: 4, workers: 2, memory_bytes: 1e9, inside: shm, outside: net}
links:
  shm: {kind: shared-memory, alpha_seconds: 1e-5, bytes_per_second: 5e9, processor_share: 1.0, source: "measured: here"}
  net: {kind: network, alpha_seconds: 5e-5, bytes_per_second: 1.25e9, source: "published: IEEE"}
"""


def written(tmp_path, text):
    path = tmp_path / "box.yaml"
    path.write_text(text)
    return path


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_every_example_is_a_cluster_with_the_source_of_each_link(path):
    found = load_cluster(path)
    assert found.workers > 1 and all(link.source.startswith(("measured:", "published:")) for link in found.links)
    assert found.grown(1024).workers >= 1024 and found.grown(1) is found


def test_a_cluster_is_read_with_numbers_as_people_write_them(tmp_path):
    found = load_cluster(written(tmp_path, TEXT))
    assert (found.name, found.workers, found.hosts[0].memory_bytes) == ("box", 6, 10**9)
    assert found.hosts[0].inside.alpha_seconds == 1e-5 and found.hosts[0].outside.kind == "network"


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        ("count: 3", "count: 0", "hosts.box.count is 0; write a whole number from 1"),
        ("count: 3", "count: many", "hosts.box.count is 'many'"),
        ("inside: shm", "inside: ether", "hosts.box.inside is 'ether'; name one of the links: shm, net"),
        ("kind: network", "kind: string", "links.net.kind is 'string'; choose one of"),
        ("alpha_seconds: 5e-5", "alpha_seconds: -1", "links.net.alpha_seconds is -1; write a number from 0 to 10"),
        ("bytes_per_second: 5e9", "bytes_per_second: .inf", "links.shm.bytes_per_second is inf"),
        (', source: "published: IEEE"', "", "links.net.source is missing; write a text"),
        ("cores: 4", "cores: 4, color: red", "hosts.box.color is 'red'; no such key"),
        ("workers: 2", "gpus: 2, workers: 3", "hosts.box.workers is 3; a host with 2 GPUs"),
        ("memory_bytes: 1e9, ", "", "hosts.box.memory_bytes is missing"),
        (TEXT, "", "the file is None; write a mapping"),
        (TEXT, "hosts: []\nlinks: {}", "hosts is []; write a mapping"),
        (TEXT, "hosts: {}\nlinks: {}", "describe at least one host"),
        (TEXT, "a: [", "box.yaml line"),
        (TEXT, "!!python/object/apply:os.system [ls]", "this is no YAML"),
        (TEXT, "x: " + "[" * 5000, "this is no YAML"),
    ],
)
def test_a_mistake_is_told_in_one_line_with_file_key_value_and_what_to_do(tmp_path, before, after, words):
    assert before in TEXT
    with pytest.raises(PlacementError) as error:
        load_cluster(written(tmp_path, TEXT.replace(before, after)))
    text = str(error.value)
    assert words in text and "box.yaml" in text and "\n" not in text and len(text) < 300


def test_a_file_that_cannot_be_read_is_told(tmp_path):
    with pytest.raises(PlacementError, match="cannot read cluster"):
        load_cluster(tmp_path / "none.yaml")
    (tmp_path / "bad.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(PlacementError):
        load_cluster(tmp_path / "bad.yaml")


def test_clusters_have_names_and_a_path_needs_no_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # wherever one stands
    assert known_clusters() == ("this machine", *(path.stem for path in EXAMPLES)) and len(EXAMPLES) > 2
    name = EXAMPLES[0].stem
    assert find_cluster(name, 2) == find_cluster(f"{name}.yaml", 2) == load_cluster(EXAMPLES[0])
    with pytest.raises(PlacementError, match=f"cannot read cluster '{tmp_path}/none.yaml'"):
        find_cluster("none.yaml", 2)
    path = written(tmp_path, TEXT)
    assert find_cluster(str(path), 2).name == "box"
    monkeypatch.setenv("HOTBENCH_CLUSTERS", str(tmp_path))
    assert known_clusters() == ("this machine", "box") and find_cluster("box", 2).workers == 6
    assert find_cluster("", 5).workers == 5
    for name in ("../box", "h100-hosts", "/etc/passwd"):
        with pytest.raises(PlacementError, match="no cluster"):
            find_cluster(name, 2)
    monkeypatch.setenv("HOTBENCH_CLUSTERS", str(tmp_path / "gone"))
    assert known_clusters() == ("this machine",)


def test_ranks_are_packed_or_dealt_out_and_the_ring_crosses_accordingly(tmp_path):
    cluster = load_cluster(written(tmp_path, TEXT))
    packed, spread = seat(cluster, 5), seat(cluster, 5, "spread")
    assert packed.hosts_of_ranks == (0, 0, 1, 1, 2) and spread.hosts_of_ranks == (0, 1, 2, 0, 1)
    assert sum(item.hosts * item.workers for item in packed.seats) == 5
    assert sum(item.hosts * item.crossing for item in packed.seats) == 3
    assert sum(item.hosts * item.crossing for item in spread.seats) == 5
    assert seat(this_machine(3), 3).seats[0].crossing == 0
    for world, order, words in (
        (7, "packed", "choose 1 to 6"),
        (0, "packed", "choose 1 to 6"),
        (2, "odd", "not known"),
    ):
        with pytest.raises(PlacementError, match=words):
            seat(cluster, world, order)


@given(
    st.integers(2, 6), st.floats(1.0, 1e9), st.sampled_from(["hotbench", "gloo"]), st.sampled_from(["packed", "spread"])
)
@settings(max_examples=30, deadline=None)
def test_an_all_reduce_moves_what_the_ring_moves_and_never_more_than_its_links_carry(world, size, backend, order):
    cluster = load_cluster(EXAMPLES[-1])
    seating, cost = seat(cluster, world, order), cost_named(backend)
    found = all_reduce(size, seating, cost)
    room = capacities(seating)
    assert all(units <= room[name] * (1 + 1e-9) or "cores" in name for name, units in found.uses)
    least = 2 * (world - 1) / world * size / max(link.bytes_per_second for link in cluster.links)
    assert found.seconds >= least * (1 - 1e-9)
    double = all_reduce(2 * size, seating, cost)
    assert found.alone_seconds <= double.alone_seconds <= 2 * found.alone_seconds * (1 + 1e-9)


def test_two_ranks_on_one_link_take_what_alpha_and_beta_say():
    found = all_reduce(11e6, seat(this_machine(2), 2), cost_named("gloo"))
    assert found.latency_seconds == pytest.approx(2 * (8e-6 + 1.6e-4))
    assert found.seconds == pytest.approx(2 * (1 / 2) * 11e6 / 3.2e9)


def test_a_server_serves_one_worker_after_the_other():
    cost = cost_named("grpc")
    two, four = (through_server(1e6, 5, seat(this_machine(8), world), cost) for world in (2, 4))
    assert four.seconds == pytest.approx(3 * two.seconds) and four.latency_seconds > 2 * two.latency_seconds
