"""TFDS folders of both formats, written here and read without TensorFlow."""

import io
import pathlib
import re
import struct

import numpy as np
import pytest
from PIL import Image

from lswag_jax.data import load_batch, make_batch, open_pool, tfds
from lswag_jax.data import tfds as tfds_reader
from tests.helpers.batches import message, pixels, random_images

pytestmark = pytest.mark.filterwarnings("ignore:.* are constant")


def crc32c(content: bytes) -> int:
    crc = 0xFFFFFFFF
    for byte in content:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def frame(record: bytes) -> bytes:
    """A TFRecord: length, masked checksum of the length, record, masked checksum of the record."""

    def masked(content: bytes) -> bytes:
        crc = crc32c(content)
        return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)

    length = struct.pack("<Q", len(record))
    return length + masked(length) + record + masked(record)


def test_crc32c():
    assert crc32c(b"123456789") == 0xE3069283  # The published check value.


def png(image: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image.squeeze()).save(buffer, format="PNG")
    return buffer.getvalue()


def write_tfds(
    folder, file_format, splits, *, name="toy", shape=(8, 8, 3), per_shard=10, objects=None
):
    """Writes a TFDS folder by TFDS's own serialiser, without TensorFlow."""
    import tensorflow_datasets as tfds
    from array_record.python import array_record_module

    folder.mkdir(parents=True)
    key = "objects" if objects else "label"
    classes = tfds.features.ClassLabel(names=["ant", "bee", "cow", "dog"])
    features = tfds.features.FeaturesDict(
        {
            "id": tfds.features.Text(),
            "image": tfds.features.Image(shape=shape),
            key: objects or classes,
            "boxes": tfds.features.Sequence({"mask": tfds.features.Image(shape=(2, 2, 1))}),
            "score": np.float32,
        }
    )
    identity = tfds.core.dataset_info.DatasetIdentity(
        name=name, version=tfds.core.Version(folder.name), data_dir=folder, module_name="toy"
    )
    info = tfds.core.DatasetInfo(builder=identity, features=features)
    info.set_file_format(file_format)
    infos = []
    for split, (images, labels) in splits.items():
        template = tfds.core.ShardedFileTemplate(
            dataset_name=name, data_dir=folder, split=split, filetype_suffix=file_format
        )
        records = [
            features.serialize_example(
                {
                    "id": f"{i}",
                    "image": png(image),
                    key: label,
                    "boxes": {"mask": []},
                    "score": 0.5,
                }
            )
            for i, (image, label) in enumerate(zip(images, labels, strict=True))
        ]
        shards = [records[i : i + per_shard] for i in range(0, len(records), per_shard)]
        for i, shard in enumerate(shards):
            path = str(template.sharded_filepath(shard_index=i, num_shards=len(shards)))
            if file_format == "tfrecord":
                pathlib.Path(path).write_bytes(b"".join(frame(record) for record in shard))
            else:
                writer = array_record_module.ArrayRecordWriter(path, "group_size:1")
                for record in shard:
                    writer.write(record)
                writer.close()
        infos.append(
            tfds.core.SplitInfo(
                name=split,
                shard_lengths=[len(shard) for shard in shards],
                num_bytes=sum(map(len, records)),
                filename_template=template,
            )
        )
    info.set_splits(tfds.core.SplitDict(infos))
    info.write_to_directory(folder)


formats = pytest.mark.parametrize("file_format", ["array_record", "tfrecord"])


@formats
@pytest.mark.parametrize("channels", [1, 3])
def test_tfds(tmp_path, rng, file_format, channels):
    images, labels = random_images(rng, channels=channels)
    write_tfds(
        tmp_path / "toy" / "1.0.0",
        file_format,
        {"train": (images, labels), "test": (images[:4], labels[:4])},
        shape=(None, None, channels),
    )
    batch = load_batch("tfds:toy", None, normalize="unit", data_dir=tmp_path)
    np.testing.assert_array_equal(pixels(batch), images)
    np.testing.assert_array_equal(batch.labels, labels)
    assert batch.num_classes == 4
    options = {"normalize": "unit", "data_dir": tmp_path}
    # The draw is that of the same images in memory.
    batch = load_batch("tfds:toy:1.0.0", 10, seed=5, **options)
    same = make_batch(images, labels, 10, seed=5, normalize="unit")
    np.testing.assert_array_equal(batch.images, same.images)
    np.testing.assert_array_equal(batch.labels, same.labels)
    batch = load_batch("tfds:toy", 4, split="test", **options)
    assert sorted(batch.labels.tolist()) == [0, 1, 2, 3]
    # A slice that begins and ends inside of shards.
    batch = load_batch("tfds:toy", None, split="train[5:22]", **options)
    np.testing.assert_array_equal(pixels(batch), images[5:22])
    np.testing.assert_array_equal(batch.labels, labels[5:22])


@formats
def test_tfds_decodes_only_what_is_drawn(tmp_path, rng, file_format, monkeypatch):
    write_tfds(tmp_path / "toy" / "1.0.0", file_format, {"train": random_images(rng)})
    decoded = []
    decode = tfds.decode_image
    monkeypatch.setattr(tfds, "decode_image", lambda *a: decoded.append(a) or decode(*a))
    load_batch("tfds:toy", 4, data_dir=tmp_path)
    assert len(decoded) == 4


@pytest.mark.parametrize("encoding", ["grey", "cmyk", "palette"])
def test_tfds_images_unlike_their_feature(tmp_path, encoding, monkeypatch):
    """ImageNet's three-channel feature holds grey and CMYK files."""
    image = Image.new("RGB", (8, 8), (204, 204, 204))
    buffer = io.BytesIO()
    mode, kind = {"grey": ("L", "JPEG"), "cmyk": ("CMYK", "JPEG"), "palette": ("P", "PNG")}[
        encoding
    ]
    image.convert(mode).save(buffer, format=kind)
    monkeypatch.setitem(globals(), "png", lambda _: buffer.getvalue())
    splits = {"train": (np.zeros([1, 8, 8, 3]), [0])}
    write_tfds(tmp_path / "toy" / "1.0.0", "array_record", splits, shape=(None, None, 3))
    batch = load_batch("tfds:toy", None, normalize="unit", data_dir=tmp_path)
    assert batch.images.shape == (1, 8, 8, 3)
    np.testing.assert_allclose(batch.images, 204 / 255, atol=0.01)


def test_tfds_versions_and_configs(tmp_path, rng):
    images, labels = random_images(rng, n=4)
    splits = {"train": (images, labels)}
    for version in ("2.0.0", "10.0.0"):
        write_tfds(tmp_path / "toy" / version, "tfrecord", splits)
    (tmp_path / "toy" / "incomplete.0.1").mkdir()
    assert tfds_reader.find_folder("toy", tmp_path).name == "10.0.0"
    assert tfds_reader.find_folder("toy:2.0.0", tmp_path).name == "2.0.0"
    assert tfds_reader.find_folder("toy:3.0.0", tmp_path) is None
    write_tfds(tmp_path / "with" / "small" / "1.0.0", "tfrecord", splits, name="with")
    assert load_batch("tfds:with", 4, data_dir=tmp_path).num_classes == 4
    write_tfds(tmp_path / "with" / "large" / "1.0.0", "tfrecord", splits, name="with")
    assert load_batch("tfds:with/small:1.0.0", 4, data_dir=tmp_path).num_classes == 4
    with pytest.raises(ValueError, match=r"one of the configs \['large', 'small'\]"):
        load_batch("tfds:with", 4, data_dir=tmp_path)


def test_tfds_data_dir_from_the_environment(tmp_path, rng, monkeypatch):
    write_tfds(tmp_path / "toy" / "1.0.0", "tfrecord", {"train": random_images(rng)})
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    assert len(load_batch("tfds:toy", 4).labels) == 4


def test_tfds_folder_of_old(tmp_path, rng):
    """Early versions of TFDS did not write down the format."""
    folder = tmp_path / "toy" / "1.0.0"
    write_tfds(folder, "tfrecord", {"train": random_images(rng)})
    path = folder / "dataset_info.json"
    text = path.read_text()
    assert '"fileFormat": "tfrecord",' in text
    path.write_text(text.replace('"fileFormat": "tfrecord",', ""))
    assert len(load_batch("tfds:toy", 4, data_dir=tmp_path).labels) == 4
    path.write_text(text.replace('"fileFormat": "tfrecord"', '"fileFormat": "riegeli"'))
    with pytest.raises(ValueError, match="format 'riegeli', not one of") as error:
        load_batch("tfds:toy", 4, data_dir=tmp_path)
    message(error)


def test_tfds_missing(tmp_path):
    with pytest.raises(ValueError, match=re.escape(str(tmp_path))) as error:
        load_batch("tfds:cifar10", data_dir=tmp_path)
    assert "config.data.download" in message(error)
    assert not list(tmp_path.iterdir())
    with pytest.raises(ValueError, match="malformed TFDS name") as error:
        load_batch("tfds:cifar10/", data_dir=tmp_path)
    message(error)


def test_tfds_download(tmp_path, rng, monkeypatch):
    if tfds_reader.find_spec("tensorflow") is None:
        with pytest.raises(ImportError, match=r"lswag_jax\[tf\]") as error:
            load_batch("tfds:toy", data_dir=tmp_path, download=True)
        message(error)
        monkeypatch.setattr(tfds_reader, "find_spec", lambda name: object())
    import tensorflow_datasets as tfds

    with pytest.raises(ValueError, match="knows no data set") as error:
        load_batch("tfds:no_such_set", data_dir=tmp_path, download=True)
    message(error)
    images, labels = random_images(rng)

    class PreparedHere(tfds.core.GeneratorBasedBuilder):
        """Writes encoded images, which needs no TensorFlow."""

        VERSION = tfds.core.Version("1.0.0")

        def _info(self):
            features = {
                "image": tfds.features.Image(shape=(8, 8, 3)),
                "label": tfds.features.ClassLabel(num_classes=4),
            }
            return tfds.core.DatasetInfo(
                builder=self, features=tfds.features.FeaturesDict(features)
            )

        def _split_generators(self, dl_manager):
            return {"train": self._generate_examples()}

        def _generate_examples(self):
            for i, (image, label) in enumerate(zip(images, labels, strict=True)):
                yield i, {"image": png(image), "label": label}

    batch = load_batch(
        "tfds:prepared_here", None, data_dir=tmp_path, download=True, normalize="unit"
    )
    known = {image.tobytes(): label for image, label in zip(images, labels, strict=True)}
    assert [known[image.tobytes()] for image in pixels(batch)] == batch.labels.tolist()


@formats
def test_tfds_errors(tmp_path, rng, file_format):
    images, labels = random_images(rng)
    folder = tmp_path / "toy" / "1.0.0"
    write_tfds(folder, file_format, {"train": (images, labels), "test": (images, labels)})
    for split in ("validation", "validation[:3]", "train[", ""):
        with pytest.raises(ValueError, match=r"\['test', 'train'\]") as error:
            load_batch("tfds:toy", split=split, data_dir=tmp_path)
        message(error)
    with pytest.raises(ValueError, match=r"no feature 'fine' .*'label'") as error:
        load_batch("tfds:toy", label_key="fine", data_dir=tmp_path)
    message(error)
    with pytest.raises(ValueError, match=r"'score' .* is not a class") as error:
        load_batch("tfds:toy", label_key="score", data_dir=tmp_path)
    message(error)
    split = "+".join(f"train[{i}:{i + 1}]" for i in (0, 4, 8, 12, 16, 1, 2, 3))
    with pytest.raises(ValueError, match=r"class 1 \('bee'\) .* 1 image ") as error:
        load_batch("tfds:toy", 8, split=split, data_dir=tmp_path)
    message(error)
    next(folder.glob("toy-train*")).unlink()
    with pytest.raises(FileNotFoundError, match="lacks its file") as error:
        load_batch("tfds:toy", data_dir=tmp_path)
    message(error)


def test_boxes_of_tfds(tmp_path, rng):
    """Objects as COCO has them; crowds and empty boxes are left out."""
    import tensorflow_datasets as tfds

    objects = {
        "area": np.int64,
        "bbox": tfds.features.BBoxFeature(),
        "is_crowd": np.bool_,
        "label": tfds.features.ClassLabel(names=["ant", "bee", "cow"]),
    }
    corners = [(0.1, 0.2, 0.5, 0.9), (0.0, 0.0, 1.0, 1.0), (0.3, 0.3, 0.3, 0.8)]
    boxes = [tfds.features.BBox(*each) for each in corners]
    values = {"area": [1, 2, 3], "bbox": boxes, "is_crowd": [False, True, False]}
    nothing = {key: [] for key in objects}
    images, _ = random_images(rng, n=2)
    write_tfds(
        tmp_path / "toy" / "1.0.0",
        "array_record",
        {"train": (images, [values | {"label": [2, 0, 1]}, nothing])},
        objects=tfds.features.Sequence(objects),
    )
    pool = open_pool("tfds:toy", label_key="objects", data_dir=tmp_path)
    np.testing.assert_allclose(pool.label(0), [[2, *corners[0]]], rtol=1e-6)
    assert pool.label(1).shape == (0, 5)
    assert (pool.num_classes, pool.classes[2]) == (3, "cow")
    np.testing.assert_array_equal(pool.image(1), images[1])
    with pytest.raises(ValueError, match="are boxes, not classes") as error:
        load_batch("tfds:toy", 2, label_key="objects", data_dir=tmp_path)
    message(error)


DAMAGED = {  # what is left of a file whose first record has so many bytes
    "cut": (lambda whole, _: whole[:-7], "is truncated or not a TFRecord"),
    "text": (lambda whole, _: b"text", "is truncated or not a TFRecord"),
    "one less": (lambda whole, record: whole[record:], "holds 23 records, not 24"),
    "not a record": (
        lambda whole, record: whole[:12] + b"\xff" * (record - 16) + whole[record - 4 :],
        "cannot decode record 0",
    ),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_damaged_tfrecord(name, tmp_path, rng):
    damage, words = DAMAGED[name]
    folder = tmp_path / "toy" / "1.0.0"
    write_tfds(folder, "tfrecord", {"train": random_images(rng)}, per_shard=100)
    path = next(folder.glob("toy-train*"))
    whole = path.read_bytes()
    record = struct.unpack("<Q", whole[:8])[0] + 16
    path.write_bytes(damage(whole, record))
    with pytest.raises(ValueError, match=words) as error:
        load_batch("tfds:toy", None, data_dir=tmp_path)
    message(error)


def test_a_list_of_classes_is_no_class(tmp_path, rng):
    """Sequence passes on the attributes of what it holds."""
    import tensorflow_datasets as tfds

    images, labels = random_images(rng)
    folder = tmp_path / "toy" / "1.0.0"
    write_tfds(folder, "tfrecord", {"train": (images, labels)})
    features = tfds.features.FeaturesDict(
        {
            "image": tfds.features.Image(shape=(8, 8, 3)),
            "label": tfds.features.Sequence(tfds.features.ClassLabel(num_classes=4)),
        }
    )
    features.save_config(folder)
    with pytest.raises(ValueError, match=r"feature 'label' of .* is not a class: Sequence"):
        load_batch("tfds:toy", data_dir=tmp_path)
