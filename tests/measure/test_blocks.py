"""Tables that are read from their files in blocks of bounded size."""

from dataclasses import replace

import numpy as np
import pytest

from alloc_jax.measure import TableBlocks, measure, menu, save_table, store
from tests.conftest import made_log


@pytest.fixture(scope="module")
def table():
    return measure(made_log(questions=90), menu(made_log(questions=2)), "tokens")


@pytest.fixture(scope="module")
def file(table, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store, "ROW_GROUP", 20)
        patch.setattr(store, "FEWEST", 1)
        path = tmp_path_factory.mktemp("table") / "table.parquet"
        save_table(table, path)
    return path


def stacked(blocks, name):
    return np.concatenate([getattr(block, name) for block in blocks])


def test_blocks_are_the_table_in_order_and_never_longer_than_asked(table, file):
    for rows in (1000, 20, 7):
        blocks = TableBlocks(file, rows=rows)
        assert np.array_equal(stacked(blocks, "utility"), table.utility)
        assert np.array_equal(stacked(blocks, "cost"), table.cost)
        assert max(len(block.utility) for block in blocks) == min(rows, 20)
        assert len(list(blocks)) == len(blocks) and blocks.questions == len(table)
        assert [np.array_equal(blocks[i].cost, block.cost) for i, block in enumerate(blocks)] == [True] * len(blocks)


@pytest.mark.parametrize("count", [1, 2, 4, 5])
def test_shards_are_the_whole_each_question_once_in_order(table, file, count):
    shards = [TableBlocks(file, rows=7, shard=(i, count)) for i in range(count)]
    assert np.array_equal(np.concatenate([stacked(shard, "utility") for shard in shards]), table.utility)
    assert {shard.table_questions for shard in shards} == {len(table)}
    assert sum(shard.questions for shard in shards) == len(table)


def test_a_small_table_can_be_shared_by_a_few_processes(table, tmp_path):
    save_table(table, tmp_path / "small.parquet")
    shards = [TableBlocks(tmp_path / "small.parquet", shard=(i, 4)) for i in range(4)]
    assert np.array_equal(np.concatenate([stacked(shard, "utility") for shard in shards]), table.utility)


def test_a_table_in_several_files_is_one(table, tmp_path):
    for i in range(3):
        save_table(table.select(np.arange(30 * i, 30 * i + 30)), tmp_path / f"{i}.parquet")
    blocks = TableBlocks([tmp_path / f"{i}.parquet" for i in range(3)])
    assert np.array_equal(stacked(blocks, "cost"), table.cost)


def test_what_may_not_be_taken_is_read_and_else_left_out(table, file, tmp_path):
    assert all(block.valid is None for block in TableBlocks(file))
    valid = np.ones_like(table.valid)
    valid[55, 1] = False
    save_table(replace(table, valid=valid), tmp_path / "masked.parquet")
    assert np.array_equal(stacked(TableBlocks(tmp_path / "masked.parquet"), "valid"), valid)


def test_a_single_resource_may_be_a_list(table, tmp_path):
    save_table(replace(table, cost=table.cost[:, :, None], cost_se=table.cost_se[:, :, None]), tmp_path / "t.parquet")
    assert np.array_equal(stacked(TableBlocks(tmp_path / "t.parquet"), "cost"), table.cost)


def test_several_resources_are_an_axis(tmp_path):
    both = measure(made_log(questions=20), menu(made_log(questions=2)), ("samples", "tokens"))
    save_table(both, tmp_path / "both.parquet")
    blocks = TableBlocks(tmp_path / "both.parquet", rows=7)
    assert np.array_equal(stacked(blocks, "cost"), both.cost) and blocks.resources == ("samples", "tokens")
    one = measure(made_log(questions=20), menu(made_log(questions=2)), "tokens")
    save_table(one, tmp_path / "one.parquet")
    with pytest.raises(ValueError, match=r"2 resources, .*and 1: not parts of one table"):
        TableBlocks([tmp_path / "one.parquet", tmp_path / "both.parquet"])


def test_what_cannot_be_read_in_blocks_says_why(table, file, tmp_path):
    with pytest.raises(FileNotFoundError):
        TableBlocks(tmp_path / "absent.parquet")
    save_table(table, tmp_path / "t.npz")
    with pytest.raises(ValueError, match="not parquet"):
        TableBlocks(tmp_path / "t.npz")
    with pytest.raises(ValueError, match="5 row groups do not make 6 parts"):
        TableBlocks(file, shard=(0, 6))
    with pytest.raises(ValueError, match="rows is at least 1"):
        TableBlocks(file, rows=0)
    fewer = measure(made_log(questions=20), menu(made_log(questions=2))[:2], "tokens")
    save_table(fewer, tmp_path / "fewer.parquet")
    with pytest.raises(ValueError, match="not parts of one table"):
        TableBlocks([file, tmp_path / "fewer.parquet"])


def test_a_file_that_breaks_within_is_named(file, tmp_path):
    content = bytearray(file.read_bytes())
    content[4 : len(content) // 2] = bytes(len(content) // 2 - 4)
    broken = tmp_path / "broken.parquet"
    broken.write_bytes(content)
    with pytest.raises(ValueError, match=r"broken.parquet: row group \d is broken"):
        for _ in TableBlocks(broken):
            pass
